//! `whorl`, the command under the project's own name.

use std::process::Command;

#[test]
fn whorl_is_shell_under_another_name_and_says_so_where_it_stands_alone() {
    let whorl = env!("CARGO_BIN_EXE_whorl");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let version = Command::new(whorl).arg("--version").output().unwrap();
    assert_eq!(
        (version.status.code(), text(&version.stdout)),
        (Some(0), concat!("shell ", env!("CARGO_PKG_VERSION"), "\n").to_owned())
    );
    let help = Command::new(whorl).arg("--help").output().unwrap();
    assert!(text(&help.stdout).contains("Usage: whorl "), "{}", text(&help.stdout));
    let wrong = Command::new(whorl).arg("no-such-command").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "the exit code of `shell`");
    let directory = tempfile::tempdir().unwrap();
    let alone = directory.path().join("whorl");
    std::fs::copy(whorl, &alone).unwrap();
    let alone = Command::new(&alone).arg("ls").output().unwrap();
    assert_eq!(alone.status.code(), Some(1));
    assert!(text(&alone.stderr).ends_with("install both programs in one directory\n"), "{alone:?}");
}
