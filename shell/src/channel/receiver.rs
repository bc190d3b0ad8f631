//! A receiver of a named channel.

use super::error::{JoinError, ReceiveError};
use super::join::{Attempt, attempt};
use super::options::ReceiverOptions;
use crate::channel::transport::incoming::Incoming;
use crate::channel::transport::payload::{Deadline, Payload, Taken};
use crate::channel::transport::stream::Stream;
use crate::os::close_on_fork::ForkId;
use crate::os::deadline;
use crate::os::error::cannot;
use crate::registry::protocol::{ControlMessage, DisconnectReason, Token};
use crate::registry::{Changes, Client, ConnectError, Ended, Name, RuntimeDir, WaitFile};
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};
use whorl_core::error::End;

/// One received message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// A message of this many bytes, at the start of the buffer.
    Bytes(usize),
    /// This many zero bytes. Only a receiver that asks for [holes](ReceiverOptions::holes) gets it.
    Hole(u64),
    /// The end: the receiver has received everything.
    End(End),
}

/// A receiver of a channel. It receives every message in order, or an error. It reports the end only if the sender ended
/// the stream.
///
/// Dropping it leaves the channel, and the sender continues without it. It belongs to the process that joined: in a forked
/// child every call returns [`ReceiveError::Forked`].
///
/// In an event loop, call [`arm`](Self::arm) first. If it returns `true`, wait until [`as_fd`](AsFd::as_fd) is readable.
///
/// ```no_run
/// use whorl::{Received, Receiver};
///
/// let mut receiver = Receiver::join(&"ticker".parse()?)?;
/// let mut message = vec![0; receiver.max_message_len()];
/// while let Received::Bytes(length) = receiver.recv(&mut message)? {
///     println!("{}", String::from_utf8_lossy(&message[..length]));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver {
    inner: ManuallyDrop<Inner>,
    born: ForkId,
}

/// The fields are dropped in this order: the seat is left, then its byte is unlocked, then the connection is closed.
struct Inner {
    incoming: Incoming,
    client: Client,
    token: Token,
    end: Option<End>,
    confirms: bool,
    /// Whether the caller asked for holes.
    holes: bool,
    /// Zero bytes of the last hole that the caller has not received yet.
    hole_left: u64,
    parted: bool,
    armed_before: bool,
}

impl ReceiverOptions {
    /// Joins the channel of this name.
    ///
    /// # Blocking
    /// Until a sender owns the name and admits the receiver, the timeout passes, or a signal comes. If the sender dies
    /// before it admits the receiver, the receiver waits for the next sender.
    ///
    /// # Errors
    /// The receiver could not join, for example because of the timeout or a full channel.
    pub fn join(&self, name: &Name) -> Result<Receiver, JoinError> {
        Receiver::join_in(&self.open_dir()?, name, self, || ())
    }
}

impl Receiver {
    /// Joins the channel of this name, with the default options.
    ///
    /// # Blocking
    /// Until a sender owns the name and admits the receiver, or a signal comes. If the sender dies before it admits the
    /// receiver, the receiver waits for the next sender.
    ///
    /// # Errors
    /// The receiver could not join, for example because the channel is full.
    pub fn join(name: &Name) -> Result<Self, JoinError> {
        ReceiverOptions::new().join(name)
    }

    /// Returns the default options.
    pub fn options() -> ReceiverOptions {
        ReceiverOptions::new()
    }

    /// Joins in an opened runtime directory. Calls `waiting` once if no process owns the name yet.
    pub(crate) fn join_in(
        directory: &RuntimeDir,
        name: &Name,
        options: &ReceiverOptions,
        waiting: impl FnOnce(),
    ) -> Result<Self, JoinError> {
        Self::join_as(Token::default(), directory, name, options, waiting)
    }

    /// Joins as part of a run, which this token identifies.
    pub(crate) fn join_as(
        token: Token,
        directory: &RuntimeDir,
        name: &Name,
        options: &ReceiverOptions,
        waiting: impl FnOnce(),
    ) -> Result<Self, JoinError> {
        let deadline = options.timeout.map(deadline::after);
        let mut waiting = Some(waiting);
        let mut replaced: Option<RuntimeDir> = None;
        loop {
            let directory = replaced.as_ref().unwrap_or(directory);
            let attempt = || Self::attempt(directory, name, options, token, deadline);
            if let Some(receiver) = Self::wait_in(directory, name, deadline, attempt, &mut waiting)? {
                return Ok(receiver);
            }
            // New senders are in another directory.
            replaced = Some(directory.reopen()?);
        }
    }

    /// Waits for an owner in this directory. Returns `None` if the directory was removed or replaced.
    fn wait_in(
        directory: &RuntimeDir,
        name: &Name,
        deadline: Option<Instant>,
        attempt: impl Fn() -> Result<Attempt<Self>, JoinError>,
        waiting: &mut Option<impl FnOnce()>,
    ) -> Result<Option<Self>, JoinError> {
        if let Attempt::Joined(receiver) = attempt()? {
            return Ok(Some(receiver));
        }
        // Watches first and then checks again, so that no sender in between is missed.
        let mut changes = Changes::of(directory);
        let create = || WaitFile::create(directory, name);
        let failed = cannot("create the wait file");
        let mut file = match create() {
            Err(_) if !directory.is_in_place() => return Ok(None),
            other => other.map_err(&failed)?,
        };
        loop {
            let refused = match attempt()? {
                Attempt::Joined(receiver) => return Ok(Some(receiver)),
                Attempt::NotYet { refused } => refused,
            };
            // `shell rm` marks the file before it removes it.
            if file.is_removed() && file.is_cancelled() {
                return Err(JoinError::Stopped);
            }
            if !directory.is_in_place() {
                return Ok(None);
            }
            if file.is_removed() {
                file = create().map_err(&failed)?;
            }
            if !refused && let Some(waiting) = waiting.take() {
                waiting();
            }
            changes.wait(refused, deadline).map_err(|end| match end {
                Ended::TimedOut => JoinError::TimedOut,
                Ended::Interrupted => JoinError::Interrupted,
            })?;
        }
    }

    /// Joins only if a sender owns the name and admits this receiver now.
    pub(crate) fn join_now(
        token: Token,
        directory: &RuntimeDir,
        name: &Name,
        options: &ReceiverOptions,
    ) -> Result<Self, JoinError> {
        let deadline = options.timeout.map(deadline::after);
        match Self::attempt(directory, name, options, token, deadline)? {
            Attempt::Joined(receiver) => Ok(receiver),
            Attempt::NotYet { .. } => Err(ConnectError::NotFound.into()),
        }
    }

    /// Returns the length of the longest possible message, which is the least buffer that takes every message.
    pub fn max_message_len(&self) -> usize {
        match &self.inner.incoming {
            Incoming::Ring(ring) => ring.ring().geometry().max_message() as usize,
            Incoming::Stream(_) => Stream::MAX_PAYLOAD,
        }
    }

    /// Returns the channel's number, which distinguishes it from other channels of the same name; 0 for a socket
    /// channel.
    pub fn id(&self) -> u64 {
        match &self.inner.incoming {
            Incoming::Ring(ring) => ring.ring().nonce(),
            Incoming::Stream(_) => 0,
        }
    }

    /// Tries to join once.
    fn attempt(
        directory: &RuntimeDir,
        name: &Name,
        options: &ReceiverOptions,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<Attempt<Self>, JoinError> {
        let born = ForkId::current();
        Ok(match attempt(directory, name, options.start, token, deadline)? {
            Attempt::NotYet { refused } => Attempt::NotYet { refused },
            Attempt::Joined((incoming, client)) => {
                let inner = Inner {
                    incoming,
                    client,
                    token,
                    end: None,
                    confirms: options.confirms,
                    holes: options.holes,
                    hole_left: 0,
                    parted: false,
                    armed_before: false,
                };
                Attempt::Joined(Self { inner: ManuallyDrop::new(inner), born })
            }
        })
    }

    /// Receives the next message.
    ///
    /// # Blocking
    /// Until the sender sends or ends, or a signal comes. If the sender dies, the receiver receives every message that was
    /// sent, and then an error within 50 ms.
    ///
    /// # Errors
    /// The sender died, the receiver was evicted, or a signal came. [`ReceiveError::TooLong`] leaves the message in
    /// place, for a longer buffer.
    pub fn recv(&mut self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        self.recv_into(buffer, Deadline::Until(None))
    }

    /// Receives the next message if it is there. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError::Empty`], or an error of [`recv`](Self::recv).
    pub fn try_recv(&mut self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        self.recv_into(buffer, Deadline::Now)
    }

    /// Receives the next message, and waits for it at most this long.
    ///
    /// # Errors
    /// [`ReceiveError::TimedOut`], or an error of [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<Received, ReceiveError> {
        self.recv_into(buffer, Deadline::Until(Some(deadline::after(timeout))))
    }

    /// Receives the next message, and waits for it until this time.
    ///
    /// # Errors
    /// [`ReceiveError::TimedOut`], or an error of [`recv`](Self::recv).
    pub fn recv_deadline(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<Received, ReceiveError> {
        self.recv_into(buffer, Deadline::Until(Some(deadline)))
    }

    fn recv_into(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<Received, ReceiveError> {
        let longest = self.max_message_len();
        let inner = self.here()?;
        if inner.hole_left == 0 {
            match self.take(deadline, false, |payload| copy(payload, buffer))?.into() {
                Received::Hole(length) if !self.inner.holes => self.inner.hole_left = length,
                other => return Ok(other),
            }
        }
        let left = usize::try_from(self.inner.hole_left).unwrap_or(usize::MAX);
        let length = left.min(longest).min(buffer.len());
        if length == 0 && left > 0 {
            return Err(ReceiveError::TooLong { length: left.min(longest) });
        }
        buffer[..length].fill(0);
        self.inner.hole_left -= length as u64;
        Ok(Received::Bytes(length))
    }

    /// Prepares to wait in an event loop until the descriptor is readable. Returns `true` if the caller can wait now, or
    /// `false` if there is something to receive already.
    ///
    /// # Errors
    /// The reason that nothing more will come.
    pub fn arm(&mut self) -> Result<bool, ReceiveError> {
        let inner = self.here()?;
        if inner.end.is_some() || inner.hole_left > 0 {
            return Ok(false);
        }
        match &mut inner.incoming {
            Incoming::Stream(stream) => stream.is_idle(),
            Incoming::Ring(ring) => {
                if !inner.armed_before {
                    // The answer makes the descriptor readable once, which covers all earlier messages.
                    let _ = inner.client.send(ControlMessage::Armed, inner.token);
                    inner.armed_before = true;
                }
                let connected = inner.client.drain();
                Ok(ring.arm()? && connected)
            }
        }
    }

    /// Tells the sender that this receiver has everything. Call it after the end, and only with
    /// [`ReceiverOptions::confirms`]: without that, reading the end confirms. Only the first call counts.
    pub fn confirm(&mut self) {
        self.part(DisconnectReason::Done);
    }

    /// Tells the sender that the receiver failed, and leaves the channel.
    pub fn give_up(&mut self) {
        self.part(DisconnectReason::Failed);
    }

    fn part(&mut self, how: DisconnectReason) {
        if let Ok(inner) = self.here()
            && !std::mem::replace(&mut inner.parted, true)
        {
            let _ = inner.client.send(ControlMessage::Disconnect(how), inner.token);
        }
    }

    /// Receives the next message and passes it to `take`, which may use it only while it runs. With `gathers` it may be
    /// several short messages.
    pub(crate) fn take<T, E: From<ReceiveError>>(
        &mut self,
        deadline: Deadline,
        gathers: bool,
        take: impl FnOnce(Payload<'_>) -> Result<T, E>,
    ) -> Result<Taken<T>, E> {
        let inner = self.here()?;
        if let Some(end) = inner.end {
            return Ok(Taken::End(end));
        }
        let taken = inner.incoming.take(Some(&inner.client), deadline, gathers, take)?;
        if let Taken::End(end) = taken {
            inner.end = Some(end);
            if !inner.confirms {
                self.confirm();
            }
        }
        Ok(taken)
    }

    fn here(&mut self) -> Result<&mut Inner, ReceiveError> {
        match self.born.has_forked() {
            true => Err(ReceiveError::Forked),
            false => Ok(&mut self.inner),
        }
    }
}

impl From<Taken<Received>> for Received {
    fn from(taken: Taken<Received>) -> Self {
        match taken {
            Taken::Payload(received) => received,
            Taken::End(end) => Self::End(end),
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.inner.incoming {
            Incoming::Ring(_) => self.inner.client.as_fd(),
            Incoming::Stream(stream) => stream.as_fd(),
        }
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("end", &self.inner.end).finish_non_exhaustive()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The seat and the connection of a forked child are its parent's.
        if !self.born.has_forked() {
            self.part(DisconnectReason::Left);
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}

fn copy(payload: Payload<'_>, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
    match payload {
        Payload::Hole(length) => Ok(Received::Hole(length)),
        Payload::Bytes(bytes) => match buffer.get_mut(..bytes.len()) {
            Some(buffer) => {
                buffer.copy_from_slice(bytes);
                Ok(Received::Bytes(bytes.len()))
            }
            None => Err(ReceiveError::TooLong { length: bytes.len() }),
        },
        Payload::Shared(payload) => match payload.copy_to(buffer) {
            Ok(length) => Ok(Received::Bytes(length)),
            Err(length) => Err(ReceiveError::TooLong { length }),
        },
    }
}
