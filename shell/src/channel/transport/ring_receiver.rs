//! The receiver's end of the shared-memory ring.

use crate::channel::error::ReceiveError;
use crate::channel::transport::payload::{Deadline, Payload, Taken};
use crate::os::ofd_lock::ByteLocks;
use crate::registry::Client;
use crate::shm::ring::SharedRing;
use whorl_core::error::ReadError;
use whorl_core::host::Host;
use whorl_core::ring::{Batch, ByteReader, Frame, Kind, Parts, Receiver as CoreReceiver};

/// A seat in a ring. The fields are dropped in this order: the receiver leaves its seat, and then unlocks the seat's
/// byte.
pub(crate) struct RingReceiver {
    receiver: CoreReceiver<SharedRing>,
    _seat: ByteLocks,
    /// A copy of messages: of one in a ring that evicts, made before the receiver has checked that it is whole; of several
    /// short ones that are passed on together.
    scratch: Vec<u8>,
}

impl RingReceiver {
    /// Returns a receiver that was admitted. `seat` holds the byte of its seat.
    pub(crate) fn new(receiver: CoreReceiver<SharedRing>, seat: ByteLocks) -> Self {
        Self { receiver, _seat: seat, scratch: Vec::new() }
    }

    /// Returns the ring.
    pub(crate) fn ring(&self) -> &SharedRing {
        self.receiver.parts()
    }

    /// Announces that this receiver is about to sleep in an event loop. Returns `false` if there is something to
    /// receive.
    pub(crate) fn arm(&mut self) -> Result<bool, ReceiveError> {
        match self.receiver.arm() {
            Err(ReadError::Ended(_)) => Ok(false),
            other => other.map_err(from_core),
        }
    }

    /// Passes the next payload to `take`. If `take` refuses a payload, the next call passes it again. With `gathers` the
    /// payload may consist of several short messages that lie there.
    pub(crate) fn take<T, E: From<ReceiveError>>(
        &mut self,
        client: Option<&Client>,
        deadline: Deadline,
        gathers: bool,
        take: impl FnOnce(Payload<'_>) -> Result<T, E>,
    ) -> Result<Taken<T>, E> {
        let evictable = self.ring().geometry().is_evictable();
        let batch = match deadline {
            Deadline::Until(deadline) => self.receiver.read(deadline),
            Deadline::Now => {
                // Checks the sender's state before the ring, because messages that a dying sender published before its
                // connection closed still count.
                let is_closed = client.is_some_and(|client| !client.drain());
                let is_dead = is_closed && self.receiver.parts().host().owner_is_dead();
                match self.receiver.try_read() {
                    Err(ReadError::Empty) if is_dead => Err(ReadError::SenderDied),
                    other => other,
                }
            }
        };
        let mut batch = match batch {
            Ok(batch) => batch,
            Err(ReadError::Ended(end)) => return Ok(Taken::End(end)),
            Err(error) => return Err(from_core(error).into()),
        };
        let taken = match evictable {
            true => take_copied(&mut batch, &mut self.scratch, take),
            false if gathers && gather(&mut batch, &mut self.scratch)? => take(Payload::Bytes(&self.scratch)),
            false => take_in_place(&mut batch, take),
        }?;
        // Also in a ring that does not evict. A program that closes all its descriptors loses its seat's lock and
        // counts as dead. Another receiver may have its seat by now, and must not lose its position.
        if !batch.validate() {
            return Err(ReceiveError::Evicted.into());
        }
        batch.release();
        Ok(Taken::Payload(taken))
    }
}

/// Copies the short messages at the beginning of a batch to `scratch`, so that one system call writes them all. Returns
/// `false` if the batch begins with something else.
fn gather(batch: &mut Batch<'_, SharedRing>, scratch: &mut Vec<u8>) -> Result<bool, ReceiveError> {
    /// A longer message is worth a system call of its own.
    const SHORT: usize = 4096;
    /// The bytes after which a receiver writes what it has, so that the sender gets the room back.
    const ENOUGH: usize = 1 << 16;
    scratch.clear();
    let mut has_some = false;
    while scratch.len() < ENOUGH {
        let Some(frame) = batch.next_frame().map_err(from_core)? else { break };
        let length = frame.payload().len();
        if frame.kind() != Kind::Message || length > SHORT {
            batch.put_back();
            break;
        }
        let start = scratch.len();
        scratch.resize(start + length, 0);
        frame.payload().copy_to(&mut scratch[start..]).map_err(|_| ReceiveError::Corrupt)?;
        has_some = true;
    }
    Ok(has_some)
}

fn take_in_place<T, E: From<ReceiveError>>(
    batch: &mut Batch<'_, SharedRing>,
    take: impl FnOnce(Payload<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let frame = next_frame(batch)?;
    match frame.kind() {
        Kind::Message => take(Payload::Shared(frame.payload())),
        Kind::Hole(length) => take(Payload::Hole(length)),
    }
}

/// Copies first and then checks whether the copy is whole, because the sender may have continued without this receiver.
fn take_copied<T, E: From<ReceiveError>>(
    batch: &mut Batch<'_, SharedRing>,
    scratch: &mut Vec<u8>,
    take: impl FnOnce(Payload<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let frame = next_frame(batch)?;
    let (kind, payload) = (frame.kind(), frame.payload());
    scratch.resize(payload.len(), 0);
    let copied = payload.copy_to(scratch);
    // This check comes before any use of the bytes.
    if !batch.validate() {
        return Err(ReceiveError::Evicted.into());
    }
    match (kind, copied) {
        (Kind::Hole(length), _) => take(Payload::Hole(length)),
        (Kind::Message, Ok(_)) => take(Payload::Bytes(scratch)),
        (Kind::Message, Err(_)) => Err(ReceiveError::Corrupt.into()),
    }
}

/// Returns the first frame of a batch, which an honest sender has published there.
fn next_frame<'b>(batch: &'b mut Batch<'_, SharedRing>) -> Result<Frame<ByteReader<'b>>, ReceiveError> {
    batch.next_frame().map_err(from_core)?.ok_or(ReceiveError::Corrupt)
}

fn from_core(error: ReadError) -> ReceiveError {
    match error {
        ReadError::Empty => ReceiveError::Empty,
        ReadError::SenderDied => ReceiveError::SenderDied,
        ReadError::Evicted => ReceiveError::Evicted,
        ReadError::TimedOut => ReceiveError::TimedOut,
        ReadError::Interrupted => ReceiveError::Interrupted,
        ReadError::Corrupt | ReadError::Ended(_) => ReceiveError::Corrupt,
    }
}
