//! Owning a name: the socket `NAME.sock` in the runtime directory, and checks of sockets that other processes left.
//!
//! Binding a socket, finding one stale, and removing one happen only under the directory's lock. So such a check never
//! sees a socket that is bound but does not listen yet, and a live socket is never removed.

use super::name::Name;
use super::protocol::{ControlMessage, Record};
use super::runtime_dir::{Locked, RuntimeDir, RuntimeError};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::{OsError, cannot};
use crate::os::file::{OpenError, SocketFile, remove_if};
use crate::os::file_id::FileId;
use crate::os::socket::{peer_credentials, send_with_descriptors};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::path::Arg;
use rustix::process::geteuid;
use thiserror::Error;

/// The most connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// The socket of a name. The name belongs to this process while this lives.
#[derive(Debug)]
pub struct Listener {
    directory: RuntimeDir,
    name: Name,
    socket: CloseOnForkFd,
    /// Distinguishes the socket's file from another one that takes its name.
    file: FileId,
}

/// Why a name cannot be taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process has it.
    #[error("the name '{0}' is in use; 'shell ls' shows its owner")]
    InUse(Name),
    /// Such names belong to mailbox servers.
    #[error("names like '{0}' belong to mailbox servers")]
    Reserved(Name),
    /// The name leads to something that is not a socket owned by this user.
    #[error("{} exists and is not a socket owned by you; remove it and try again", crate::os::escape::shown(.0))]
    NotOwned(std::path::PathBuf),
    /// The runtime directory no longer exists.
    #[error(transparent)]
    Directory(#[from] RuntimeError),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
}

/// Returns the file name of a channel's socket.
pub(crate) fn file_of(name: &Name) -> String {
    format!("{name}.sock")
}

impl Listener {
    /// Takes a name. Replaces a socket that a dead owner left.
    ///
    /// # Errors
    /// The name is in use, or something failed. Then nothing is left.
    pub fn bind(directory: RuntimeDir, name: &Name) -> Result<Self, BindError> {
        match name.mailbox_port() {
            Some(_) => Err(BindError::Reserved(name.clone())),
            None => Self::bind_any(directory, name),
        }
    }

    /// Takes a name, which may be the name of a mailbox server.
    pub(crate) fn bind_any(directory: RuntimeDir, name: &Name) -> Result<Self, BindError> {
        let locked = directory.lock().map_err(cannot("lock the runtime directory"))?;
        let (socket, file) = Self::open(&locked, name)?;
        drop(locked);
        Ok(Self { directory, name: name.clone(), socket, file })
    }

    /// Makes the socket of the name, in place of a stale one.
    fn open(locked: &Locked<'_>, name: &Name) -> Result<(CloseOnForkFd, FileId), BindError> {
        let directory = locked.directory();
        match probe(locked, name) {
            Probe::Nothing => {}
            Probe::Stale(file) => _ = remove(locked, name, file).map_err(cannot("remove a stale socket"))?,
            Probe::Alive(_) | Probe::Backlog => return Err(BindError::InUse(name.clone())),
            Probe::NotOwned => return Err(not_owned(directory, name)),
            Probe::Unknown(error) => return Err(cannot("look at the name")(error).into()),
        }
        let socket = socket().map_err(cannot("make a socket"))?;
        // The file gets the socket's mode less the umask, and here the whole mode.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(cannot("protect a socket"))?;
        if let Err(error) = directory.bind(&socket, &file_of(name)) {
            // A name that was free under the lock is this socket's, if the path still led here.
            if let (Errno::STALE, Ok(made)) = (error, identity(directory, name)) {
                let _ = remove(locked, name, made);
            }
            return Err(cannot("bind a socket")(error).into());
        }
        let made = identity(directory, name).map_err(cannot("find a socket that was just made"))?;
        let file = match SocketFile::open(directory, file_of(name)) {
            Ok(file) => file,
            Err(OpenError::NotOwned) => return Err(not_owned(directory, name)), // another file took the name
            Err(OpenError::System(error)) => {
                let _ = remove(locked, name, made);
                return Err(cannot("open a socket that was just made")(error).into());
            }
        };
        // If the file system refuses this, the directory's mode still keeps other users out.
        let _ = file.make_private();
        let listening = rustix::net::listen(&socket, BACKLOG);
        if let Err(error) = listening {
            let _ = remove(locked, name, file.identity);
            return Err(cannot("listen")(error).into());
        }
        Ok((socket, file.identity))
    }

    /// Returns whether the socket cannot be found any more, because another program has removed its file or the
    /// directory.
    pub(crate) fn is_gone(&self) -> bool {
        let is_gone = identity(&self.directory, &self.name) == Err(Errno::NOENT);
        is_gone || !self.directory.is_in_place()
    }

    /// Puts the name back with a new socket, if it [is gone](Self::is_gone) and no other process has taken it. Does not
    /// wait for the directory's lock. Connections that wait at the old socket are lost.
    ///
    /// # Errors
    /// The name is in use, the lock is held, or something failed. Then nothing has changed.
    pub(crate) fn put_back(&mut self) -> Result<(), BindError> {
        if !self.directory.is_in_place() {
            self.directory = self.directory.reopen()?;
        }
        let locked = self.directory.try_lock().map_err(cannot("lock the runtime directory"))?;
        let (socket, file) = Self::open(&locked, &self.name)?;
        drop(locked);
        (self.socket, self.file) = (socket, file);
        Ok(())
    }

    /// Returns the name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Accepts a client of the same user. Returns `None` if no client waits, or the client was another user's.
    ///
    /// # Errors
    /// The kernel's error, most often because there are no descriptors left.
    pub fn accept(&self) -> Result<Option<(CloseOnForkFd, crate::os::socket::Peer)>, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match CloseOnForkFd::open(|| rustix::net::accept_with(&self.socket, flags)) {
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(None),
            other => other?,
        };
        let peer = peer_credentials(&socket)?;
        Ok((peer.uid == geteuid().as_raw()).then_some((socket, peer)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.socket.born().has_forked() {
            return;
        }
        // Without the lock the file stays, stale. That is safe, and the next owner replaces it.
        let Ok(locked) = self.directory.lock() else { return };
        let _ = remove(&locked, &self.name, self.file);
    }
}

/// The result of checking a name.
#[derive(Debug)]
pub enum Probe {
    /// No file has the name.
    Nothing,
    /// A socket on which no process listens any more.
    Stale(FileId),
    /// A process listens, and this is the connection to it.
    Alive(CloseOnForkFd),
    /// A process listens, and its queue of connections is full.
    Backlog,
    /// Something that is not a socket owned by this user.
    NotOwned,
    /// The kernel's answer is unclear, which counts as alive.
    Unknown(Errno),
}

/// Checks a name. The lock makes sure that a stale socket is stale.
pub(crate) fn probe(locked: &Locked<'_>, name: &Name) -> Probe {
    connect(locked.directory(), &*file_of(name))
}

/// Tries to connect. Without the lock, `Stale` can also mean that the owner is about to listen.
pub(crate) fn connect(directory: impl AsFd, file: impl Arg) -> Probe {
    let file = match SocketFile::open(directory, file) {
        Ok(file) => file,
        Err(OpenError::System(Errno::NOENT)) => return Probe::Nothing,
        Err(OpenError::System(error)) => return Probe::Unknown(error),
        Err(OpenError::NotOwned) => return Probe::NotOwned,
    };
    match socket().and_then(|socket| file.connect(&socket).map(|()| socket)) {
        Ok(socket) => Probe::Alive(socket),
        Err(Errno::CONNREFUSED) => Probe::Stale(file.identity),
        Err(Errno::AGAIN) => Probe::Backlog,
        Err(Errno::PROTOTYPE) => Probe::NotOwned,
        Err(error) => Probe::Unknown(error),
    }
}

/// Sends a message to a client. Errors are ignored: a client that has gone needs no message, and one whose socket is
/// full has unread messages.
pub(crate) fn send(client: impl AsFd, message: ControlMessage, descriptors: &[BorrowedFd<'_>]) {
    let _ = send_with_descriptors(client, &Record::plain(message).encode(), descriptors);
}

/// Removes a name's socket. Returns `false` if the name has lost this file, although the lock is held.
pub(crate) fn remove(locked: &Locked<'_>, name: &Name, file: FileId) -> Result<bool, Errno> {
    remove_if(locked.directory(), &*file_of(name), file)
}

fn not_owned(directory: &RuntimeDir, name: &Name) -> BindError {
    BindError::NotOwned(directory.path().join(file_of(name)))
}

fn socket() -> Result<CloseOnForkFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    CloseOnForkFd::open(|| rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None))
}

/// Returns the id that distinguishes a name's file from earlier and later files of that name.
pub(crate) fn identity(directory: &RuntimeDir, name: &Name) -> Result<FileId, Errno> {
    FileId::at(directory, file_of(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(parent: &std::path::Path) -> RuntimeDir {
        RuntimeDir::open_in(parent, "whorl").unwrap()
    }

    #[test]
    fn a_name_has_one_owner_and_goes_with_it() {
        let parent = tempfile::tempdir().unwrap();
        let name: Name = "x".parse().unwrap();
        let file = parent.path().join("whorl/x.sock");
        let owner = Listener::bind(here(parent.path()), &name).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.symlink_metadata().unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o1600);
        assert!(matches!(Listener::bind(here(parent.path()), &name), Err(BindError::InUse(_))));
        drop(owner);
        assert!(!file.exists());
        // What a killed owner leaves is replaced; what is no socket is not.
        let directory = here(parent.path());
        directory.bind(socket().unwrap(), &file_of(&name)).unwrap();
        assert!(file.exists() && matches!(connect(&directory, &*file_of(&name)), Probe::Stale(_)));
        drop(Listener::bind(directory, &name).unwrap());
        assert!(!file.exists());
        std::fs::write(&file, "text").unwrap();
        assert!(matches!(Listener::bind(here(parent.path()), &name), Err(BindError::NotOwned(_))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    }

    #[test]
    fn a_longest_name_can_be_bound_however_long_the_path_of_the_directory_is() {
        let parent = tempfile::tempdir().unwrap();
        let deep = parent.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let name: Name = "n".repeat(Name::MAX).parse().unwrap();
        let owner = Listener::bind(here(&deep), &name).unwrap();
        assert!(matches!(connect(here(&deep), &*file_of(&name)), Probe::Alive(_)));
        drop(owner);
        assert!(matches!(connect(here(&deep), &*file_of(&name)), Probe::Nothing));
    }
}
