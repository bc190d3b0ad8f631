//! Attaching to a server's mailboxes through shared memory: no round trip after that.

use rustix::io::Errno;
use std::path::{Path, PathBuf};
use thiserror::Error;

use super::control::{AskError, Request, ask, ask_at};
use super::place::{Place, PlaceError};
use crate::shm::mailboxes::{MailSegment, MailboxError, Mailboxes};

/// Where a server is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerAddr {
    /// By its port, in the runtime directory of this user.
    Port(u16),
    /// By its control socket.
    Path(PathBuf),
}

impl From<u16> for ServerAddr {
    fn from(port: u16) -> Self {
        Self::Port(port)
    }
}

impl From<&Path> for ServerAddr {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<&str> for ServerAddr {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

/// Why there is no attaching.
#[derive(Debug, Error)]
pub enum AttachError {
    /// No such server.
    #[error("no mailbox server owned by you on port {0}")]
    Nothing(u16),
    /// It does not hand its mailboxes over.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// There is no runtime directory.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// What it handed over cannot be used, or every seat is taken.
    #[error(transparent)]
    Mailboxes(#[from] MailboxError),
}

impl Mailboxes {
    /// Attaches to the mailboxes of a running server of the same user, on the same machine.
    ///
    /// # Examples
    /// ```no_run
    /// let mut mailboxes = whorl::shm::mailboxes::Mailboxes::attach(9000)?;
    /// let version = mailboxes.write(3, b"hello")?;
    /// let message = mailboxes.read(3)?;
    /// assert!(message.version >= version);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    /// Until the server hands them over, at most 5 s.
    ///
    /// # Errors
    /// There is no such server, it is not ours, or every seat is taken.
    pub fn attach(server: impl Into<ServerAddr>) -> Result<Self, AttachError> {
        let answer = match server.into() {
            ServerAddr::Path(path) => ask_at(&path, Request::Attach)?,
            ServerAddr::Port(port) => {
                let place = Place::open()?;
                if !place.see(port)?.is_some_and(|seen| seen.is_live()) {
                    return Err(AttachError::Nothing(port));
                }
                ask(&place, port, Request::Attach)?
            }
        };
        let object = answer.object.ok_or(AskError::NoAnswer(Errno::BADMSG))?;
        let segment = MailSegment::open(object).map_err(MailboxError::from)?;
        Ok(segment.sit()?.tied(answer.socket))
    }
}
