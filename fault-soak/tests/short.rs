//! A short soak ends without an error, and a soak that cannot begin prints why.

use std::path::Path;
use std::process::Command;

const SOAK: &str = env!("CARGO_BIN_EXE_fault-soak");

#[test]
fn a_soak_of_five_seconds_ends_without_an_error() {
    let shell = Path::new(SOAK).with_file_name("shell");
    if !shell.exists() {
        return eprintln!("SKIPPED: a short soak: {} was not built", shell.display());
    }
    let ended = Command::new(SOAK).args(["--for", "5s", "--shell"]).arg(shell).output().expect("it starts");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.starts_with("well: "), "{ended:?}");
    assert_eq!(said.lines().count(), 1, "the result is not one line: {said}");
    let kills = said.split(", ").find_map(|part| part.strip_suffix(" kills")?.parse::<u64>().ok());
    assert!(kills.is_some_and(|kills| kills > 0), "no process was killed: {said}");
}

#[test]
fn a_soak_that_cannot_begin_prints_why() {
    let ended = Command::new(SOAK).args(["--shell", "/nonexistent/shell"]).output().expect("it starts");
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("/nonexistent/shell"), "{ended:?}");
    let ended = Command::new(SOAK).args(["--for", "some time"]).output().expect("it starts");
    assert_eq!(ended.status.code(), Some(2));
}
