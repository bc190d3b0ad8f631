//! The token file: what a client must know.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io::Read;
use std::path::{Path, PathBuf};
use thiserror::Error;

use super::wire::LINE_MAX;
use crate::{reason, shown};

/// A shorter token could be guessed.
const LEAST: usize = 16;
/// A longer one does not fit a line: `a TOKEN`, CR, LF.
const MOST: usize = LINE_MAX - 4;

/// Why there is no token.
#[derive(Debug, Error)]
#[error("{} {why}", shown(path))]
pub struct TokenError {
    path: PathBuf,
    why: String,
}

/// Reads a token. A line end after it does not count.
///
/// # Errors
/// Others can read the file too, or what it holds cannot be sent as a token.
pub fn read(path: &Path) -> Result<Vec<u8>, TokenError> {
    let wrong = |why: String| TokenError { path: path.to_owned(), why };
    let system = |error: Errno| wrong(format!("cannot be read: {}", reason(error)));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(system)?;
    let stat = rustix::fs::fstat(&file).map_err(system)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(wrong("is not a regular file".into()));
    }
    if stat.st_mode & 0o077 != 0 {
        return Err(wrong("can be read by others; 'chmod 600' makes it private".into()));
    }
    let mut token = Vec::new();
    let read = std::fs::File::from(file).take(4096).read_to_end(&mut token);
    read.map_err(|error| system(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    if token.ends_with(b"\n") {
        token.pop();
        if token.ends_with(b"\r") {
            token.pop();
        }
    }
    if !(LEAST..=MOST).contains(&token.len()) {
        return Err(wrong(format!("holds {} bytes; a token has from {LEAST} to {MOST}", token.len())));
    }
    if token.iter().any(|byte| matches!(byte, b' ' | b'\n' | b'\r')) {
        return Err(wrong("holds a space or a second line; a token is one word".into()));
    }
    Ok(token)
}
