//! The token file: the secret that a client must send.
//!
//! A user that may read the file knows the token, so other users may not read it. A group may if the file's owner is
//! root, or if the file is on a file system that is mounted read-only. Orchestrators pass secrets like that (mode
//! 0440), and the process that reads one could not change its mode. Only the owner may write. A pipe works as well,
//! such as the shell makes for `<(command)`.

use crate::os::timeout::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::fs::{FileType, Mode, OFlags, Stat, StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

use super::wire::LINE_MAX;
use crate::os::error::reason;
use crate::os::escape::shown;

/// A shorter token could be guessed.
const LEAST: usize = 16;
/// A longer token does not fit a line: `a TOKEN`, CR, LF.
const MOST: usize = LINE_MAX - 4;
/// The most bytes of a token file.
const LARGEST: usize = 4096;
/// How long a pipe may take to deliver a token, because its writer may ask a person for a password.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no token.
#[derive(Debug, Error)]
#[error("{} {why}", shown(path))]
pub struct TokenError {
    path: PathBuf,
    why: String,
}

/// Reads a token, without a line end after it.
///
/// # Blocking
/// For a pipe, until its writers have closed it, at most a minute.
///
/// # Errors
/// Other users can read the file, too, or it does not hold a valid token.
pub fn read(path: &Path) -> Result<Vec<u8>, TokenError> {
    let wrong = |why: String| TokenError { path: path.to_owned(), why };
    let system = |error: Errno| wrong(format!("cannot be read: {}", reason(error)));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(system)?;
    let stat = rustix::fs::fstat(&file).map_err(system)?;
    let is_pipe = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => false,
        FileType::Fifo => true,
        _ => return Err(wrong("is not a regular file or a pipe".into())),
    };
    let read_only = || fstatvfs(&file).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    if let Some(why) = is_open_to_others(&stat, read_only) {
        return Err(wrong(why));
    }
    let mut token = Vec::new();
    let until = Instant::now() + TIMEOUT;
    while token.len() < LARGEST {
        if is_pipe && !is_readable(&file, until).map_err(system)? {
            return Err(wrong(format!("brought no token within {} s", TIMEOUT.as_secs())));
        }
        let mut bytes = [0; LARGEST];
        match rustix::io::read(&file, &mut bytes) {
            Ok(0) => break,
            Ok(count) => token.extend_from_slice(&bytes[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(system(error)),
        }
    }
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

/// Waits until a pipe has data, or its last writer has closed it. Returns `false` after `until`.
fn is_readable(pipe: impl AsFd, until: Instant) -> Result<bool, Errno> {
    let left = until.saturating_duration_since(Instant::now());
    match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timespec(left))) {
        Err(Errno::INTR) => Ok(true), // check again
        other => other.map(|count| count > 0),
    }
}

/// Returns why a file with these rights does not keep a secret, and what helps.
fn is_open_to_others(stat: &Stat, read_only: impl Fn() -> bool) -> Option<String> {
    let who = match stat.st_mode & 0o066 {
        mode if mode & 0o006 != 0 => "other users",
        mode if mode & 0o020 != 0 => "its group",
        mode if mode & 0o040 != 0 && stat.st_uid != 0 && !read_only() => "its group",
        _ => return None,
    };
    let help = match read_only() {
        true => "mount it with mode 0400, or 0440 for a group",
        false => "'chmod 600' makes it private",
    };
    Some(format!("is open to {who}; {help}"))
}
