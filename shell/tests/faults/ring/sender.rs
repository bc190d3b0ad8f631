//! A sender that is killed, and the receiver that it leaves.

use super::super::peers::{Fault, Outcome, Peer, Words, ensure, loss, retry};
use super::super::steps::{operation, pause};
use super::super::sweep::Case;
use super::{
    BEFORE, FILL, FILLED, FULL, GO, JOINED, LENGTH, SIZE, State, VICTIM, WITNESS, drain, geometry, message,
    request_seat, sit, take,
};
use std::hint::black_box;
use std::time::{Duration, Instant};
use whorl::internal::os::ofd_lock::ByteLocks;
use whorl::internal::shm::liveness::{OWNER, Owner};
use whorl::internal::shm::ring::{Segment, SharedRing};
use whorl_core::error::{End, JoinError, ReadError};
use whorl_core::ring::PendingReceiver;

/// What a sender is killed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    Claim,
    ClaimFull,
    Publish,
    Admit,
    Close,
    Abandon,
    Reclaim,
}

/// A sender that is killed.
pub struct KilledSender {
    operation: Sending,
    state: State,
    words: Words,
    segment: Segment,
    witness: Option<Peer>,
    /// A seat's byte that only a dead process ever held.
    pending: Option<(PendingReceiver<SharedRing>, ByteLocks)>,
}

impl KilledSender {
    pub fn new(operation: Sending, state: State) -> Self {
        let segment = Segment::reserve(geometry()).expect("a segment");
        Self { operation, state, words: Words::new(), segment, witness: None, pending: None }
    }
}

impl Case for KilledSender {
    fn victim(&mut self) {
        let ring = self.segment.own(geometry()).expect("a ring");
        let locks = self.segment.byte_locks().expect("locks");
        assert_eq!(locks.try_lock(OWNER), Ok(true));
        let (mut sender, membership) = ring.into_sender();
        pause();
        membership.admit_all();
        let before = if self.operation == Sending::ClaimFull { FULL } else { BEFORE };
        for number in 0..before {
            let mut claim = sender.try_claim(SIZE).expect("there is room");
            claim.writer().write(&message(number));
            claim.publish(LENGTH);
        }
        pause();
        match self.operation {
            Sending::Claim => operation(|| {
                let mut claim = sender.try_claim(SIZE).expect("there is room");
                claim.writer().write(&message(before));
                black_box(claim.len());
            }),
            Sending::ClaimFull => operation(|| {
                let soon = Instant::now() + Duration::from_millis(1);
                black_box(sender.claim(SIZE, Some(soon)).is_ok());
            }),
            Sending::Publish => {
                let mut claim = sender.try_claim(SIZE).expect("there is room");
                claim.writer().write(&message(before));
                operation(|| claim.publish(LENGTH));
            }
            Sending::Admit => _ = black_box(operation(|| membership.admit_all())),
            Sending::Close => {
                operation(|| sender.close(End { total: before * u64::from(LENGTH), checksum: Some([7; 16]) }))
            }
            Sending::Abandon => operation(|| drop(sender)),
            Sending::Reclaim => _ = black_box(operation(|| membership.reclaim_dead())),
        }
    }

    fn at_pause(&mut self, number: u32) -> Outcome {
        if number == 0 {
            let (segment, words, state, operation) = (&self.segment, self.words, self.state, self.operation);
            self.witness = Some(Peer::fork("the witness", || survivor(segment, words, state, operation)));
            return self.words.wait(JOINED, "the witness");
        }
        if matches!(self.operation, Sending::Admit | Sending::Reclaim) {
            // A receiver asks for a seat. For the reclamation it is dead before it is admitted.
            let (ring, locks) = sit(&self.segment, VICTIM)?;
            let pending = request_seat(ring, VICTIM, false)?;
            if self.operation == Sending::Reclaim {
                locks.unlock(VICTIM);
            }
            self.pending = Some((pending, locks));
        }
        self.words.set(FILLED, 1);
        match self.state {
            State::Sleeper => {
                self.words.wait(GO, "the witness has read").and_then(|()| self.witness().asleep())
            }
            _ => Ok(()),
        }
    }

    fn survive(mut self: Box<Self>) -> Outcome {
        self.words.set(FILL, 1);
        let witness = self.witness.take().expect("it was started");
        // No receiver is admitted any more, and none waits for that without end.
        let (ring, _locks) = sit(&self.segment, 3)?;
        let mut pending = Some(request_seat(ring, 3, true)?);
        let met = retry("a new receiver waits to be admitted", |deadline| {
            let again = pending.take().or_else(|| {
                let ring = self.segment.attach(Owner::LockHolder).ok()?;
                PendingReceiver::request_seat(ring, 3, true, 0).ok()
            });
            match again?.admitted(Some(deadline + Duration::from_millis(50))) {
                Err(JoinError::TimedOut) => None,
                other => Some(other.err()),
            }
        })?;
        ensure(met == Some(JoinError::SenderDied), || format!("a new receiver got: {met:?}"))?;
        if let (Sending::Admit, Some((pending, _locks))) = (self.operation, self.pending.take()) {
            let soon = Instant::now() + Duration::from_millis(500);
            match pending.admitted(Some(soon)) {
                Err(JoinError::SenderDied) => {}
                Err(why) => return loss(format!("the receiver that had asked got: {why}")),
                Ok(mut receiver) => match drain(&mut receiver, &mut None)? {
                    ReadError::SenderDied => {}
                    why => return loss(format!("the receiver that was admitted got: {why}")),
                },
            }
        }
        witness.end("the witness")?;
        self.words.free();
        Ok(())
    }
}

impl KilledSender {
    fn witness(&self) -> &Peer {
        self.witness.as_ref().expect("it was started")
    }
}

/// The receiver that a killed sender leaves. It must get everything that was published, and then the right kind of end.
fn survivor(segment: &Segment, words: Words, state: State, killed_in: Sending) -> Outcome {
    let (ring, _locks) = sit(segment, WITNESS)?;
    let pending = request_seat(ring, WITNESS, true)?;
    words.set(JOINED, 1);
    let admitted = pending.admitted(None);
    let mut receiver = admitted.map_err(|why| Fault::Loss(why.to_string()))?;
    words.wait_for_ever(FILLED);
    let before = if killed_in == Sending::ClaimFull { FULL } else { BEFORE };
    let mut next = Some(0);
    let met = match state {
        State::Alone => {
            words.wait_for_ever(FILL);
            drain(&mut receiver, &mut next)?
        }
        State::Sleeper => loop {
            if next >= Some(before) {
                words.set(GO, 1);
            }
            if let Some(Err(why)) = take(&mut receiver, &mut next, None)? {
                break why;
            }
        },
        State::Busy => loop {
            // With a deadline that has passed, a call announces, checks and returns as fast as it can.
            let deadline = if words.get(FILL) == 0 { Instant::now() } else { Instant::now() + SLICES };
            if let Some(Err(why)) = take(&mut receiver, &mut next, Some(deadline))? {
                break why;
            }
        },
    };
    let read = next.unwrap_or(0);
    let more = if killed_in == Sending::Publish { 1 } else { 0 };
    ensure((before..=before + more).contains(&read), || format!("{read} messages of {before}"))?;
    let closed = End { total: before * u64::from(LENGTH), checksum: Some([7; 16]) };
    match met {
        ReadError::SenderDied => Ok(()),
        ReadError::Ended(end) if killed_in == Sending::Close && end == closed => Ok(()),
        why => loss(format!("the witness met: {why}")),
    }
}

/// Longer than a wait slice, after which a waiter checks for dead processes.
const SLICES: Duration = Duration::from_millis(120);
