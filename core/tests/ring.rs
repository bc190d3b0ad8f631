//! Random histories of a ring, compared with a simple sequential model of one.
//!
//! The model numbers items from 0 and never wraps. The ring starts near the end of the sequence space, so the same
//! history crosses it. Everything happens in one thread: the models in `loom-tests/` try the interleavings.

mod common;

use common::{Alone, Memory, Random, create, regions};
use std::mem::forget;
use whorl_core::error::{ClaimError, End, JoinError, ReadError};
use whorl_core::layout::{Geometry, OwnedRing, Ring};
use whorl_core::ring::{Kind, Membership, PendingReceiver, Receiver, Sender};
use whorl_core::sequence::Sequence;

const SEATS: u32 = 4;
const END: End = End { total: 5 | 9 << 32, checksum: Some(*b"0123456789abcdef") };

/// The model's view of a seat.
enum Seat<'m> {
    Free,
    Active(Receiver<Ring<'m, Alone>>, u64),
    Evicted(Receiver<Ring<'m, Alone>>),
}

struct History<'m> {
    random: Random,
    ring: Ring<'m, Alone>,
    sender: Sender<OwnedRing<'m, Alone>>,
    membership: Membership<Ring<'m, Alone>>,
    host: Alone,
    seats: Vec<Seat<'m>>,
    capacity: u64,
    slot_size: usize,
    /// Items published so far.
    tail: u64,
    /// A claim beyond the first lap was granted, so the first item may be overwritten.
    lapped: bool,
}

/// Returns the message of the `n`-th item. Its length and its bytes identify `n`. Every fifth item is a hole.
fn message(n: u64, slot_size: usize) -> Result<Vec<u8>, u64> {
    if n % 5 == 4 {
        return Err(n << 33 | 1);
    }
    let length = (n as usize * 7) % (slot_size + 1);
    Ok((0..length).map(|i| (n as u8).wrapping_mul(31).wrapping_add(i as u8)).collect())
}

impl<'m> History<'m> {
    fn new(memory: &'m [Memory; 2], geometry: Geometry, seed: u64, first: u32) -> Self {
        let host = Alone::default();
        let mut owned = create(memory, geometry, host.clone());
        owned.start_at(Sequence::from_word(first));
        let ring = owned.ring();
        let (sender, membership) = owned.into_sender();
        Self {
            random: Random::new(seed),
            ring,
            sender,
            membership,
            host,
            seats: (0..SEATS).map(|_| Seat::Free).collect(),
            capacity: geometry.slots().into(),
            slot_size: geometry.slot_size() as usize,
            tail: 0,
            lapped: false,
        }
    }

    /// Returns the slowest cursor of the receivers that take part.
    fn gate(&self) -> u64 {
        let cursors = self.seats.iter().filter_map(|seat| match seat {
            Seat::Active(_, cursor) => Some(*cursor),
            _ => None,
        });
        cursors.min().unwrap_or(self.tail)
    }

    fn act(&mut self) {
        let seat = self.random.below(SEATS);
        match self.random.below(16) {
            0..=5 => self.send(),
            6..=11 => self.receive(seat),
            12 | 13 => self.join(seat),
            14 => match self.random.below(3) {
                0 => self.evict(seat),
                1 => self.die(seat),
                _ => self.leave(seat),
            },
            _ => self.look(),
        }
    }

    fn send(&mut self) {
        let most = self.random.below(self.capacity as u32 + 2);
        let room = self.gate() + self.capacity - self.tail;
        let mut claim = match self.sender.try_claim(most) {
            Ok(claim) => claim,
            Err(why) => {
                assert_eq!((why, room), (ClaimError::Full, 0));
                return;
            }
        };
        let count = claim.len();
        assert!(count >= 1 && u64::from(count) <= room.min(most.max(1).into()), "{count} of {room} claimed");
        self.lapped |= self.tail + u64::from(count) > self.capacity;
        for i in 0..count {
            let mut slot = claim.slot(i);
            assert!(slot.write(&vec![1; self.slot_size + 1]).is_err());
            match message(self.tail + u64::from(i), self.slot_size) {
                Ok(bytes) => slot.write(&bytes).unwrap(),
                Err(hole) => slot.set_hole(hole),
            }
        }
        let published = self.random.below(count + 1);
        claim.publish(published);
        self.tail += u64::from(published);
        assert_eq!(self.sender.published(), self.tail as u32);
    }

    fn receive(&mut self, seat: u32) {
        let (random, slot_size, tail) = (&mut self.random, self.slot_size, self.tail);
        let (receiver, cursor) = match &mut self.seats[seat as usize] {
            Seat::Free => return,
            Seat::Evicted(receiver) => {
                assert_eq!(receiver.try_read().map(|run| run.len()), Err(ReadError::Evicted));
                return;
            }
            Seat::Active(receiver, cursor) => (receiver, cursor),
        };
        let run = match receiver.try_read() {
            Ok(run) => run,
            Err(why) => {
                assert_eq!((why, tail - *cursor), (ReadError::Empty, 0));
                return;
            }
        };
        assert!(run.len() >= 1 && u64::from(run.len()) <= tail - *cursor);
        for i in 0..run.len() {
            let item = run.item(i);
            let mut buffer = vec![0; slot_size];
            match message(*cursor + u64::from(i), slot_size) {
                Err(hole) => assert_eq!(item.kind(), Ok((Kind::Hole(hole), 0))),
                Ok(bytes) => {
                    assert_eq!(item.kind(), Ok((Kind::Bytes, bytes.len())));
                    assert_eq!(item.copy_to(&mut buffer), Ok(Ok(bytes.len())));
                    assert_eq!(buffer[..bytes.len()], bytes);
                    if !bytes.is_empty() {
                        assert_eq!(item.copy_to(&mut buffer[..bytes.len() - 1]), Ok(Err(bytes.len())));
                    }
                }
            }
        }
        assert!(run.validate());
        let released = random.below(run.len() + 1);
        run.release(released);
        *cursor += u64::from(released);
    }

    fn join(&mut self, seat: u32) {
        let from_first = self.random.below(2) == 0;
        let asked = PendingReceiver::request_seat(self.ring.clone(), seat, from_first, seat + 100);
        let Seat::Free = self.seats[seat as usize] else {
            assert!(matches!(asked, Err(JoinError::Taken)));
            return;
        };
        let Err((JoinError::Asking, Some(pending))) = asked.unwrap().try_admitted() else {
            panic!("admitted without a membership's decision")
        };
        if self.random.below(4) == 0 {
            return; // the receiver gives up: the seat is free again
        }
        assert_eq!(self.membership.admit_all(), 1);
        match pending.try_admitted() {
            Ok(receiver) => {
                assert!(!from_first || self.tail <= self.capacity, "the first item has been overwritten");
                self.seats[seat as usize] = Seat::Active(receiver, if from_first { 0 } else { self.tail });
            }
            Err((why, _)) => {
                assert_eq!(why, JoinError::Missed);
                // A look past the first lap is enough to refuse, even if the sender wrote nothing there.
                assert!(from_first && (self.lapped || self.tail >= self.capacity));
            }
        }
    }

    fn leave(&mut self, seat: u32) {
        self.seats[seat as usize] = Seat::Free;
    }

    fn evict(&mut self, seat: u32) {
        let evicted = self.membership.evict(seat);
        self.seats[seat as usize] = match std::mem::replace(&mut self.seats[seat as usize], Seat::Free) {
            Seat::Active(receiver, _) if evicted => Seat::Evicted(receiver),
            other => {
                assert!(!evicted);
                other
            }
        };
    }

    fn die(&mut self, seat: u32) {
        let taken = !matches!(self.seats[seat as usize], Seat::Free);
        match std::mem::replace(&mut self.seats[seat as usize], Seat::Free) {
            Seat::Free => {}
            Seat::Active(receiver, _) | Seat::Evicted(receiver) => forget(receiver),
        }
        self.host.dead.set(1 << seat);
        assert_eq!(self.membership.reclaim_dead(), u32::from(taken));
        assert_eq!(self.membership.reclaim_dead(), 0, "no participant dies twice");
        self.host.dead.set(0);
    }

    /// Checks that the membership's status agrees with the model.
    fn look(&self) {
        let seen: Vec<_> = self.membership.status().collect();
        for (number, seat) in self.seats.iter().enumerate() {
            let status = seen.iter().find(|status| status.seat as usize == number);
            match seat {
                Seat::Free => assert!(status.is_none()),
                Seat::Active(_, cursor) => assert_eq!(u64::from(status.unwrap().behind), self.tail - cursor),
                Seat::Evicted(_) => assert!(status.is_some()),
            }
        }
        assert_eq!(self.sender.is_drained(), self.gate() == self.tail);
    }

    /// Closes the ring. Every receiver that takes part must read the rest and then the end, and nothing else.
    fn finish(mut self) {
        let wants_close = self.random.below(4) > 0;
        if wants_close {
            self.sender.close(END);
            self.sender.close(End { total: 0, checksum: None });
        }
        drop(self.sender);
        for seat in self.seats {
            let Seat::Active(mut receiver, mut cursor) = seat else { continue };
            let end = loop {
                match receiver.try_read() {
                    Ok(run) => {
                        cursor += u64::from(run.len());
                        let count = run.len();
                        run.release(count);
                    }
                    Err(why) => break why,
                }
            };
            assert_eq!(cursor, self.tail);
            assert_eq!(end, if wants_close { ReadError::Ended(END) } else { ReadError::SenderDied });
        }
    }
}

fn try_histories(geometry: Geometry, seeds: u64) {
    for seed in 0..seeds {
        for before_the_wrap in [0, 3, 40, 0x8000_0000] {
            let memory = regions(geometry);
            let mut history = History::new(&memory, geometry, seed, 0u32.wrapping_sub(before_the_wrap));
            for _ in 0..400 {
                history.act();
            }
            history.finish();
        }
    }
}

#[test]
fn random_histories_agree_with_a_sequential_model() {
    for slots in [1, 2, 4, 16] {
        try_histories(Geometry::new(20, slots, SEATS).unwrap(), 150);
    }
}

#[test]
fn random_histories_with_evictions_agree_with_a_sequential_model() {
    for slots in [1, 4] {
        try_histories(Geometry::new(33, slots, SEATS).unwrap().evictable(), 150);
    }
}

#[test]
fn a_deadline_that_passed_ends_every_wait() {
    let geometry = Geometry::new(8, 1, 1).unwrap();
    let memory = regions(geometry);
    let owned = create(&memory, geometry, Alone::default());
    let ring = owned.ring();
    let (mut sender, membership) = owned.into_sender();
    let pending = PendingReceiver::request_seat(ring.clone(), 0, true, 0).unwrap();
    assert!(matches!(pending.admitted(Some(())), Err(JoinError::TimedOut)));
    let pending = PendingReceiver::request_any_seat(ring.clone(), true, 0).unwrap();
    assert!(matches!(PendingReceiver::request_any_seat(ring, true, 0), Err(JoinError::Taken)));
    membership.admit_all();
    let mut receiver = pending.admitted(Some(())).unwrap();
    assert_eq!(receiver.read(Some(())).map(|run| run.len()), Err(ReadError::TimedOut));
    sender.claim(1, Some(())).unwrap().publish(1);
    assert_eq!(sender.claim(1, Some(())).map(|claim| claim.len()), Err(ClaimError::TimedOut));
    assert_eq!(sender.drain(Some(())), Err(ClaimError::TimedOut));
    assert_eq!(receiver.read(Some(())).map(|run| run.len()), Ok(1));
}

/// A caller that always waits less than a poll interval never sees one end, but must still learn of a death.
#[test]
fn a_deadline_does_not_hide_the_senders_death() {
    let geometry = Geometry::new(8, 1, 2).unwrap();
    let memory = regions(geometry);
    let host = Alone::default();
    let owned = create(&memory, geometry, host.clone());
    let ring = owned.ring();
    let (sender, membership) = owned.into_sender();
    let pending = PendingReceiver::request_seat(ring.clone(), 0, true, 0).unwrap();
    membership.admit_all();
    let mut receiver = pending.admitted(Some(())).unwrap();
    let late = PendingReceiver::request_seat(ring, 1, true, 0).unwrap();
    std::mem::forget(sender);
    host.owner_dead.set(true);
    assert_eq!(receiver.read(Some(())).map(|run| run.len()), Err(ReadError::SenderDied));
    assert!(matches!(late.admitted(Some(())), Err(JoinError::SenderDied)));
}
