//! The ring's operations, in two settings: a [receiver] is killed, beside a sender and another receiver that continue;
//! and a [sender] is killed, beside a receiver that must get exactly what was published.
//!
//! The tester acts as the sender's control thread: it admits receivers, and reclaims those that it has seen die.

mod receiver;
mod sender;

use super::peers::{Fault, loss, retry};
use super::sweep::{CaseResult, Operation};
use receiver::{KilledReceiver, Receiving};
use sender::{KilledSender, Sending};
use std::time::Instant;
use whorl::internal::os::ofd_lock::ByteLocks;
use whorl::internal::shm::liveness::Owner;
use whorl::internal::shm::ring::{Segment, SharedRing};
use whorl_core::error::ReadError;
use whorl_core::layout::Geometry;
use whorl_core::ring::{ClaimSize, PendingReceiver, Receiver};

/// The bytes of a message. Its frame takes a quarter of the ring.
pub const LENGTH: u32 = 56;
pub const SIZE: ClaimSize = ClaimSize::exactly(LENGTH);
/// How many messages fill the ring.
const FULL: u64 = 4;
/// Messages published before the operation, unless the sender is to fill the ring.
const BEFORE: u64 = 2;
/// Messages published after the death.
const AFTER: u64 = 6;

const VICTIM: u32 = 0;
const WITNESS: u32 = 1;

// The words by which tester, sender and witness synchronise.
const OWNED: usize = 0;
const JOINED: usize = 1;
const FILL: usize = 2;
const FILLED: usize = 3;
const GO: usize = 4;

pub fn geometry() -> Geometry {
    Geometry::new(256, 4).expect("a possible ring")
}

/// A message that shows whether it is whole, and its number.
pub fn message(number: u64) -> [u8; LENGTH as usize] {
    let mut bytes = [0; LENGTH as usize];
    for (word, i) in bytes.chunks_exact_mut(8).zip(0u64..) {
        let value = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(i as u32 * 7) ^ i;
        word.copy_from_slice(&if i == 0 { number } else { value }.to_le_bytes());
    }
    bytes
}

/// The number of a whole message.
pub fn number_of(bytes: &[u8]) -> Result<u64, Fault> {
    let number = bytes.first_chunk().map(|first| u64::from_le_bytes(*first));
    match number.filter(|&number| message(number) == bytes) {
        Some(number) => Ok(number),
        None => loss(format!("a torn message: {bytes:02x?}")),
    }
}

/// Takes a receiver's seat: its own view of the ring, its own locks, and its seat's byte.
pub fn sit(segment: &Segment, seat: u32) -> Result<(SharedRing, ByteLocks), Fault> {
    let ring = match segment.attach(Owner::LockHolder) {
        Ok(ring) => ring,
        Err(error) => return loss(format!("cannot attach: {error}")),
    };
    let locks = segment.byte_locks().map_err(|error| Fault::Loss(error.to_string()))?;
    let held = retry("the seat's byte", |_| locks.try_lock(seat).is_ok_and(|held| held).then_some(()));
    held.map(|()| (ring, locks))
}

pub fn request_seat(
    ring: SharedRing,
    seat: u32,
    from_first: bool,
) -> Result<PendingReceiver<SharedRing>, Fault> {
    PendingReceiver::request_seat(ring, seat, from_first, 0)
        .map_err(|error| Fault::Loss(format!("seat {seat}: {error}")))
}

/// Reads what is there, checks that it follows what was read before, and gives it back. Returns `None` when one try's
/// patience ends.
pub fn take(
    receiver: &mut Receiver<SharedRing>,
    next: &mut Option<u64>,
    deadline: Option<Instant>,
) -> Result<Option<Result<(), ReadError>>, Fault> {
    let mut batch = match receiver.read(deadline) {
        Ok(batch) => batch,
        Err(ReadError::TimedOut) => return Ok(None),
        Err(why) => return Ok(Some(Err(why))),
    };
    loop {
        let frame = match batch.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(why) => return loss(format!("a frame after message {next:?}: {why}")),
        };
        let mut bytes = vec![0; frame.payload().len()];
        let _ = frame.payload().copy_to(&mut bytes);
        let number = number_of(&bytes)?;
        if let Some(next) = next.filter(|next| *next != number) {
            return loss(format!("message {number} where {next} was to come"));
        }
        *next = Some(number + 1);
    }
    batch.release();
    Ok(Some(Ok(())))
}

/// Reads until the stream ends, and returns how it ended.
pub fn drain(receiver: &mut Receiver<SharedRing>, next: &mut Option<u64>) -> Result<ReadError, Fault> {
    loop {
        let mut outcome = Ok(());
        let met = retry("a receiver that waits for messages", |deadline| {
            match take(receiver, next, Some(deadline)) {
                Ok(None) => None,
                Ok(Some(met)) => Some(Some(met)),
                Err(fault) => {
                    outcome = Err(fault);
                    Some(None)
                }
            }
        })?;
        outcome?;
        if let Some(Err(why)) = met {
            return Ok(why);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// All others wait for the end of the operation, but not on the ring.
    Alone,
    /// One process sleeps on the ring: the sender, because the ring is full, if a receiver is killed; a receiver, if
    /// the sender is killed.
    Sleeper,
    /// One process uses the ring all the time.
    Busy,
}

const STATES: [(State, &str); 3] =
    [(State::Alone, "alone"), (State::Sleeper, "one sleeps"), (State::Busy, "one is busy")];

/// All operations, in all states.
pub fn operations() -> Vec<Operation> {
    let receiving = [
        ("join: ask", Receiving::Ask),
        ("join: take part", Receiving::TakePart),
        ("read", Receiving::Read),
        ("arm", Receiving::Arm),
        ("release", Receiving::Release),
        ("leave", Receiving::Leave),
    ];
    let sending = [
        ("claim", Sending::Claim),
        ("claim: ring full", Sending::ClaimFull),
        ("publish", Sending::Publish),
        ("admit", Sending::Admit),
        ("close", Sending::Close),
        ("abandon", Sending::Abandon),
        ("reclaim a receiver", Sending::Reclaim),
    ];
    let mut all = Vec::new();
    for (state, said) in STATES {
        for (name, kind) in receiving {
            let make = move || -> CaseResult { Ok(Box::new(KilledReceiver::new(kind, state)?)) };
            all.push(Operation { name, state: said, stops: false, make: Box::new(make) });
        }
        for (name, kind) in sending {
            let make = move || -> CaseResult { Ok(Box::new(KilledSender::new(kind, state))) };
            all.push(Operation { name, state: said, stops: false, make: Box::new(make) });
        }
    }
    all
}
