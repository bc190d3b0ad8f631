//! Where a server can be found: the runtime directory, and in it, for each port, an information file and a control
//! socket.
//!
//! The server holds a lock on its information file for as long as it lives; the kernel drops it when it dies. So a file
//! whose lock is free is a leftover, whatever it says. It is linked into place, hence never half-written, and never
//! removed by who does not hold its lock.

use crate::registry::{RuntimeDir, RuntimeError};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::io::Read;
use std::path::PathBuf;
use thiserror::Error;

use crate::os::error::reason;
use crate::os::escape::shown;
use crate::os::file::{FileId, OpenError, SocketFile, make_private, open_regular};
use crate::os::new_file::{Existing, NewFile, fill, part_name, token};
use crate::os::ofd_lock::ByteLocks;
use crate::os::pid::{is_own_pid_namespace, pid_in_words};
use crate::shm::liveness::OWNER;

/// Why there is no place, or a server is not found in it.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// There is no runtime directory to be trusted.
    #[error(transparent)]
    Directory(#[from] RuntimeError),
    /// A file in it cannot be used.
    #[error("cannot {what} {}: {}", shown(path), reason(*error))]
    File {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: Errno,
    },
    /// Another server of this user has the port, perhaps at another address.
    #[error(
        "port {port} belongs to another mailbox server owned by you ({}); 'shell dipcrm {port}' stops it",
        pid_in_words(*pid)
    )]
    Taken {
        /// The port.
        port: u16,
        /// The other's process id; 0 if it cannot be seen from here.
        pid: u32,
    },
}

/// The temporary name of an information file, where the file system does not know unnamed files.
const PART: &str = "dipc.part";

/// The runtime directory, as a place for servers.
#[derive(Debug)]
pub struct Place {
    directory: RuntimeDir,
}

/// An information file's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Information {
    /// The server's process id, as the server's pid namespace counts.
    pub pid: u32,
    /// Where it listens.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The unix socket that it made, if any.
    pub unix: Option<PathBuf>,
    /// The number of the server's pid namespace, where it is known.
    pub namespace: Option<u64>,
}

/// An information file, held for as long as this lives.
#[derive(Debug)]
pub struct Held {
    file: OwnedFd,
    _locks: ByteLocks,
    name: String,
}

/// An information file as others see it.
#[derive(Debug)]
pub struct ServerEntry {
    file: OwnedFd,
    locks: ByteLocks,
    name: String,
    /// What it says; nothing if it cannot be understood.
    pub information: Option<Information>,
}

impl Place {
    /// Opens the runtime directory, making it where that is needed.
    ///
    /// # Errors
    /// It is not ours alone, or cannot be made.
    pub fn open() -> Result<Self, PlaceError> {
        Ok(Self { directory: RuntimeDir::open()? })
    }

    /// The path of a file in it, for people.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Binds a socket to a name in it.
    pub(crate) fn bind(&self, socket: impl AsFd, name: &str) -> Result<(), Errno> {
        self.directory.bind(socket, name)
    }

    /// Whether the directory still has its path.
    pub(crate) fn is_in_place(&self) -> bool {
        self.directory.is_in_place()
    }

    /// Whether our file still has its name.
    pub(crate) fn has(&self, held: &Held) -> bool {
        self.is(&held.file, &held.name)
    }

    /// Whether the control socket of `port` is this one.
    pub(crate) fn is_control(&self, port: u16, file: FileId) -> bool {
        FileId::at(&self.directory, socket_name(port)) == Ok(file)
    }

    /// Lets those who clean up leave a file alone.
    pub(crate) fn protect(&self, name: &str) {
        if let Ok((file, _)) = open_regular(&self.directory, name, OFlags::RDONLY) {
            let _ = make_private(&file);
        }
    }

    /// The control socket of `port`.
    pub(crate) fn socket(&self, port: u16) -> Result<SocketFile, OpenError> {
        SocketFile::open(&self.directory, socket_name(port))
    }

    /// Removes a file, if it is there. False: it is there still.
    pub fn remove(&self, name: &str) -> bool {
        matches!(rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()), Ok(()) | Err(Errno::NOENT))
    }

    pub(super) fn failed(&self, what: &'static str, name: &str) -> impl FnOnce(Errno) -> PlaceError {
        let path = self.path(name);
        move |error| PlaceError::File { what, path, error }
    }

    /// Puts an information file into its place and holds it. A leftover in its place goes.
    ///
    /// # Errors
    /// A living server's file is there, or the directory cannot be written.
    pub fn hold(&self, information: &Information) -> Result<Held, PlaceError> {
        let name = information_name(information.port);
        let cannot = |what| self.failed(what, &name);
        let (directory, mode) = (self.directory.as_fd(), Mode::RUSR | Mode::WUSR);
        let mut _lock = None;
        let (mut new, file) =
            match NewFile::create_unnamed(directory, part_name(&token()), mode).map_err(cannot("write"))? {
                Some(unnamed) => unnamed,
                None => {
                    // Under the directory's lock there is one such file at a time; what is there was left by a killed one.
                    _lock = Some(self.directory.lock().map_err(cannot("write"))?);
                    self.remove(PART);
                    NewFile::create_named(directory, PART, mode).map_err(cannot("write"))?
                }
            };
        // Whatever the umask. FAT and the like refuse it: there all files have the mode that the mount gives them.
        let _ = make_private(&file);
        fill(&file, information.to_text().as_bytes()).map_err(cannot("write"))?;
        let locks = ByteLocks::open(&file).map_err(cannot("lock"))?;
        if !locks.try_lock(OWNER).map_err(cannot("lock"))? {
            return Err(cannot("lock")(Errno::AGAIN));
        }
        // Bounded: each round that fails has seen another starter's file come or go.
        for _ in 0..1000 {
            match new.publish(file.as_fd(), name.as_ref(), Existing::KeepUnderLock) {
                Ok(()) => return Ok(Held { file, _locks: locks, name }),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(cannot("write")(error)),
            }
            if let Some(seen) = self.see(information.port)?
                && !self.clear(&seen)
            {
                let pid = self.pid_of(information.port, &seen);
                return Err(PlaceError::Taken { port: information.port, pid });
            }
        }
        Err(cannot("write")(Errno::EXIST))
    }

    /// Looks at the information file of `port`, if there is one.
    ///
    /// # Errors
    /// It is there, and cannot be opened.
    pub fn see(&self, port: u16) -> Result<Option<ServerEntry>, PlaceError> {
        let name = information_name(port);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, name.as_str(), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.failed("open", &name)(error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(self.failed("open", &name))?;
        let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
        if !regular || stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(self.failed("trust", &name)(Errno::PERM));
        }
        let mut text = String::new();
        let read = std::fs::File::from(
            rustix::io::fcntl_dupfd_cloexec(&file, 3).map_err(self.failed("open", &name))?,
        )
        .take(4096)
        .read_to_string(&mut text);
        let information = read.ok().and_then(|_| Information::parse(&text));
        let locks = ByteLocks::open(&file).map_err(self.failed("lock", &name))?;
        Ok(Some(ServerEntry { file, locks, name, information }))
    }

    /// The process id of a live server, as this process can use it; 0 if the server cannot be seen from here. The kernel
    /// says it for whoever listens on the control socket. What the file says counts only if nothing can be asked there, and
    /// only in the server's own pid namespace.
    pub fn pid_of(&self, port: u16, seen: &ServerEntry) -> u32 {
        match super::control::listener_of(self, port) {
            Ok(peer) if peer.uid == rustix::process::geteuid().as_raw() => peer.pid,
            Ok(_) => 0,
            Err(_) => seen.information.as_ref().map_or(0, Information::visible_pid),
        }
    }

    /// Removes a leftover, and its control socket with it. False: its server lives.
    pub fn clear(&self, seen: &ServerEntry) -> bool {
        if seen.locks.try_lock(OWNER) != Ok(true) {
            return false;
        }
        // Under its lock nobody else removes it; but it may have been removed, and replaced, before.
        if self.is(&seen.file, &seen.name) {
            let all_gone = self.remove(&beside(&seen.name, ".sock"));
            if let Some(path) = seen.information.as_ref().and_then(|information| information.unix.as_ref()) {
                super::listen::remove_dead(path);
            }
            // What a dead server logged may tell why it died.
            let log = beside(&seen.name, ".log");
            if rustix::fs::statat(&self.directory, &log, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|log| log.st_size == 0)
            {
                self.remove(&log);
            }
            if all_gone {
                self.remove(&seen.name);
            }
        }
        seen.locks.unlock(OWNER);
        true
    }

    /// Takes our own file out of its place, and the control socket with it.
    pub fn withdraw(&self, held: &Held) {
        // As long as its file is there, what is left of a server is found.
        if self.is(&held.file, &held.name) && self.remove(&beside(&held.name, ".sock")) {
            self.remove(&held.name);
        }
    }

    /// Whether `name` is this file.
    fn is(&self, file: &OwnedFd, name: &str) -> bool {
        let same = |a: Stat, b: Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let there = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        matches!((rustix::fs::fstat(file), there), (Ok(a), Ok(b)) if same(a, b))
    }

    /// The ports of which there are information files.
    pub fn ports(&self) -> Vec<u16> {
        let entries = rustix::fs::Dir::read_from(&self.directory).into_iter().flatten().flatten();
        let mut ports: Vec<u16> = entries
            .filter_map(|entry| {
                entry.file_name().to_str().ok()?.strip_prefix("dipc-")?.strip_suffix(".info")?.parse().ok()
            })
            .collect();
        ports.sort_unstable();
        ports
    }
}

impl ServerEntry {
    /// Whether its server lives.
    pub fn is_live(&self) -> bool {
        self.locks.is_held(OWNER)
    }
}

impl Information {
    /// The server's process id if the file's writer counted as this process does, or 0.
    pub fn visible_pid(&self) -> u32 {
        if is_own_pid_namespace(self.namespace) { self.pid } else { 0 }
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let Self { pid, address, port, unix, namespace } = self;
        // A path that would not fit a line is left out: then nobody clears that socket away.
        let unix = unix.as_ref().and_then(|path| path.to_str()).filter(|path| !path.contains('\n'));
        let unix = unix.map_or(String::new(), |path| format!("unix={path}\n"));
        let namespace = namespace.map_or(String::new(), |number| format!("namespace={number}\n"));
        format!("whorl mailboxes 1\npid={pid}\naddress={address}\nport={port}\n{unix}{namespace}")
    }

    /// Reads the text of a file; `None` for what no server writes.
    pub fn parse(text: &str) -> Option<Self> {
        // Not `lines`, which would take a carriage return at the end of a path away.
        let mut lines = text.split('\n');
        (lines.next() == Some("whorl mailboxes 1")).then_some(())?;
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix('=');
        let pid = field("pid")?.parse().ok()?;
        let address = field("address")?.to_owned();
        let port = field("port")?.parse().ok()?;
        // Older servers say nothing of a namespace, and not all have a unix socket.
        let (mut unix, mut namespace) = (None, None);
        for line in lines.by_ref().take(2) {
            match line.split_once('=') {
                Some(("unix", path)) if namespace.is_none() => unix = Some(PathBuf::from(path)),
                Some(("namespace", number)) => namespace = number.parse().ok(),
                _ => break,
            }
        }
        Some(Self { pid, address, port, unix, namespace })
    }
}

/// The information file of a port.
pub fn information_name(port: u16) -> String {
    format!("dipc-{port}.info")
}

/// The control socket of a port.
pub fn socket_name(port: u16) -> String {
    format!("dipc-{port}.sock")
}

/// The log of a server that was given no other.
pub fn log_name(port: u16) -> String {
    format!("dipc-{port}.log")
}

/// The file of another kind beside an information file.
fn beside(information_name: &str, ending: &str) -> String {
    information_name.replace(".info", ending)
}
