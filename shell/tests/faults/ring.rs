//! The ring's operations. Two worlds: a receiver that is killed, beside a sender and another receiver that go on; and a
//! sender that is killed, beside a receiver that must get what was published, and not a byte more.
//!
//! The tester plays the sender's control thread: it admits, and it buries whoever it has seen die.

use super::peers::{Fault, Outcome, Peer, Words, ensure, loss, patiently};
use super::steps::{operation, pause};
use super::sweep::{Case, Made, Operation};
use std::hint::black_box;
use std::time::{Duration, Instant};
use whorl::liveness::{ByteLocks, OWNER, OwnerIs};
use whorl::segment::{Segment, SharedRing};
use whorl_core::error::{ClaimError, End, JoinError, ReadError};
use whorl_core::ring::{Applicant, Membership, Receiver};
use whorl_core::segment::Geometry;

const SLOTS: u32 = 4;
/// Messages published before the operation, unless the sender is to fill the ring.
const BEFORE: u64 = 2;
/// Messages published after the death.
const AFTER: u64 = 6;

const VICTIM: u32 = 0;
const WITNESS: u32 = 1;

// The words by which tester, sender and witness arrange themselves.
const OWNED: usize = 0;
const JOINED: usize = 1;
const FILL: usize = 2;
const FILLED: usize = 3;
const GO: usize = 4;

pub fn geometry() -> Geometry {
    Geometry::new(64, SLOTS, 4).expect("a possible ring")
}

/// A message that shows whether it is whole, and which one it is.
pub fn message(number: u64) -> [u8; 40] {
    let mut bytes = [0; 40];
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

/// A receiver's place: its own view of the ring, its own locks, and its seat's byte.
pub fn sit(segment: &Segment, seat: u32) -> Result<(SharedRing, ByteLocks), Fault> {
    let ring = match segment.attach(OwnerIs::Whoever) {
        Ok(ring) => ring,
        Err(error) => return loss(format!("cannot attach: {error}")),
    };
    let locks = segment.byte_locks().map_err(|error| Fault::Loss(error.to_string()))?;
    let held = patiently("the seat's byte", |_| locks.try_lock(seat).is_ok_and(|held| held).then_some(()));
    held.map(|()| (ring, locks))
}

pub fn ask(ring: SharedRing, seat: u32, from_first: bool) -> Result<Applicant<SharedRing>, Fault> {
    Applicant::ask(ring, seat, from_first, 0).map_err(|error| Fault::Loss(format!("seat {seat}: {error}")))
}

/// Reads what is there, checks that it follows what was read, and gives it back. `None` at the end of the patience of one try.
pub fn take(
    receiver: &mut Receiver<SharedRing>,
    next: &mut Option<u64>,
    deadline: Option<Instant>,
) -> Result<Option<Result<(), ReadError>>, Fault> {
    let run = match receiver.read(deadline) {
        Ok(run) => run,
        Err(ReadError::TimedOut) => return Ok(None),
        Err(why) => return Ok(Some(Err(why))),
    };
    for i in 0..run.len() {
        let mut bytes = [0; 64];
        let length = match run.item(i).copy_to(&mut bytes) {
            Ok(Ok(length)) => length,
            other => return loss(format!("item {i}: {other:?}")),
        };
        let number = number_of(&bytes[..length])?;
        if let Some(next) = next.filter(|next| *next != number) {
            return loss(format!("message {number} where {next} was to come"));
        }
        *next = Some(number + 1);
    }
    let count = run.len();
    run.release(count);
    Ok(Some(Ok(())))
}

/// Reads to the end, whatever it is.
pub fn drain(receiver: &mut Receiver<SharedRing>, next: &mut Option<u64>) -> Result<ReadError, Fault> {
    loop {
        let mut outcome = Ok(());
        let met = patiently("a receiver that waits for messages", |deadline| {
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
    /// Everybody else waits for the operation to be over, and not on the ring.
    Alone,
    /// Somebody sleeps on the ring: the sender as it is full, where the victim reads; a receiver, where the sender is killed.
    Sleeper,
    /// Somebody works on the ring all the time.
    Busy,
}

const STATES: [(State, &str); 3] =
    [(State::Alone, "alone"), (State::Sleeper, "somebody sleeps"), (State::Busy, "somebody is busy")];

/// What a receiver is killed in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Ask,
    TakePart,
    Read,
    Arm,
    Release,
    Leave,
}

/// A receiver that is killed.
struct KilledReceiver {
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
    fn new(operation: Receiving, state: State) -> Result<Self, Fault> {
        let words = Words::new();
        let segment = Segment::reserve(geometry()).expect("a segment");
        let sender = Peer::fork("the sender", || sender(&segment, words, state, operation));
        words.wait(OWNED, "the sender")?;
        let ring = segment.attach(OwnerIs::Whoever).expect("it has a ring");
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
        let seat = |ring| ask(ring, VICTIM, true).expect("a free seat");
        if self.operation == Receiving::Ask {
            black_box(operation(|| seat(ring)));
            return;
        }
        let applicant = seat(ring);
        pause();
        let admitted = |applicant: Applicant<_>| applicant.try_admitted().ok().expect("admitted");
        if self.operation == Receiving::TakePart {
            black_box(operation(|| admitted(applicant)));
            return;
        }
        let mut receiver = admitted(applicant);
        pause();
        let mut bytes = [0; 64];
        match self.operation {
            Receiving::Read => operation(|| {
                let run = receiver.try_read().expect("there are some");
                for i in 0..run.len() {
                    black_box(run.item(i).copy_to(&mut bytes)).expect("whole").expect("it fits");
                }
            }),
            Receiving::Arm => operation(|| _ = black_box(receiver.arm())),
            Receiving::Release => {
                let run = receiver.try_read().expect("there are some");
                let count = run.len();
                operation(|| run.release(count));
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
        self.membership.bury_dead();
        // Somebody new takes the seat, and takes part from here on.
        let (ring, locks) = sit(&self.segment, VICTIM)?;
        let applicant = ask(ring, VICTIM, false)?;
        self.membership.admit_all();
        let Ok(mut receiver) = applicant.try_admitted() else { return loss("nobody new can join") };
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
        ensure(self.membership.status().next().is_none(), || "somebody still sits".into())?;
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
            // Nobody holds it up who only asks; then it is the witness that sleeps.
            if state == State::Alone || (state == State::Sleeper && killed_in == Receiving::Ask) {
                words.wait_for_ever(GO);
            }
        }
        let claim = match state {
            State::Busy if !gone => sender.try_claim(1),
            _ => sender.claim(1, None), // if this is for ever, the tester's patience says so
        };
        let mut claim = match claim {
            Ok(claim) => claim,
            Err(ClaimError::Full) => continue,
            Err(why) => return loss(why.to_string()),
        };
        claim.slot(0).write(&message(sent)).expect("it fits");
        claim.publish(1);
        sent += 1;
        left -= u64::from(gone);
    }
    sender.close(End { total: sent * 40, checksum: None });
    sender.drain(None).map_err(|why| Fault::Loss(why.to_string()))
}

/// The other receiver: gets everything, from the first message to the end record.
fn witness(segment: &Segment, words: Words, state: State) -> Outcome {
    let (ring, _locks) = sit(segment, WITNESS)?;
    let applicant = ask(ring, WITNESS, true)?;
    words.set(JOINED, 1);
    let admitted = applicant.admitted(None);
    let mut receiver = admitted.map_err(|why| Fault::Loss(why.to_string()))?;
    if state == State::Alone {
        words.wait_for_ever(GO);
    }
    let mut next = Some(0);
    // Asleep in the ring without a deadline for as long as the tester does something else.
    while words.get(GO) == 0 {
        if let Some(Err(why)) = take(&mut receiver, &mut next, None)? {
            return loss(format!("the witness met: {why}"));
        }
    }
    match drain(&mut receiver, &mut next)? {
        ReadError::Ended(end) => ensure(Some(end.total) == next.map(|next| next * 40), || {
            format!("{next:?} messages read, but the end says {} bytes", end.total)
        }),
        why => loss(format!("the witness met: {why}")),
    }
}

/// What a sender is killed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sending {
    Claim,
    ClaimFull,
    Publish,
    Admit,
    Close,
    Abandon,
    Bury,
}

/// A sender that is killed.
struct KilledSender {
    operation: Sending,
    state: State,
    words: Words,
    segment: Segment,
    witness: Option<Peer>,
    /// A seat's byte that nobody but the dead ever held.
    applicant: Option<(Applicant<SharedRing>, ByteLocks)>,
}

impl KilledSender {
    fn new(operation: Sending, state: State) -> Self {
        let segment = Segment::reserve(geometry()).expect("a segment");
        Self { operation, state, words: Words::new(), segment, witness: None, applicant: None }
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
        let before = if self.operation == Sending::ClaimFull { u64::from(SLOTS) } else { BEFORE };
        for number in 0..before {
            let mut claim = sender.try_claim(1).expect("there is room");
            claim.slot(0).write(&message(number)).expect("it fits");
            claim.publish(1);
        }
        pause();
        match self.operation {
            Sending::Claim => operation(|| {
                let mut claim = sender.try_claim(1).expect("there is room");
                claim.slot(0).write(&message(before)).expect("it fits");
                black_box(claim.len());
            }),
            Sending::ClaimFull => operation(|| {
                let soon = Instant::now() + Duration::from_millis(1);
                black_box(sender.claim(1, Some(soon)).is_ok());
            }),
            Sending::Publish => {
                let mut claim = sender.try_claim(1).expect("there is room");
                claim.slot(0).write(&message(before)).expect("it fits");
                operation(|| claim.publish(1));
            }
            Sending::Admit => _ = black_box(operation(|| membership.admit_all())),
            Sending::Close => operation(|| sender.close(End { total: before * 40, checksum: Some([7; 16]) })),
            Sending::Abandon => operation(|| drop(sender)),
            Sending::Bury => _ = black_box(operation(|| membership.bury_dead())),
        }
    }

    fn at_pause(&mut self, number: u32) -> Outcome {
        if number == 0 {
            let (segment, words, state, operation) = (&self.segment, self.words, self.state, self.operation);
            self.witness = Some(Peer::fork("the witness", || heir(segment, words, state, operation)));
            return self.words.wait(JOINED, "the witness");
        }
        if matches!(self.operation, Sending::Admit | Sending::Bury) {
            // Somebody asks; for the burial it is dead before it is admitted.
            let (ring, locks) = sit(&self.segment, VICTIM)?;
            let applicant = ask(ring, VICTIM, false)?;
            if self.operation == Sending::Bury {
                locks.unlock(VICTIM);
            }
            self.applicant = Some((applicant, locks));
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
        // Nobody is admitted any more, and nobody waits for that for ever.
        let (ring, _locks) = sit(&self.segment, 3)?;
        let mut applicant = Some(ask(ring, 3, true)?);
        let met = patiently("somebody new waits to be admitted", |deadline| {
            let again = applicant.take().or_else(|| {
                let ring = self.segment.attach(OwnerIs::Whoever).ok()?;
                Applicant::ask(ring, 3, true, 0).ok()
            });
            match again?.admitted(Some(deadline + Duration::from_millis(50))) {
                Err(JoinError::TimedOut) => None,
                other => Some(other.err()),
            }
        })?;
        ensure(met == Some(JoinError::SenderDied), || format!("somebody new met: {met:?}"))?;
        if let (Sending::Admit, Some((applicant, _locks))) = (self.operation, self.applicant.take()) {
            let soon = Instant::now() + Duration::from_millis(500);
            match applicant.admitted(Some(soon)) {
                Err(JoinError::SenderDied) => {}
                Err(why) => return loss(format!("who had asked met: {why}")),
                Ok(mut receiver) => match drain(&mut receiver, &mut None)? {
                    ReadError::SenderDied => {}
                    why => return loss(format!("who was admitted met: {why}")),
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

/// The receiver that a killed sender leaves: everything published, whole, and then the truth about the end.
fn heir(segment: &Segment, words: Words, state: State, killed_in: Sending) -> Outcome {
    let (ring, _locks) = sit(segment, WITNESS)?;
    let applicant = ask(ring, WITNESS, true)?;
    words.set(JOINED, 1);
    let admitted = applicant.admitted(None);
    let mut receiver = admitted.map_err(|why| Fault::Loss(why.to_string()))?;
    words.wait_for_ever(FILLED);
    let before = if killed_in == Sending::ClaimFull { u64::from(SLOTS) } else { BEFORE };
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
            // A deadline that is over: announces, looks and goes, as fast as it can.
            let deadline = if words.get(FILL) == 0 { Instant::now() } else { Instant::now() + SLICES };
            if let Some(Err(why)) = take(&mut receiver, &mut next, Some(deadline))? {
                break why;
            }
        },
    };
    let read = next.unwrap_or(0);
    let more = if killed_in == Sending::Publish { 1 } else { 0 };
    ensure((before..=before + more).contains(&read), || format!("{read} messages of {before}"))?;
    let closed = End { total: before * 40, checksum: Some([7; 16]) };
    match met {
        ReadError::SenderDied => Ok(()),
        ReadError::Ended(end) if killed_in == Sending::Close && end == closed => Ok(()),
        why => loss(format!("the witness met: {why}")),
    }
}

/// Longer than a slice, at the end of which a waiter asks who is dead.
const SLICES: Duration = Duration::from_millis(120);

/// All of them, in all states.
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
        ("bury a receiver", Sending::Bury),
    ];
    let mut all = Vec::new();
    for (state, said) in STATES {
        for (name, kind) in receiving {
            let make = move || -> Made { Ok(Box::new(KilledReceiver::new(kind, state)?)) };
            all.push(Operation { name, state: said, make: Box::new(make) });
        }
        for (name, kind) in sending {
            let make = move || -> Made { Ok(Box::new(KilledSender::new(kind, state))) };
            all.push(Operation { name, state: said, make: Box::new(make) });
        }
    }
    all
}
