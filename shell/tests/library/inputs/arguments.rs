//! Command lines: words between NUL bytes. The first word is the name that the program was called by.

use crate::cli::{Cli, arguments, one_line};
use clap::Parser;
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// A command line is accepted, or refused in one line that a terminal can show.
pub fn run(input: &[u8]) -> bool {
    let words = input.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    match Cli::try_parse_from(arguments(words)) {
        Ok(cli) => {
            assert!(!format!("{cli:?}").is_empty());
            true
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            assert!(!error.to_string().is_empty());
            true
        }
        Err(error) => {
            let line = one_line(&error);
            assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?}");
            false
        }
    }
}
