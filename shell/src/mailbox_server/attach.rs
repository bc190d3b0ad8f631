//! Attaching to a server's mailboxes through shared memory. After that, reading and writing need no round trip.

use rustix::fs::CWD;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

use super::server_registry::{RegistryError, ServerRegistry, name_of};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::registry::protocol::{ControlMessage, ProtocolError, Refusal, Token};
use crate::registry::{Client, ConnectError, RequestError};
use crate::shm::mailboxes::{MailSegment, MailboxError, Mailboxes};

/// A server that does not answer for this long counts as stuck.
const ANSWER: Duration = Duration::from_secs(5);

/// How a server is found.
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

/// Why attaching failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is no such server.
    #[error("no mailbox server owned by you on port {0}")]
    Nothing(u16),
    /// The server cannot be reached.
    #[error("no server answers: {0}")]
    Connect(#[from] ConnectError),
    /// The server does not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The server refused.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// There is no runtime directory.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The mailboxes that it sent cannot be used, or every seat is taken.
    #[error(transparent)]
    Mailboxes(#[from] MailboxError),
}

impl Mailboxes {
    /// Attaches to the mailboxes of a running server of the same user, on the same machine.
    ///
    /// # Examples
    /// ```no_run
    /// let mut mailboxes = whorl::Mailboxes::attach(9000)?;
    /// let version = mailboxes.write(3, b"hello")?;
    /// let message = mailboxes.read(3)?;
    /// assert!(message.version >= version);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    /// Until the server sends the mailboxes, at most 5 s.
    ///
    /// # Errors
    /// There is no such server, another user owns it, or every seat is taken.
    pub fn attach(server: impl Into<ServerAddr>) -> Result<Self, AttachError> {
        let (segment, connection) = attach(server)?;
        Ok(segment.sit()?.with_connection(connection))
    }
}

/// Attaches to the mailboxes of a running server, without a seat. The server counts this process as attached while the
/// connection is open.
///
/// # Blocking
/// Until the server sends the mailboxes, at most 5 s.
///
/// # Errors
/// There is no such server, or another user owns it.
pub fn attach(server: impl Into<ServerAddr>) -> Result<(MailSegment, CloseOnForkFd), AttachError> {
    let client = match server.into() {
        ServerAddr::Path(path) => Client::connect_to(CWD, &path)?,
        ServerAddr::Port(port) => {
            let registry = ServerRegistry::open()?;
            if !registry.lookup(port)?.is_some_and(|entry| entry.is_live()) {
                return Err(AttachError::Nothing(port));
            }
            Client::connect(registry.directory(), &name_of(port))?
        }
    };
    let deadline = Some(Instant::now() + ANSWER);
    let answer = client.request(ControlMessage::Attach, Token::default(), deadline)?;
    match (answer.record.message, answer.descriptors.into_iter().next()) {
        // This is memory that does not depend on any other process's life.
        (ControlMessage::Mailboxes, Some(object)) => {
            let segment = MailSegment::open(object.share()).map_err(MailboxError::from)?;
            Ok((segment, client.into_socket()))
        }
        (ControlMessage::Refused(why), _) => Err(AttachError::Refused(why)),
        _ => Err(RequestError::from(ProtocolError::Malformed).into()),
    }
}
