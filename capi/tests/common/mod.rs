//! What the tests of the C interface share.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The static library. Cargo puts it beside the tests, or one above, and may add a number to its name. The newest file is as
/// new as the source, because cargo has just built what these tests need.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("our own path");
    let entries =
        test.ancestors().skip(1).take(2).flat_map(|directory| std::fs::read_dir(directory).expect("it"));
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libwhorl_c") && name.ends_with(".a")
    };
    let libraries = entries.map(|entry| entry.expect("an entry").path()).filter(is_library);
    let newest = libraries.max_by_key(|path| path.metadata().and_then(|file| file.modified()).ok());
    newest.unwrap_or_else(|| panic!("libwhorl_c.a was not built beside {}", test.display()))
}

/// Installs header, libraries and pkg-config file below `home`, and returns where.
pub fn installed(home: &Path) -> PathBuf {
    let (prefix, built) = (home.join("prefix"), home.join("built"));
    std::fs::create_dir(&built).expect("a directory");
    std::os::unix::fs::symlink(library(), built.join("libwhorl_c.a")).expect("a link");
    let mut install = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/c"));
    run(install.arg(&prefix).env("WHORL_LIBRARIES", built).env_remove("DESTDIR"));
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
