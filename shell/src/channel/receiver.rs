//! A receiver of a channel with a name.

use super::error::{JoinError, ReceiveError};
use super::join::{Attempt, attempt};
use crate::channel::transport::incoming::Incoming;
use crate::channel::transport::payload::{Payload, ReceiveWait, Taken};
use crate::channel::transport::stream::Stream;
use crate::os::close_on_fork::ForkId;
use crate::os::deadline;
use crate::os::error::cannot;
use crate::registry::protocol::{ControlMessage, DisconnectReason, Start, Token};
use crate::registry::{Changes, Client, ConnectError, Ended, Name, RuntimeDir, WaitFile};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};
use whorl_core::error::End;
use whorl_core::ring::Parts;

/// How a channel is joined.
#[derive(Clone, Debug, Default)]
pub struct JoinOptions {
    /// Where in the stream to begin.
    pub from: Start,
    /// How long to wait for a sender to come and to let us in; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Whether the caller tells the sender by [`Receiver::confirm`] that it has everything, once that is so. Otherwise
    /// reading the end does.
    pub confirms: bool,
}

/// What was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// So many bytes, at the start of the buffer.
    Bytes(usize),
    /// So many zero bytes.
    Hole(u64),
    /// The end: everything was received.
    End(End),
}

/// A receiver of a channel. It gets every byte in order, or an error; the end is only ever what the sender said it is.
///
/// Dropping it early leaves the channel, and the sender goes on without it. It belongs to the process that made it: in a
/// forked child every call answers [`ReceiveError::Forked`].
///
/// In an event loop: wait until [`as_fd`](AsFd::as_fd) is readable, but only after [`arm`](Self::arm) said that there is
/// nothing to receive just now.
///
/// ```no_run
/// use whorl::{JoinOptions, Received, Receiver};
///
/// let mut receiver = Receiver::join(&"ticker".parse()?, &JoinOptions::default())?;
/// let mut message = vec![0; receiver.longest()];
/// while let Received::Bytes(length) = receiver.receive(&mut message, None)? {
///     println!("{}", String::from_utf8_lossy(&message[..length]));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver {
    inner: ManuallyDrop<Inner>,
    born: ForkId,
}

/// Fields are dropped in this order: leave the seat, then give its byte back, then hang up.
struct Inner {
    incoming: Incoming,
    client: Client,
    token: Token,
    end: Option<End>,
    confirms: bool,
    parted: bool,
    armed_before: bool,
}

impl Receiver {
    /// Joins the channel of this name, in the user's runtime directory.
    ///
    /// # Blocking
    /// Until a sender owns the name and lets us in, the timeout of the options passes, or a signal comes. If it dies
    /// before it let us in, the wait goes on for the next one.
    ///
    /// # Errors
    /// Why there is no joining.
    pub fn join(name: &Name, options: &JoinOptions) -> Result<Self, JoinError> {
        Self::join_in(&RuntimeDir::open()?, name, options, || ())
    }

    /// The same, in a given directory; `waiting` is called once if nobody owns the name yet.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn join_in(
        directory: &RuntimeDir,
        name: &Name,
        options: &JoinOptions,
        waiting: impl FnOnce(),
    ) -> Result<Self, JoinError> {
        Self::join_as(Token::default(), directory, name, options, waiting)
    }

    /// The same, as part of a run that this token tells from others.
    pub(crate) fn join_as(
        token: Token,
        directory: &RuntimeDir,
        name: &Name,
        options: &JoinOptions,
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
            // Senders that come now are found in another directory.
            replaced = Some(directory.reopen()?);
        }
    }

    /// Waits for an owner in this directory; nothing if the directory was removed or replaced.
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
        // Listen first, then look again: nobody who comes in between is missed.
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
            // The mark of `shell rm` comes before the removal.
            if file.is_removed() && file.is_dismissed() {
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

    /// Joins only if somebody owns the name and lets us in now.
    pub(crate) fn join_now(
        token: Token,
        directory: &RuntimeDir,
        name: &Name,
        options: &JoinOptions,
    ) -> Result<Self, JoinError> {
        let deadline = options.timeout.map(deadline::after);
        match Self::attempt(directory, name, options, token, deadline)? {
            Attempt::Joined(receiver) => Ok(receiver),
            Attempt::NotYet { .. } => Err(ConnectError::NotFound.into()),
        }
    }

    /// The longest message there can be: what a buffer must hold.
    pub fn longest(&self) -> usize {
        match &self.inner.incoming {
            Incoming::Ring(ring) => ring.ring().slots().size(),
            Incoming::Stream(_) => Stream::MAX_PAYLOAD,
        }
    }

    /// What tells this channel from others of the same name; 0 if it is no ring.
    pub fn id(&self) -> u64 {
        match &self.inner.incoming {
            Incoming::Ring(ring) => ring.ring().nonce(),
            Incoming::Stream(_) => 0,
        }
    }

    /// Tries once to join.
    fn attempt(
        directory: &RuntimeDir,
        name: &Name,
        options: &JoinOptions,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<Attempt<Self>, JoinError> {
        let born = ForkId::current();
        Ok(match attempt(directory, name, options.from, token, deadline)? {
            Attempt::NotYet { refused } => Attempt::NotYet { refused },
            Attempt::Joined((incoming, client)) => {
                let confirms = options.confirms;
                let inner = Inner {
                    incoming,
                    client,
                    token,
                    end: None,
                    confirms,
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
    /// Until the sender sends or ends, the deadline passes or a signal comes. If the sender dies, everything it sent is
    /// received first, then this says so, within a twentieth of a second.
    ///
    /// # Errors
    /// Why there is no next message.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<Received, ReceiveError> {
        self.take(ReceiveWait::Until(deadline), |payload| copy(payload, buffer)).map(Received::from)
    }

    /// Receives the next message if it is there.
    ///
    /// # Errors
    /// [`ReceiveError::Empty`], or as [`receive`](Self::receive).
    pub fn try_receive(&mut self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        self.take(ReceiveWait::Never, |payload| copy(payload, buffer)).map(Received::from)
    }

    /// Announces that this receiver is about to wait in an event loop, until its descriptor is readable. True: it may do
    /// so now. False: there is something to receive already.
    ///
    /// # Errors
    /// Why there will never be anything to receive.
    pub fn arm(&mut self) -> Result<bool, ReceiveError> {
        let inner = self.here()?;
        if inner.end.is_some() {
            return Ok(false);
        }
        match &mut inner.incoming {
            Incoming::Stream(stream) => stream.is_idle(),
            Incoming::Ring(ring) => {
                if !inner.armed_before {
                    // Its answer makes the descriptor readable once, which covers all that came before.
                    let _ = inner.client.say(ControlMessage::Armed, inner.token);
                    inner.armed_before = true;
                }
                let connected = inner.client.listen();
                Ok(ring.arm()? && connected)
            }
        }
    }

    /// Tells the sender that we have everything. Only after the end was received, and only once does it count.
    pub fn confirm(&mut self) {
        self.part(DisconnectReason::Done);
    }

    /// Tells the sender that something failed on our side.
    pub fn give_up(&mut self) {
        self.part(DisconnectReason::Failed);
    }

    fn part(&mut self, how: DisconnectReason) {
        if let Ok(inner) = self.here()
            && !std::mem::replace(&mut inner.parted, true)
        {
            let _ = inner.client.say(ControlMessage::Bye(how), inner.token);
        }
    }

    /// Receives the next message into `take`, which has it only while it runs.
    pub(crate) fn take<T, E: From<ReceiveError>>(
        &mut self,
        wait: ReceiveWait,
        take: impl FnOnce(Payload<'_>) -> Result<T, E>,
    ) -> Result<Taken<T>, E> {
        let inner = self.here()?;
        if let Some(end) = inner.end {
            return Ok(Taken::End(end));
        }
        let taken = inner.incoming.take(Some(&inner.client), wait, take)?;
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

impl Drop for Receiver {
    fn drop(&mut self) {
        // A forked child's seat and connection are its parent's.
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
        Payload::Slot(item, _) => match item.copy_to(buffer).map_err(|_| ReceiveError::Corrupt)? {
            Ok(length) => Ok(Received::Bytes(length)),
            Err(length) => Err(ReceiveError::TooLong { length }),
        },
    }
}
