//! The command `shell` under the project's own name.
//!
//! It runs the program `shell` from its own directory, so that `cargo install` gives both names without building the command
//! twice. Packages install a link instead.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().map(PathBuf::from).unwrap_or_default();
    // Without /proc the path by which it was called is the best there is.
    let shell = std::env::current_exe().unwrap_or_else(|_| called.clone()).with_file_name("shell");
    let error = Command::new(&shell).arg0(&called).args(words).exec();
    let text = format!("whorl: cannot run {shell:?}: {error}; install both programs in one directory\n");
    let _ = std::io::stderr().write_all(text.as_bytes()); // nothing else can be done
    ExitCode::FAILURE
}
