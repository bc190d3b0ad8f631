//! The client's side of a rendezvous: connect, ask, be handed what was asked for.

use super::listener::{Probe, connect};
use super::name::Name;
use super::protocol::{ControlMessage, LONGEST, ProtocolError, Record, Token};
use super::runtime_dir::RuntimeDir;
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::socket::{Peer, peer_credentials};
use crate::os::socket::{receive, receive_with_descriptors, send_with_descriptors};
use crate::os::timeout::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

/// A connection to an owner.
#[derive(Debug)]
pub struct Client {
    socket: CloseOnForkFd,
    owner: Peer,
    /// The owner said so.
    evicted: AtomicBool,
}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConnectError {
    /// NotFound owns the name.
    #[error("no such channel")]
    NotFound,
    /// Somebody did, and died; or is just about to listen.
    #[error("its owner is dead")]
    Dead,
    /// Too many want to be heard just now.
    #[error("too many processes are connecting to its owner; try again")]
    Backlog,
    /// A file that is no socket of ours has the name.
    #[error("its file exists and is not a socket owned by you; remove it and try again")]
    NotOwned,
    /// The owner is another user's process.
    #[error("it belongs to another user")]
    Foreign,
    /// A system call failed.
    #[error("cannot connect: {}", crate::os::error::reason(*.0))]
    System(Errno),
}

/// Why there was no answer.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RequestError {
    /// The owner hung up.
    #[error("its owner closed the connection")]
    Closed,
    /// What it said was not understood.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The deadline passed.
    #[error("its owner does not answer")]
    TimedOut,
    /// A signal asked the program to stop.
    #[error("interrupted")]
    Interrupted,
    /// A system call failed.
    #[error("cannot talk to its owner: {}", crate::os::error::reason(*.0))]
    System(Errno),
}

/// An answer, with what came along.
#[derive(Debug)]
pub struct Answer {
    /// What was said.
    pub record: Record,
    /// What followed the record.
    pub rest: Vec<u8>,
    /// What was handed over.
    pub descriptors: Vec<CloseOnForkFd>,
}

impl Client {
    /// Connects to the owner of a name.
    ///
    /// # Errors
    /// There is none, or it is not to be trusted.
    pub fn connect(directory: &RuntimeDir, name: &Name) -> Result<Self, ConnectError> {
        let socket = match connect(directory, name) {
            Probe::Alive(socket) => socket,
            Probe::Nothing => return Err(ConnectError::NotFound),
            Probe::Stale(_) => return Err(ConnectError::Dead),
            Probe::Backlog => return Err(ConnectError::Backlog),
            Probe::NotOwned => return Err(ConnectError::NotOwned),
            Probe::Unknown(error) => return Err(ConnectError::System(error)),
        };
        let owner = peer_credentials(&socket).map_err(ConnectError::System)?;
        match owner.uid == geteuid().as_raw() {
            true => Ok(Self { socket, owner, evicted: AtomicBool::new(false) }),
            false => Err(ConnectError::Foreign),
        }
    }

    /// Who the owner is.
    pub fn owner(&self) -> Peer {
        self.owner
    }

    /// Says something that needs no answer. Never waits: a full socket has been told enough.
    ///
    /// # Errors
    /// The owner is gone.
    pub fn say(&self, saying: ControlMessage, token: Token) -> Result<(), RequestError> {
        match send_with_descriptors(&self.socket, &Record { saying, token }.encode(), &[]) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(RequestError::Closed),
            Err(error) => Err(RequestError::System(error)),
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Blocking
    /// Until the owner answers, the deadline passes or a signal comes. An owner that dies hangs up.
    ///
    /// # Errors
    /// There is no answer.
    pub fn ask(
        &self,
        saying: ControlMessage,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<Answer, RequestError> {
        self.say(saying, token)?;
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
                Err(error) => return Err(RequestError::System(error)),
            }
        }
    }

    /// Takes in what the owner said unasked, without waiting. False: it has hung up.
    pub fn listen(&self) -> bool {
        let mut buffer = [0; super::protocol::RECORD];
        // Not for ever, for one that never stops: what is left can be read another time.
        for _ in 0..64 {
            match receive(&self.socket, &mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    let said = Record::decode(&buffer[..count]).map(|record| record.saying);
                    if said == Ok(ControlMessage::Evicted) {
                        self.evicted.store(true, Ordering::Relaxed); // orders nothing
                    }
                }
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether the owner has said that we were too slow, as far as it was [listened](Self::listen) to.
    pub fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until there is something to receive.
pub(crate) fn readable(socket: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<(), RequestError> {
    let nap = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
        Some(Duration::ZERO) => return Err(RequestError::TimedOut),
        left => left.map(timespec),
    };
    let stop = crate::os::signal::stop_event().map_err(RequestError::System)?;
    let mut ready = [socket, stop].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    match poll(&mut ready, nap.as_ref()) {
        Err(Errno::INTR) | Ok(_) if crate::os::signal::stop_signal().is_some() => {
            Err(RequestError::Interrupted)
        }
        Err(Errno::INTR) | Ok(_) => Ok(()),
        Err(error) => Err(RequestError::System(error)),
    }
}
