//! A receiver of a channel with a name.

use super::error::{JoinError, ReceiveError};
use super::join::{Attempt, attempt};
use super::options::ReceiverOptions;
use crate::channel::transport::stream::Stream;
use crate::os::close_on_fork::ForkId;
use crate::os::deadline;
use crate::os::error::cannot;
use crate::os::ofd_lock::ByteLocks;
use crate::registry::protocol::{ControlMessage, DisconnectReason, Token};
use crate::registry::{Changes, Client, ConnectError, Ended, Name, RuntimeDir, WaitFile};
use crate::shm::ring::SharedRing;
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};
use whorl_core::error::{End, ReadError};
use whorl_core::host::Host;
use whorl_core::ring::{Batch, ByteReader, Kind, Parts, Receiver as CoreReceiver};

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

/// What was received, still where it lies.
pub(crate) enum Payload<'a> {
    /// Bytes of our own.
    Bytes(&'a [u8]),
    /// Bytes in a slot, which a hostile sender may change: for the kernel to read.
    Raw(&'a ByteReader<'a>, usize),
    /// So many zero bytes.
    Hole(u64),
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

/// Fields are dropped in this order: leave the seat, then give its byte back, then hang up.
struct Inner {
    way: Way,
    client: Client,
    token: Token,
    end: Option<End>,
    confirms: bool,
    /// Whether the caller wants holes as such.
    holes: bool,
    /// Zero bytes of the last hole that the caller has not received yet.
    hole_left: u64,
    parted: bool,
    armed_before: bool,
    /// For rings that evict: what was copied out of a slot and then vouched for.
    scratch: Vec<u8>,
}

/// How its bytes come.
pub(super) enum Way {
    Ring { receiver: CoreReceiver<SharedRing>, _seat: ByteLocks },
    Stream(Stream),
}

impl Receiver {
    /// Joins the channel of this name, with the default options.
    ///
    /// # Blocking
    /// Until a sender owns the name and admits the receiver, or a signal comes. If the sender dies before it admits the
    /// receiver, the receiver waits for the next sender.
    ///
    /// # Errors
    /// Why the receiver did not join.
    pub fn join(name: &Name) -> Result<Self, JoinError> {
        ReceiverOptions::new().join(name)
    }

    /// Starts the options of a join.
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
            let attempt = || attempt(directory, name, options, token, deadline);
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
        attempt: impl Fn() -> Result<Attempt, JoinError>,
        waiting: &mut Option<impl FnOnce()>,
    ) -> Result<Option<Self>, JoinError> {
        if let Attempt::Joined(receiver) = attempt()? {
            return Ok(Some(*receiver));
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
                Attempt::Joined(receiver) => return Ok(Some(*receiver)),
                Attempt::NotYet { refused } => refused,
            };
            // The mark of `shell rm` comes before the removal.
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

    /// Joins only if somebody owns the name and lets us in now.
    pub(crate) fn join_now(
        token: Token,
        directory: &RuntimeDir,
        name: &Name,
        options: &ReceiverOptions,
    ) -> Result<Self, JoinError> {
        let deadline = options.timeout.map(deadline::after);
        match attempt(directory, name, options, token, deadline)? {
            Attempt::Joined(receiver) => Ok(*receiver),
            Attempt::NotYet { .. } => Err(ConnectError::NotFound.into()),
        }
    }

    /// The length of the longest possible message, and so the least buffer that takes every message.
    pub fn max_message_len(&self) -> usize {
        match &self.inner.way {
            Way::Ring { receiver, .. } => receiver.parts().slots().size(),
            Way::Stream(_) => Stream::LONGEST,
        }
    }

    /// The channel's number, which tells it from other channels of the same name; 0 if it is a socket channel.
    pub fn id(&self) -> u64 {
        match &self.inner.way {
            Way::Ring { receiver, .. } => receiver.parts().nonce(),
            Way::Stream(_) => 0,
        }
    }

    /// A receiver that was let in.
    pub(super) fn new(
        way: Way,
        client: Client,
        token: Token,
        options: &ReceiverOptions,
        born: ForkId,
    ) -> Self {
        let inner = Inner {
            way,
            client,
            token,
            end: None,
            confirms: options.confirms,
            holes: options.holes,
            hole_left: 0,
            parted: false,
            armed_before: false,
            scratch: Vec::new(),
        };
        Self { inner: ManuallyDrop::new(inner), born }
    }

    /// Receives the next message.
    ///
    /// # Blocking
    /// Until the sender sends or ends, or a signal comes. If the sender dies, the receiver receives every message that was
    /// sent, and then an error within 50 ms.
    ///
    /// # Errors
    /// Why there is no next message. [`ReceiveError::TooLong`] leaves the message in place, for a longer buffer.
    pub fn recv(&mut self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        self.recv_into(buffer, Deadline::Until(None))
    }

    /// Receives the next message if it is there. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError::Empty`], or as for [`recv`](Self::recv).
    pub fn try_recv(&mut self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        self.recv_into(buffer, Deadline::Now)
    }

    /// Receives the next message, and waits for it at most this long.
    ///
    /// # Errors
    /// [`ReceiveError::TimedOut`], or as for [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<Received, ReceiveError> {
        self.recv_into(buffer, Deadline::Until(Some(deadline::after(timeout))))
    }

    /// Receives the next message, and waits for it until this time.
    ///
    /// # Errors
    /// [`ReceiveError::TimedOut`], or as for [`recv`](Self::recv).
    pub fn recv_deadline(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<Received, ReceiveError> {
        self.recv_into(buffer, Deadline::Until(Some(deadline)))
    }

    fn recv_into(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<Received, ReceiveError> {
        let longest = self.max_message_len();
        let inner = self.here()?;
        if inner.hole_left == 0 {
            match self.take(deadline, |payload| copy(payload, buffer))? {
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
    /// Why nothing more will come.
    pub fn arm(&mut self) -> Result<bool, ReceiveError> {
        let inner = self.here()?;
        if inner.end.is_some() || inner.hole_left > 0 {
            return Ok(false);
        }
        match &mut inner.way {
            Way::Stream(stream) => stream.is_idle(),
            Way::Ring { receiver, .. } => {
                if !inner.armed_before {
                    // Its answer makes the descriptor readable once, which covers all that came before.
                    let _ = inner.client.say(ControlMessage::Armed, inner.token);
                    inner.armed_before = true;
                }
                let connected = inner.client.listen();
                match receiver.arm() {
                    Ok(armed) => Ok(armed && connected),
                    Err(ReadError::Ended(_)) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Tells the sender that this receiver has everything. Call it after the end; only the first call counts. It has an effect
    /// only with [`ReceiverOptions::confirms`].
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
            let _ = inner.client.say(ControlMessage::Bye(how), inner.token);
        }
    }

    /// Receives the next message into `take`, which has it only while it runs.
    pub(crate) fn take<E: From<ReceiveError>>(
        &mut self,
        deadline: Deadline,
        take: impl FnOnce(Payload<'_>) -> Result<Received, E>,
    ) -> Result<Received, E> {
        let inner = self.here()?;
        if let Some(end) = inner.end {
            return Ok(Received::End(end));
        }
        let received = match &mut inner.way {
            Way::Ring { receiver, .. } => {
                from_ring(receiver, &inner.client, &mut inner.scratch, deadline, take)?
            }
            Way::Stream(stream) => stream.take(&inner.client, deadline, take)?,
        };
        if let Received::End(end) = received {
            inner.end = Some(end);
            if !inner.confirms {
                self.confirm();
            }
        }
        Ok(received)
    }

    fn here(&mut self) -> Result<&mut Inner, ReceiveError> {
        match self.born.has_forked() {
            true => Err(ReceiveError::Forked),
            false => Ok(&mut self.inner),
        }
    }
}

/// Until when to wait for a message.
#[derive(Clone, Copy)]
pub(crate) enum Deadline {
    Now,
    Until(Option<Instant>),
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.inner.way {
            Way::Ring { .. } => self.inner.client.as_fd(),
            Way::Stream(stream) => stream.as_fd(),
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
        Payload::Raw(item, _) => match item.copy_to(buffer).map_err(|_| ReceiveError::Corrupt)? {
            Ok(length) => Ok(Received::Bytes(length)),
            Err(length) => Err(ReceiveError::TooLong { length }),
        },
    }
}

fn from_ring<E: From<ReceiveError>>(
    receiver: &mut CoreReceiver<SharedRing>,
    client: &Client,
    scratch: &mut Vec<u8>,
    deadline: Deadline,
    take: impl FnOnce(Payload<'_>) -> Result<Received, E>,
) -> Result<Received, E> {
    let evictable = receiver.parts().geometry().is_evictable();
    let run = match deadline {
        Deadline::Until(until) => receiver.read(until),
        Deadline::Now => {
            // Looked at before: what a dying sender published before its connection went still counts.
            let dead = !client.listen() && receiver.parts().host().owner_is_dead();
            match receiver.try_read() {
                Err(ReadError::Empty) if dead => Err(ReadError::SenderDied),
                other => other,
            }
        }
    };
    let run = match run {
        Ok(run) => run,
        Err(ReadError::Ended(end)) => return Ok(Received::End(end)),
        Err(error) => return Err(ReceiveError::from(error).into()),
    };
    let received = match evictable {
        true => take_copied(&run, scratch, take),
        false => take_in_place(&run, take),
    }?;
    // Also where nobody is evicted: a program that closes all its descriptors gives up its seat's lock and counts as dead.
    // Its seat may be another receiver's by now, whose position must not be overwritten.
    if !run.validate() {
        return Err(ReceiveError::Evicted.into());
    }
    run.release(1);
    Ok(received)
}

fn take_in_place<E: From<ReceiveError>>(
    run: &Batch<'_, SharedRing>,
    take: impl FnOnce(Payload<'_>) -> Result<Received, E>,
) -> Result<Received, E> {
    let item = run.item(0);
    match item.kind().map_err(|_| ReceiveError::Corrupt)? {
        (Kind::Bytes, length) => take(Payload::Raw(&item, length)),
        (Kind::Hole(length), _) => take(Payload::Hole(length)),
    }
}

/// Copies first, then asks whether the copy is whole: the sender may have gone on without us meanwhile.
fn take_copied<E: From<ReceiveError>>(
    run: &Batch<'_, SharedRing>,
    scratch: &mut Vec<u8>,
    take: impl FnOnce(Payload<'_>) -> Result<Received, E>,
) -> Result<Received, E> {
    let item = run.item(0);
    let whole = || if run.validate() { Ok(()) } else { Err(ReceiveError::Evicted) };
    let kind = item.kind();
    let length = match kind {
        Ok((Kind::Bytes, length)) => length,
        _ => 0,
    };
    scratch.resize(length, 0);
    let copied = item.copy_to(scratch);
    whole()?; // before anything else is believed
    match (kind.map_err(|_| ReceiveError::Corrupt)?, copied) {
        ((Kind::Hole(length), _), _) => take(Payload::Hole(length)),
        (_, Ok(Ok(_))) => take(Payload::Bytes(scratch)),
        _ => Err(ReceiveError::Corrupt.into()),
    }
}

impl From<ReadError> for ReceiveError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Empty => Self::Empty,
            ReadError::SenderDied => Self::SenderDied,
            ReadError::Evicted => Self::Evicted,
            ReadError::TimedOut => Self::TimedOut,
            ReadError::Interrupted => Self::Interrupted,
            ReadError::Corrupt | ReadError::Ended(_) => Self::Corrupt,
        }
    }
}
