//! Mailbox servers in the runtime directory: for each port a [lock file](crate::registry::lock_file) and a control
//! socket.
//!
//! A server that has the lock file of a port also owns the port's other names. A process that removes a stale lock file
//! first removes the socket, the unix socket and an empty log. So these can be found for as long as the lock file
//! exists.

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use std::path::PathBuf;
use thiserror::Error;

use super::listen;
use crate::os::error::{OsError, cannot};
use crate::os::escape::shown;
use crate::os::file::{OpenError, make_private, open_regular};
use crate::os::pid::pid_in_words;
use crate::registry::lock_file::{Leftover, LockFile, LockFileEntry, LockFileError, owner_lines};
use crate::registry::status::Report;
use crate::registry::{Client, Name, RuntimeDir, RuntimeError, owner_pid, report, server_of};

/// Why a server is not registered, or not found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no runtime directory that can be trusted.
    #[error(transparent)]
    Directory(#[from] RuntimeError),
    /// A file in it cannot be used.
    #[error("{}: {error}", shown(path))]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        error: OsError,
    },
    /// A file in it cannot be trusted.
    #[error("{} exists and is not a regular file owned by you; remove it and try again", shown(.0))]
    NotOwned(PathBuf),
    /// Another server of this user has the port, perhaps at another address.
    #[error(
        "port {port} belongs to another mailbox server owned by you ({}); 'shell dipcrm {port}' stops it",
        pid_in_words(*pid)
    )]
    InUse {
        /// The port.
        port: u16,
        /// The server's process id; 0 if this process cannot see it.
        pid: u32,
    },
}

/// The mailbox servers of this user.
#[derive(Debug)]
pub struct ServerRegistry {
    directory: RuntimeDir,
}

/// The contents of a server's lock file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerInfo {
    /// The address that it listens at.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The unix socket that it made, if any.
    pub unix: Option<PathBuf>,
}

/// A server, or the files of a dead one.
#[derive(Debug)]
pub struct ServerEntry {
    name: Name,
    file: LockFileEntry,
}

impl ServerRegistry {
    /// Opens the runtime directory, and makes it if it does not exist.
    ///
    /// # Errors
    /// It is not this user's alone, or cannot be made.
    pub fn open() -> Result<Self, RegistryError> {
        Ok(Self { directory: RuntimeDir::open()? })
    }

    /// Returns the directory.
    pub(crate) fn directory(&self) -> &RuntimeDir {
        &self.directory
    }

    /// Returns the path of a file in the directory, for messages.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Protects a file from programs that clean up.
    pub(crate) fn protect(&self, file: &str) {
        if let Ok((file, _)) = open_regular(&self.directory, file, OFlags::RDONLY) {
            let _ = make_private(&file);
        }
    }

    /// Removes a file. Returns `false` if it is still there.
    pub(crate) fn remove(&self, file: &str) -> bool {
        matches!(rustix::fs::unlinkat(&self.directory, file, AtFlags::empty()), Ok(()) | Err(Errno::NOENT))
    }

    /// Registers a server of this process, until the lock file is dropped. Removes a dead server's files.
    ///
    /// # Errors
    /// A live server has the port, or the directory cannot be written.
    pub(crate) fn register(&self, info: &ServerInfo) -> Result<LockFile, RegistryError> {
        let file = file_name(info.port, "info");
        if let Some(entry) = self.lookup(info.port)? {
            self.remove_stale(&entry);
        }
        LockFile::create(&self.directory, &file, info.to_text().as_bytes()).map_err(|error| match error {
            LockFileError::InUse => {
                let pid = self.lookup(info.port).ok().flatten().map_or(0, |entry| self.pid_of(&entry));
                RegistryError::InUse { port: info.port, pid }
            }
            LockFileError::NotOwned => RegistryError::NotOwned(self.path(&file)),
            LockFileError::System(error) => RegistryError::File { path: self.path(&file), error },
        })
    }

    /// Returns the server of a port, or a dead server's files.
    ///
    /// # Errors
    /// Its lock file exists and cannot be opened.
    pub fn lookup(&self, port: u16) -> Result<Option<ServerEntry>, RegistryError> {
        let file = file_name(port, "info");
        match LockFileEntry::open(&self.directory, &*file) {
            Ok(entry) => Ok(Some(ServerEntry { name: name_of(port), file: entry })),
            Err(OpenError::System(Errno::NOENT)) => Ok(None),
            Err(OpenError::NotOwned) => Err(RegistryError::NotOwned(self.path(&file))),
            Err(OpenError::System(error)) => {
                Err(RegistryError::File { path: self.path(&file), error: cannot("open the file")(error) })
            }
        }
    }

    /// Returns the process id of a live server in this process's pid namespace; 0 if this process cannot see it.
    pub fn pid_of(&self, entry: &ServerEntry) -> u32 {
        owner_pid(&self.directory, &entry.name, &entry.file)
    }

    /// Returns the report of a server, or `None` if it does not answer.
    ///
    /// # Blocking
    /// At most 2 s.
    pub fn report(&self, port: u16) -> Option<Report> {
        report(&Client::connect(&self.directory, &name_of(port)).ok()?).ok()
    }

    /// Removes a dead server's files. Returns `false` if the server lives.
    pub fn remove_stale(&self, entry: &ServerEntry) -> bool {
        let beside = |ending| format!("{}.{ending}", entry.name);
        let clear = |text: &[u8]| {
            let is_gone = self.remove(&beside("sock"));
            if let Some(path) = ServerInfo::parse(text).and_then(|info| info.unix) {
                listen::remove_dead(&path);
            }
            // A dead server's log may show why it died.
            let log = rustix::fs::statat(&self.directory, beside("log"), AtFlags::SYMLINK_NOFOLLOW);
            if log.is_ok_and(|log| log.st_size == 0) {
                self.remove(&beside("log"));
            }
            is_gone
        };
        matches!(
            entry.file.remove_stale(&self.directory, &beside("info"), clear),
            Ok(Leftover::Removed | Leftover::Gone)
        )
    }

    /// Removes the files of all dead servers. Returns the names of those servers.
    pub fn remove_dead(&self) -> Vec<Name> {
        let is_removed =
            |port: u16| matches!(self.lookup(port), Ok(Some(entry)) if self.remove_stale(&entry));
        self.ports().into_iter().filter(|&port| is_removed(port)).map(name_of).collect()
    }

    /// Returns the ports of live servers.
    pub fn live_ports(&self) -> Vec<u16> {
        let is_live = |port: u16| matches!(self.lookup(port), Ok(Some(entry)) if entry.is_live());
        self.ports().into_iter().filter(|&port| is_live(port)).collect()
    }

    fn ports(&self) -> Vec<u16> {
        let files = self.directory.names().unwrap_or_default();
        files.iter().filter_map(|file| server_of(file)?.mailbox_port()).collect()
    }
}

impl ServerEntry {
    /// Returns whether the server lives.
    pub fn is_live(&self) -> bool {
        self.file.is_live()
    }
}

const HEADING: &str = "whorl mailboxes 1";

impl ServerInfo {
    /// Returns the text of this process's lock file.
    pub fn to_text(&self) -> String {
        let Self { address, port, unix } = self;
        // A path with a line end is left out. Then its socket stays if the server is killed.
        let unix = unix.as_ref().and_then(|path| path.to_str()).filter(|path| !path.contains('\n'));
        let unix = unix.map_or(String::new(), |path| format!("unix={path}\n"));
        format!("{HEADING}\naddress={address}\nport={port}\n{unix}{}", owner_lines())
    }

    /// Parses the text of a lock file. Returns `None` for a text that no server writes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        // Not `lines`, which would remove a carriage return at the end of a path.
        let mut lines = std::str::from_utf8(text).ok()?.split('\n');
        (lines.next() == Some(HEADING)).then_some(())?;
        let field = |name: &str| lines.clone().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let (address, port) = (field("address")?.to_owned(), field("port")?.parse().ok()?);
        Some(Self { address, port, unix: field("unix").map(PathBuf::from) })
    }
}

/// Returns the name of a port's server.
pub(crate) fn name_of(port: u16) -> Name {
    format!("dipc-{port}").parse().expect("a name")
}

/// Returns the name of the default log of a server.
pub fn log_name(port: u16) -> String {
    file_name(port, "log")
}

fn file_name(port: u16, ending: &str) -> String {
    format!("{}.{ending}", name_of(port))
}
