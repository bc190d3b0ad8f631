//! The client's side of the control protocol: connect to an owner, send a request, receive the answer.

use super::listener::{Probe, connect, file_of};
use super::name::Name;
use super::protocol::{ControlMessage, LONGEST, ProtocolError, Record, Token};
use super::runtime_dir::RuntimeDir;
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::{OsError, cannot};
use crate::os::socket::{Peer, peer_credentials};
use crate::os::socket::{receive, receive_with_descriptors, send_with_descriptors};
use crate::os::timeout::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::geteuid;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

/// A connection to an owner.
#[derive(Debug)]
pub struct Client {
    socket: CloseOnForkFd,
    owner: Peer,
    /// The owner has evicted this process.
    evicted: AtomicBool,
}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No process owns the name.
    #[error("no such channel")]
    NotFound,
    /// The owner died, or has not begun to listen.
    #[error("its owner is dead")]
    Dead,
    /// Too many connections wait to be accepted.
    #[error("too many processes are connecting to its owner; try again")]
    Backlog,
    /// The name leads to something that is not a socket owned by this user.
    #[error("its file exists and is not a socket owned by you; remove it and try again")]
    NotOwned,
    /// The owner is another user's process.
    #[error("it belongs to another user")]
    Foreign,
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
}

/// Why there was no answer.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The owner closed the connection.
    #[error("its owner closed the connection")]
    Closed,
    /// The answer is not a message of this protocol version.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The deadline passed.
    #[error("its owner does not answer")]
    TimedOut,
    /// A signal asked the program to stop.
    #[error("interrupted")]
    Interrupted,
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
}

const TALK: &str = "talk to its owner";

/// An answer, and what came with it.
#[derive(Debug)]
pub struct Answer {
    /// The record.
    pub record: Record,
    /// The bytes after the record.
    pub rest: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<CloseOnForkFd>,
}

impl Client {
    /// Connects to the owner of a name.
    ///
    /// # Errors
    /// There is no owner, or it is another user's process.
    pub fn connect(directory: &RuntimeDir, name: &Name) -> Result<Self, ConnectError> {
        Self::connect_to(directory, &*file_of(name))
    }

    /// Connects to the owner of a socket.
    ///
    /// # Errors
    /// There is no owner, or it is another user's process.
    pub(crate) fn connect_to(directory: impl AsFd, file: impl Arg) -> Result<Self, ConnectError> {
        let socket = match connect(directory, file) {
            Probe::Alive(socket) => socket,
            Probe::Nothing => return Err(ConnectError::NotFound),
            Probe::Stale(_) => return Err(ConnectError::Dead),
            Probe::Backlog => return Err(ConnectError::Backlog),
            Probe::NotOwned => return Err(ConnectError::NotOwned),
            Probe::Unknown(error) => return Err(cannot("connect")(error).into()),
        };
        let owner = peer_credentials(&socket).map_err(cannot("connect"))?;
        match owner.uid == geteuid().as_raw() {
            true => Ok(Self { socket, owner, evicted: AtomicBool::new(false) }),
            false => Err(ConnectError::Foreign),
        }
    }

    /// Returns the connection.
    pub(crate) fn into_socket(self) -> CloseOnForkFd {
        self.socket
    }

    /// Returns the owner's process and user.
    pub fn owner(&self) -> Peer {
        self.owner
    }

    /// Sends a message that needs no answer. It never waits. If the socket is full, the message is dropped, because the owner
    /// still has messages to read.
    ///
    /// # Errors
    /// The owner is gone.
    pub fn send(&self, message: ControlMessage, token: Token) -> Result<(), RequestError> {
        match send_with_descriptors(&self.socket, &Record { message, token }.encode(), &[]) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(RequestError::Closed),
            Err(error) => Err(cannot(TALK)(error).into()),
        }
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Blocking
    /// Until the owner answers or dies, the deadline passes, or a signal asks the program to stop.
    ///
    /// # Errors
    /// No answer came, or it is no message of this protocol version.
    pub fn request(
        &self,
        message: ControlMessage,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<Answer, RequestError> {
        self.send(message, token)?;
        loop {
            let mut buffer = vec![0; LONGEST];
            match receive_with_descriptors(&self.socket, &mut buffer) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Err(RequestError::Closed),
                Ok((count, descriptors)) => {
                    let record = Record::decode(&buffer[..count])?;
                    let rest = buffer.get(super::protocol::RECORD..count).unwrap_or_default().to_vec();
                    return Ok(Answer { record, rest, descriptors });
                }
                Err(Errno::AGAIN) => readable(self.socket.as_fd(), deadline)?,
                Err(error) => return Err(cannot(TALK)(error).into()),
            }
        }
    }

    /// Receives what the owner sent without a request. It never waits. Returns `false` if the owner has closed the connection.
    pub fn drain(&self) -> bool {
        let mut buffer = [0; super::protocol::RECORD];
        // Bounded, because an owner may send without end. The rest is read the next time.
        for _ in 0..64 {
            match receive(&self.socket, &mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    let message = Record::decode(&buffer[..count]).map(|record| record.message);
                    if message == Ok(ControlMessage::Evicted) {
                        self.evicted.store(true, Ordering::Relaxed); // orders nothing
                    }
                }
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Returns whether the owner has evicted this process, as far as [`drain`](Self::drain) has read.
    pub fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until the socket is readable.
///
/// # Errors
/// The deadline passed, a signal asked the program to stop, or a system call failed.
pub(crate) fn readable(socket: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<(), RequestError> {
    let nap = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
        Some(Duration::ZERO) => return Err(RequestError::TimedOut),
        left => left.map(timespec),
    };
    let stop = crate::os::signal::stop_event().map_err(cannot(TALK))?;
    let mut ready = [socket, stop].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    match poll(&mut ready, nap.as_ref()) {
        Err(Errno::INTR) | Ok(_) if crate::os::signal::stop_signal().is_some() => {
            Err(RequestError::Interrupted)
        }
        Err(Errno::INTR) | Ok(_) => Ok(()),
        Err(error) => Err(cannot(TALK)(error).into()),
    }
}
