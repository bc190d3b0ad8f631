//! Information files: what a server tells about itself in a directory.
//!
//! ```text
//! NAME.server, mode 01600:  127.0.0.1        the address
//!                           40123            the port
//!                           NAME             the channel's name
//!                           00000a1b5c3d9e0f its id
//!                           key=value        further lines, which nobody has to know
//! ```
//!
//! The server holds a lock on its file for as long as it lives; the kernel drops it when it dies. The file is complete and
//! locked before it gets its name, so a file whose lock is free is a leftover, whatever it says. It is removed only by
//! who holds its lock, after a look whether the name still leads to it.

use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::file::{FileId, OpenError, make_private, open_regular, path_of, remove_if};
use crate::os::new_file::{Existing, NewFile, fill, part_name, token};
use crate::registry::{DirectoryLock, Name};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// What such a file is called, after its server's name.
pub(super) const ENDING: &str = ".server";
/// No honest file is longer.
const LONGEST: usize = 4096;

/// What an information file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Information {
    /// Where the server listens.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its channel.
    pub channel: Name,
    /// What tells that channel from others of the same name.
    pub id: u64,
}

/// What is wrong with an information file.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FileError {
    /// Its server is dead.
    #[error("stale: its server is dead")]
    Stale,
    /// It is no regular file of ours.
    #[error("it exists and is not a regular file owned by you; remove it and try again")]
    Foreign,
    /// It does not say what it should.
    #[error("broken: {0}")]
    Broken(&'static str),
    /// A live server has it.
    #[error("in use by another server")]
    InUse,
    /// A system call failed.
    #[error("{}", crate::os::error::reason(*.0))]
    System(Errno),
}

impl From<Errno> for FileError {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

impl From<OpenError> for FileError {
    fn from(refused: OpenError) -> Self {
        match refused {
            OpenError::NotOwned => Self::Foreign,
            OpenError::System(error) => Self::System(error),
        }
    }
}

impl Information {
    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n{:016x}\n", self.address, self.port, self.channel, self.id);
        let _ = writeln!(text, "pid={}", std::process::id());
        text
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`FileError::Broken`].
    pub fn parse(text: &[u8]) -> Result<Self, FileError> {
        let broken = FileError::Broken;
        let text = std::str::from_utf8(text).map_err(|_| broken("it is no text"))?;
        let mut lines = text.split_inclusive('\n').map(|line| line.strip_suffix('\n'));
        let mut next = || lines.next().flatten().ok_or(broken("it is cut off"));
        let address = next()?.parse().map_err(|_| broken("its first line is no address"))?;
        let port =
            next()?.parse().ok().filter(|port| *port != 0).ok_or(broken("its second line is no port"))?;
        let channel = next()?.parse().map_err(|_| broken("its third line is no name"))?;
        let id = next()?;
        let digits = id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
        let id = digits.then(|| u64::from_str_radix(id, 16).ok()).flatten();
        let id = id.ok_or(broken("its fourth line is no id"))?;
        for line in lines {
            let line = line.ok_or(broken("it is cut off"))?;
            if !line.is_empty() && !line.contains('=') {
                return Err(broken("a further line is no key=value"));
            }
        }
        Ok(Self { address, port, channel, id })
    }

    /// Reads the file of a live server.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let (file, _) = open_regular(CWD, path, OFlags::RDONLY)?;
        let mut text = vec![0; LONGEST + 1];
        let mut length = 0;
        while length < text.len() {
            match rustix::io::read(&file, &mut text[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if length > LONGEST {
            return Err(FileError::Broken("it is too long"));
        }
        // Shared: those who only look are not in each other's way.
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return Err(FileError::Stale);
        }
        Self::parse(&text[..length])
    }
}

/// A server's own file, with its lock. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct InfoFile {
    path: PathBuf,
    information: Information,
    directory: OwnedFd,
    file: CloseOnForkFd,
    name: String,
}

/// How often a stale file is tried for, which somebody else looks at or replaces just now.
const TRIES: u32 = 100;

impl InfoFile {
    /// Makes the file, complete and locked, and then gives it its name.
    pub fn make(directory: &Path, name: &Name, information: &Information) -> Result<Self, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = rustix::fs::open(directory, flags, Mode::empty())?;
        let name = format!("{name}{ENDING}");
        let file = {
            let mut new = None;
            let file = CloseOnForkFd::open(|| {
                let mode = Mode::RUSR | Mode::WUSR;
                let (unpublished, file) = NewFile::create(above.as_fd(), part_name(&token()), mode)?;
                new = Some(unpublished);
                Ok::<_, Errno>(file)
            })?;
            // Whatever the umask. FAT and the like refuse it: there all files have the mode that the mount gives them.
            let _ = make_private(&file);
            fill(&file, information.text().as_bytes())?;
            // Locked through a description of its own: to hear of a full disk, the one above was duplicated for a moment, and
            // a child that was forked just then would share its lock.
            let anew =
                || rustix::fs::open(path_of(file.as_fd()), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
            let file = CloseOnForkFd::open(anew)?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            if let Some(mut new) = new {
                publish(&mut new, &above, &file, &name)?;
            }
            file
        };
        // The directory may be a relative path, and the process may go elsewhere.
        let path = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Ok(Self { path, information: information.clone(), directory: above, file, name })
    }

    /// Makes the file anew if somebody has removed it: one that cleans up, for instance. It is not made where another
    /// server has taken its place, or where the directory is gone.
    pub fn keep(&mut self) {
        let name = self.information.channel.clone();
        if FileId::at(CWD, self.path.join(&self.name)) == Err(Errno::NOENT) {
            match Self::make(&self.path, &name, &self.information) {
                Ok(made) => {
                    tracing::warn!("the information file of '{name}' was removed, and is back");
                    *self = made;
                }
                Err(error) => tracing::debug!("the information file of '{name}' was removed: {error}"),
            }
        }
    }
}

/// Gives a complete file its name. A leftover that has it is removed.
fn publish(
    new: &mut NewFile<'_>,
    directory: &OwnedFd,
    file: &CloseOnForkFd,
    name: &str,
) -> Result<(), FileError> {
    let mut existing = Existing::KeepWithLocks;
    let mut _lock = None;
    for _ in 0..TRIES {
        match new.publish(file.as_fd(), name.as_ref(), existing) {
            Err(Errno::EXIST) => {}
            // The file system has no way to do that in one step, so servers take turns.
            Err(Errno::OPNOTSUPP) if existing == Existing::KeepWithLocks => {
                _lock = Some(DirectoryLock::take(directory)?);
                existing = Existing::KeepUnderLock;
                continue;
            }
            other => return Ok(other?),
        }
        // A leftover is removed under its own lock; whose lock cannot be had is alive, or just being looked at.
        let (stale, stat) = match open_regular(directory, name, OFlags::RDWR) {
            Ok(opened) => opened,
            Err(OpenError::System(Errno::NOENT)) => continue,
            Err(_) => return Err(FileError::Foreign),
        };
        let locked = (0..20).any(|_| {
            let got = rustix::fs::flock(&stale, FlockOperation::NonBlockingLockExclusive).is_ok();
            if !got {
                std::thread::sleep(Duration::from_millis(1));
            }
            got
        });
        if !locked {
            return Err(FileError::InUse);
        }
        let _ = remove_if(directory, name, FileId::of(&stat));
    }
    Err(FileError::InUse)
}

impl Drop for InfoFile {
    fn drop(&mut self) {
        if !self.file.born().has_forked()
            && let Ok(stat) = rustix::fs::fstat(&self.file)
        {
            // We hold its lock: none of us has removed or replaced it.
            let _ = remove_if(&self.directory, &*self.name, FileId::of(&stat));
        }
    }
}

/// The information files in a directory, sorted by path.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, Errno> {
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.ends_with(ENDING.as_bytes()) && !name.starts_with(b".") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn information() -> Information {
        let channel = "x".parse().unwrap();
        Information { address: "127.0.0.1".parse().unwrap(), port: 4000, channel, id: 0xabc }
    }

    #[test]
    fn what_was_written_is_read_back_and_cut_files_are_broken() {
        let text = information().text();
        assert_eq!(Information::parse(text.as_bytes()), Ok(information()));
        let fourth_line = text.find("pid=").unwrap();
        for cut in 0..text.len() {
            let result = Information::parse(&text.as_bytes()[..cut]);
            assert_eq!(result.is_ok(), cut == fourth_line, "{cut}: {result:?}");
        }
        for broken in [
            "",
            "\n\n\n\n",
            "host\n1\nx\n0000000000000000\n",
            "::1\n0\nx\n0000000000000000\n",
            "::1\n1\n../x\n0000000000000000\n",
            "::1\n1\nx\n+00000000000000a\n",
            "::1\n1\nx\n0000000000000000\nfree text\n",
        ] {
            assert!(matches!(Information::parse(broken.as_bytes()), Err(FileError::Broken(_))), "{broken:?}");
        }
        assert!(Information::parse(b"\xff\n").is_err());
    }

    #[test]
    fn a_file_is_in_use_while_its_server_lives_and_replaced_after() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.server");
        let name: Name = "x".parse().unwrap();
        let make = || InfoFile::make(directory.path(), &name, &information());
        let first = make().unwrap();
        assert_eq!(Information::read(&path), Ok(information()));
        assert_eq!(make().unwrap_err(), FileError::InUse);
        drop(first);
        assert!(!path.exists());
        std::fs::write(&path, "left by somebody who was killed").unwrap();
        assert_eq!(Information::read(&path), Err(FileError::Stale));
        let second = make().unwrap();
        assert_eq!(Information::read(&path), Ok(information()));
        assert_eq!(files(directory.path()).unwrap(), std::slice::from_ref(&path));
        drop(second);
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert_eq!(Information::read(&path), Err(FileError::Foreign));
        assert_eq!(make().unwrap_err(), FileError::Foreign);
    }
}
