//! A receiver that is killed, beside a sender and another receiver that continue.

use super::super::peers::{Fault, Outcome, Peer, Words, ensure, loss};
use super::super::steps::{operation, pause};
use super::super::sweep::Case;
use super::{
    AFTER, BEFORE, FILL, FILLED, GO, JOINED, LENGTH, OWNED, SIZE, State, VICTIM, WITNESS, drain, geometry,
    message, request_seat, sit, take,
};
use std::hint::black_box;
use whorl::internal::shm::liveness::{OWNER, Owner};
use whorl::internal::shm::ring::{Segment, SharedRing};
use whorl_core::error::{ClaimError, End, ReadError};
use whorl_core::ring::{Membership, PendingReceiver};

/// What a receiver is killed in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Receiving {
    Ask,
    TakePart,
    Read,
    Arm,
    Release,
    Leave,
}

/// A receiver that is killed.
pub struct KilledReceiver {
    operation: Receiving,
    words: Words,
    segment: Segment,
    membership: Membership<SharedRing>,
    ring: SharedRing,
    sender: Peer,
    witness: Peer,
    state: State,
    filled: bool,
}

impl KilledReceiver {
    pub fn new(operation: Receiving, state: State) -> Result<Self, Fault> {
        let words = Words::new();
        let segment = Segment::reserve(geometry()).expect("a segment");
        let sender = Peer::fork("the sender", || sender(&segment, words, state, operation));
        words.wait(OWNED, "the sender")?;
        let ring = segment.attach(Owner::LockHolder).expect("it has a ring");
        // SAFETY: the sender has dropped its own.
        let membership = unsafe { Membership::new(ring.clone()) };
        let witness = Peer::fork("the witness", || witness(&segment, words, state));
        words.wait(JOINED, "the witness")?;
        membership.admit_all();
        Ok(Self { operation, words, segment, membership, ring, sender, witness, state, filled: false })
    }

    fn fill(&mut self) -> Outcome {
        if self.filled {
            return Ok(());
        }
        self.filled = true;
        self.words.set(FILL, 1);
        self.words.wait(FILLED, "the sender")?;
        match (self.state, self.operation) {
            (State::Sleeper, Receiving::Ask) => self.witness.asleep(),
            (State::Sleeper, _) => self.sender.asleep(),
            _ => Ok(()),
        }
    }
}

impl Case for KilledReceiver {
    fn victim(&mut self) {
        let (ring, _locks) = sit(&self.segment, VICTIM).expect("a seat");
        let seat = |ring| request_seat(ring, VICTIM, true).expect("a free seat");
        if self.operation == Receiving::Ask {
            black_box(operation(|| seat(ring)));
            return;
        }
        let pending = seat(ring);
        pause();
        let admitted =
            |pending: PendingReceiver<_>| pending.try_admitted().unwrap_or_else(|_| panic!("it is admitted"));
        if self.operation == Receiving::TakePart {
            black_box(operation(|| admitted(pending)));
            return;
        }
        let mut receiver = admitted(pending);
        pause();
        let mut bytes = [0; 64];
        match self.operation {
            Receiving::Read => operation(|| {
                let mut batch = receiver.try_read().expect("there are some");
                while let Some(frame) = batch.next_frame().expect("whole") {
                    black_box(frame.payload().copy_to(&mut bytes)).expect("it fits");
                }
            }),
            Receiving::Arm => operation(|| _ = black_box(receiver.arm())),
            Receiving::Release => {
                let mut batch = receiver.try_read().expect("there are some");
                while batch.next_frame().expect("whole").is_some() {}
                operation(|| batch.release());
            }
            _ => operation(|| drop(receiver)),
        }
    }

    fn at_pause(&mut self, number: u32) -> Outcome {
        if number == 0 {
            self.membership.admit_all();
            return Ok(());
        }
        self.fill()
    }

    fn at_begin(&mut self) -> Outcome {
        self.fill()
    }

    fn survive(self: Box<Self>) -> Outcome {
        // What the control thread does when it learns of the death.
        self.membership.admit_all();
        self.membership.reclaim_dead();
        // A new receiver takes the seat, and takes part from here on.
        let (ring, locks) = sit(&self.segment, VICTIM)?;
        let pending = request_seat(ring, VICTIM, false)?;
        self.membership.admit_all();
        let Ok(mut receiver) = pending.try_admitted() else { return loss("no new receiver can join") };
        self.words.set(GO, 1);
        let mut next = None;
        match drain(&mut receiver, &mut next)? {
            ReadError::Ended(_) => {}
            why => return loss(format!("the new receiver met: {why}")),
        }
        drop(receiver);
        drop(locks);
        self.witness.end("the witness")?;
        self.sender.end("the sender")?;
        ensure(self.membership.status().next().is_none(), || "a seat is still taken".into())?;
        drop(self.ring);
        self.words.free();
        Ok(())
    }
}

/// The sender beside a receiver that is killed.
fn sender(segment: &Segment, words: Words, state: State, killed_in: Receiving) -> Outcome {
    let ring = segment.own(geometry()).map_err(|error| Fault::Loss(error.to_string()))?;
    let locks = segment.byte_locks().map_err(|error| Fault::Loss(error.to_string()))?;
    ensure(locks.try_lock(OWNER) == Ok(true), || "the owner's byte is taken".into())?;
    let (mut sender, membership) = ring.into_sender();
    drop(membership); // the tester has one
    words.set(OWNED, 1);
    words.wait_for_ever(FILL);
    let mut sent = 0;
    let mut left = AFTER;
    while left > 0 {
        let gone = words.get(GO) != 0;
        if sent == BEFORE {
            words.set(FILLED, 1);
            // A receiver that only asks does not block the sender. Then the witness sleeps.
            if state == State::Alone || (state == State::Sleeper && killed_in == Receiving::Ask) {
                words.wait_for_ever(GO);
            }
        }
        let claim = match state {
            State::Busy if !gone => sender.try_claim(SIZE),
            _ => sender.claim(SIZE, None), // if this hangs, the tester's patience ends
        };
        let mut claim = match claim {
            Ok(claim) => claim,
            Err(ClaimError::Full) => continue,
            Err(why) => return loss(why.to_string()),
        };
        claim.writer().write(&message(sent));
        claim.publish(LENGTH);
        sent += 1;
        left -= u64::from(gone);
    }
    sender.close(End { total: sent * u64::from(LENGTH), checksum: None });
    sender.drain(None).map_err(|why| Fault::Loss(why.to_string()))
}

/// The other receiver: gets everything, from the first message to the end record.
fn witness(segment: &Segment, words: Words, state: State) -> Outcome {
    let (ring, _locks) = sit(segment, WITNESS)?;
    let pending = request_seat(ring, WITNESS, true)?;
    words.set(JOINED, 1);
    let admitted = pending.admitted(None);
    let mut receiver = admitted.map_err(|why| Fault::Loss(why.to_string()))?;
    if state == State::Alone {
        words.wait_for_ever(GO);
    }
    let mut next = Some(0);
    // Asleep in the ring without a deadline while the tester is busy.
    while words.get(GO) == 0 {
        if let Some(Err(why)) = take(&mut receiver, &mut next, None)? {
            return loss(format!("the witness met: {why}"));
        }
    }
    match drain(&mut receiver, &mut next)? {
        ReadError::Ended(end) => ensure(Some(end.total) == next.map(|next| next * u64::from(LENGTH)), || {
            format!("{next:?} messages read, but the end says {} bytes", end.total)
        }),
        why => loss(format!("the witness met: {why}")),
    }
}
