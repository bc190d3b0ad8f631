//! Information files, by which servers announce themselves in a directory.
//!
//! ```text
//! NAME.server, mode 01600:  127.0.0.1        the address
//!                           40123            the port
//!                           NAME             the channel's name
//!                           00000a1b5c3d9e0f its id
//!                           key=value        further lines, which readers may skip
//! ```
//!
//! The file is a [lock file](crate::registry::lock_file): the server holds its lock for as long as it lives.

use crate::os::error::{OsError, cannot};
use crate::os::file::OpenError;
use crate::os::file_id::FileId;
use crate::registry::Name;
use crate::registry::lock_file::{LockFile, LockFileEntry, LockFileError, MAX_TEXT};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The ending of an information file's name, after its server's name.
pub(super) const ENDING: &str = ".server";
/// The contents of an information file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Information {
    /// The address at which the server listens.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its channel.
    pub channel: Name,
    /// Distinguishes that channel from others of the same name.
    pub id: u64,
}

/// What is wrong with an information file.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// Its server is dead.
    #[error("stale: its server is dead")]
    Stale,
    /// It is not a regular file owned by this user.
    #[error("it exists and is not a regular file owned by you; remove it and try again")]
    Foreign,
    /// Its text is not valid.
    #[error("broken: {0}")]
    Broken(&'static str),
    /// A live server has it.
    #[error("in use by another server")]
    InUse,
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
}

impl From<OpenError> for FileError {
    fn from(refused: OpenError) -> Self {
        match refused {
            OpenError::NotOwned => Self::Foreign,
            OpenError::System(error) => Self::System(cannot("open the file")(error)),
        }
    }
}

impl From<LockFileError> for FileError {
    fn from(error: LockFileError) -> Self {
        match error {
            LockFileError::InUse => Self::InUse,
            LockFileError::NotOwned => Self::Foreign,
            LockFileError::System(error) => Self::System(error),
        }
    }
}

impl Information {
    /// Returns the file's text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n{:016x}\n", self.address, self.port, self.channel, self.id);
        let _ = writeln!(text, "pid={}", std::process::id());
        text
    }

    /// Parses the text of a file.
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
    /// The file is missing, stale, malformed or not owned by this user.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let entry = LockFileEntry::open(CWD, path)?;
        if entry.text().len() > MAX_TEXT {
            return Err(FileError::Broken("it is too long"));
        }
        if !entry.is_live() {
            return Err(FileError::Stale);
        }
        Self::parse(entry.text())
    }
}

/// A server's own file. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct InfoFile {
    path: PathBuf,
    information: Information,
    _file: LockFile,
}

impl InfoFile {
    /// Makes the file in a directory.
    pub(super) fn create(
        directory: &Path,
        name: &Name,
        information: &Information,
    ) -> Result<Self, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened =
            rustix::fs::open(directory, flags, Mode::empty()).map_err(cannot("open the directory"))?;
        let file_name = format!("{name}{ENDING}");
        let file = LockFile::create(opened, &file_name, information.text().as_bytes())?;
        // The directory may be a relative path, and the process may change its working directory.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Ok(Self { path: directory.join(file_name), information: information.clone(), _file: file })
    }

    /// Makes the file again if another program has removed it, unless another server has taken its name or the
    /// directory is gone.
    pub(super) fn keep(&mut self) {
        let name = self.information.channel.clone();
        let Some(directory) = self.path.parent() else { return };
        if FileId::at(CWD, &self.path) == Err(Errno::NOENT) {
            match Self::create(directory, &name, &self.information) {
                Ok(created) => {
                    tracing::warn!("the information file of '{name}' was removed, and is back");
                    *self = created;
                }
                Err(error) => tracing::debug!("the information file of '{name}' was removed: {error}"),
            }
        }
    }
}

/// Returns the information files in a directory, sorted by path.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, OsError> {
    let failed = |error: std::io::Error| OsError::io("read the directory", &error);
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
        let make = || InfoFile::create(directory.path(), &name, &information());
        let first = make().unwrap();
        assert_eq!(Information::read(&path), Ok(information()));
        assert_eq!(make().unwrap_err(), FileError::InUse);
        drop(first);
        assert!(!path.exists());
        std::fs::write(&path, "left by a killed process").unwrap();
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
