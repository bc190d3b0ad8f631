//! What the tests of the C interface share.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where cargo puts the static library: beside the tests, or one above.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("our own path");
    let found = test.ancestors().skip(1).take(2).find(|directory| directory.join("libwhorl_c.a").exists());
    found.unwrap_or_else(|| panic!("libwhorl_c.a was not built beside {}", test.display())).to_owned()
}

/// Installs header, libraries and pkg-config file below `home`, and returns where.
pub fn installed(home: &Path) -> PathBuf {
    let prefix = home.join("prefix");
    let mut install = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/c"));
    run(install.arg(&prefix).env("WHORL_LIBRARIES", library()).env_remove("DESTDIR"));
    prefix
}

/// The name by which programs that were built with the shared library ask the loader for it.
#[allow(dead_code, reason = "each test uses a part of this")]
pub const SONAME: &str = "libwhorl_c.so.0";

/// Whether a program can be called.
pub fn is_there(program: &str) -> bool {
    let tried = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// Runs a command that is to succeed without a complaint, and returns what it prints.
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{:?}\n{out}{err}", output.status);
    out.into_owned()
}

/// A directory of our own, the runtime directory of everything below.
pub fn home() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o700)).expect("ours");
    home
}
