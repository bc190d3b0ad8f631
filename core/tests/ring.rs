//! Random histories of a ring, compared with a simple sequential model of one.
//!
//! The model counts cells from 0 and never wraps. The ring starts near the end of the sequence space, so the same
//! history crosses it. Everything happens in one thread: the models in `loom-tests/` try the interleavings.

mod common;

use common::{Alone, Memory, Random, create, regions};
use std::mem::forget;
use whorl_core::error::{ClaimError, End, JoinError, ReadError};
use whorl_core::layout::{Geometry, OwnedRing, Ring};
use whorl_core::ring::{CELL, ClaimSize, Kind, Membership, PendingReceiver, Receiver, Sender};
use whorl_core::sequence::Sequence;

const SEATS: u32 = 4;
const END: End = End { total: 5 | 9 << 32, checksum: Some(*b"0123456789abcdef") };

/// The model's view of a seat.
enum Seat<'m> {
    Free,
    /// The receiver, the next message that it reads, and the cell up to which it gave everything back.
    Active(Receiver<Ring<'m, Alone>>, usize, u64),
    Evicted(Receiver<Ring<'m, Alone>>),
}

struct History<'m> {
    random: Random,
    ring: Ring<'m, Alone>,
    sender: Sender<OwnedRing<'m, Alone>>,
    membership: Membership<Ring<'m, Alone>>,
    host: Alone,
    seats: Vec<Seat<'m>>,
    /// Cells.
    capacity: u64,
    /// The index of cell 0 in the ring.
    offset: u64,
    /// Where each message that was written ends. The first `published` of them are published.
    ends: Vec<u64>,
    published: usize,
    /// The length of each message; 8 for a hole.
    lengths: Vec<usize>,
    /// The end of everything that was claimed.
    claimed: u64,
    /// The highest limit that the sender can have found.
    limit: u64,
}

/// Returns the `n`-th message, of `length` bytes. Its bytes identify `n`. Every fifth is a hole.
fn message(n: usize, length: usize) -> Result<Vec<u8>, u64> {
    if n % 5 == 4 {
        return Err((n as u64) << 33 | 1);
    }
    Ok((0..length).map(|i| (n as u8).wrapping_mul(31).wrapping_add(i as u8)).collect())
}

/// Returns the length of the `n`-th message, as far as it fits `room` bytes.
fn length_of(n: usize, room: usize) -> usize {
    (n * 7 % 40).min(room)
}

impl<'m> History<'m> {
    fn new(memory: &'m [Memory; 2], geometry: Geometry, seed: u64, first: u32) -> Self {
        let host = Alone::default();
        let mut owned = create(memory, geometry, host.clone());
        owned.start_at(Sequence::from_word(first));
        let ring = owned.ring();
        let (sender, membership) = owned.into_sender();
        let capacity = geometry.capacity() / CELL as u64;
        Self {
            random: Random::new(seed),
            ring,
            sender,
            membership,
            host,
            seats: (0..SEATS).map(|_| Seat::Free).collect(),
            capacity,
            offset: u64::from(first) % capacity,
            ends: Vec::new(),
            published: 0,
            lengths: Vec::new(),
            claimed: 0,
            limit: capacity,
        }
    }

    /// The end of the messages that are published.
    fn tail(&self) -> u64 {
        self.published.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// The end of the messages that are written.
    fn head(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns the slowest cursor of the receivers that take part.
    fn gate(&self) -> u64 {
        let cursors = self.seats.iter().filter_map(|seat| match seat {
            Seat::Active(_, _, cursor) => Some(*cursor),
            _ => None,
        });
        cursors.min().unwrap_or(self.tail())
    }

    /// Returns where a frame of `cells` cells begins whose payload is aligned to `align` cells.
    fn place(&self, cells: u64, align: u64) -> u64 {
        let fits = |cell: &u64| {
            let index = (cell + self.offset) % self.capacity;
            (index + 1).is_multiple_of(align) && index + cells <= self.capacity
        };
        (self.head()..).find(fits).expect("some cell is aligned")
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
        let half = self.sender.max_message();
        let (least, more) = (self.random.below(half + 12), self.random.below(3) * 16);
        let align = 1 << self.random.below(4);
        let most = (least + more).min(least.max(half));
        let size = ClaimSize::between(least, most).aligned(align * CELL as u32);
        let cells = 1 + u64::from(least).div_ceil(CELL as u64);
        let place =
            (cells + u64::from(align) - 1 <= self.capacity / 2).then(|| self.place(cells, align.into()));
        if place.is_some_and(|place| place + cells > self.gate() + self.capacity) {
            self.published = self.ends.len(); // a claim that finds no room publishes what is staged
        }
        let room = self.gate() + self.capacity;
        self.limit = self.limit.max(room);
        let mut claim = match self.sender.try_claim(size) {
            Ok(claim) => claim,
            Err(ClaimError::TooLong) => return assert_eq!(place, None, "{size:?}"),
            Err(why) => {
                assert_eq!(why, ClaimError::Full);
                return assert!(place.unwrap() + cells > room, "{size:?}");
            }
        };
        let place = place.expect("not too long");
        let lent = claim.len();
        assert!((least..=most).contains(&lent) && place + cells <= room, "{lent} bytes at {place}: {size:?}");
        let end = place + 1 + u64::from(lent).div_ceil(CELL as u64);
        assert!(end <= room && (place + self.offset) % self.capacity + end - place <= self.capacity);
        self.claimed = self.claimed.max(end);
        let n = self.ends.len();
        let stages = self.random.below(3) == 0;
        let stored = match message(n, length_of(n, lent as usize)) {
            Ok(bytes) => {
                let mut writer = claim.writer();
                assert_eq!(writer.len(), lent as usize);
                writer.write(&vec![0xEE; lent as usize]);
                writer.write(&bytes);
                let length = bytes.len() as u32;
                if stages {
                    claim.stage(length)
                } else {
                    claim.publish(length)
                }
                u64::from(length)
            }
            Err(hole) if lent >= 8 => {
                if stages {
                    claim.stage_hole(hole)
                } else {
                    claim.publish_hole(hole)
                }
                8
            }
            // A hole needs more room; this claim is dropped.
            Err(_) => return,
        };
        self.lengths.push(stored as usize);
        self.ends.push(place + 1 + stored.div_ceil(CELL as u64));
        if !stages || self.random.below(3) == 0 {
            self.sender.publish();
            self.published = self.ends.len();
        }
        assert_eq!(self.sender.published(), self.published as u32);
    }

    fn receive(&mut self, seat: u32) {
        let published = self.published;
        let (receiver, next, cursor) = match &mut self.seats[seat as usize] {
            Seat::Free => return,
            Seat::Evicted(receiver) => {
                assert_eq!(receiver.try_read().map(|_| ()), Err(ReadError::Evicted));
                return;
            }
            Seat::Active(receiver, next, cursor) => (receiver, next, cursor),
        };
        let mut batch = match receiver.try_read() {
            Ok(batch) => batch,
            Err(why) => {
                assert_eq!((why, *next), (ReadError::Empty, published));
                return;
            }
        };
        let mut read = *next;
        for _ in 0..=self.random.below(6) {
            let Some(frame) = batch.next_frame().unwrap() else {
                // A batch reaches as far as the tail that it found.
                assert!(read > *next && read <= published);
                break;
            };
            assert!(read < published);
            assert_eq!(frame.number(), read as u32);
            match message(read, self.lengths[read]) {
                Err(hole) => assert_eq!((frame.kind(), frame.payload().len()), (Kind::Hole(hole), 0)),
                Ok(bytes) => {
                    let mut buffer = vec![0; bytes.len()];
                    assert_eq!((frame.kind(), frame.payload().len()), (Kind::Message, bytes.len()));
                    assert_eq!(frame.payload().copy_to(&mut buffer), Ok(bytes.len()));
                    assert_eq!(buffer, bytes);
                    if !bytes.is_empty() {
                        assert_eq!(frame.payload().copy_to(&mut buffer[1..]), Err(bytes.len()));
                    }
                }
            }
            read += 1;
        }
        assert!(batch.validate());
        if self.random.below(4) > 0 {
            batch.release();
            (*next, *cursor) = (read, self.ends[read - 1]);
        }
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
                assert!(!from_first || self.claimed <= self.capacity, "the first message was overwritten");
                let (next, cursor) = if from_first { (0, 0) } else { (self.published, self.tail()) };
                self.seats[seat as usize] = Seat::Active(receiver, next, cursor);
            }
            Err((why, _)) => {
                assert_eq!(why, JoinError::Missed);
                // A look past the first lap is enough to refuse, even if the sender wrote nothing there.
                assert!(from_first && self.limit > self.capacity);
            }
        }
    }

    fn leave(&mut self, seat: u32) {
        self.seats[seat as usize] = Seat::Free;
    }

    fn evict(&mut self, seat: u32) {
        let evicted = self.membership.evict(seat);
        self.seats[seat as usize] = match std::mem::replace(&mut self.seats[seat as usize], Seat::Free) {
            Seat::Active(receiver, ..) if evicted => Seat::Evicted(receiver),
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
            Seat::Active(receiver, ..) | Seat::Evicted(receiver) => forget(receiver),
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
                Seat::Active(_, _, cursor) => {
                    assert_eq!(status.unwrap().behind, (self.tail() - cursor) * CELL as u64);
                }
                Seat::Evicted(_) => assert!(status.is_some()),
            }
        }
        let has_all = |seat: &Seat<'_>| !matches!(seat, Seat::Active(_, next, _) if *next < self.published);
        assert_eq!(self.sender.is_drained(), self.seats.iter().all(has_all));
    }

    /// Closes the ring. Every receiver that takes part must read the rest and then the end, and nothing else.
    fn finish(mut self) {
        let wants_close = self.random.below(4) > 0;
        if wants_close {
            self.sender.close(END);
            self.sender.close(End { total: 0, checksum: None });
            self.published = self.ends.len();
        }
        drop(self.sender);
        for seat in self.seats {
            let Seat::Active(mut receiver, mut next, _) = seat else { continue };
            let end = loop {
                match receiver.try_read() {
                    Ok(mut batch) => {
                        while batch.next_frame().unwrap().is_some() {
                            next += 1;
                        }
                        batch.release();
                    }
                    Err(why) => break why,
                }
            };
            assert_eq!(next, self.published);
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
    for capacity in [64, 128, 256, 1024] {
        try_histories(Geometry::new(capacity, SEATS).unwrap(), 150);
    }
}

#[test]
fn random_histories_with_evictions_agree_with_a_sequential_model() {
    for capacity in [64, 256] {
        try_histories(Geometry::new(capacity, SEATS).unwrap().evictable(), 150);
    }
}

#[test]
fn a_deadline_that_passed_ends_every_wait() {
    let geometry = Geometry::new(64, 1).unwrap();
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
    assert_eq!(receiver.read(Some(())).map(|_| ()), Err(ReadError::TimedOut));
    let half_length = sender.max_message();
    let half = ClaimSize::exactly(half_length);
    for _ in 0..2 {
        sender.claim(half, Some(())).unwrap().publish(half_length);
    }
    assert_eq!(sender.claim(half, Some(())).map(|claim| claim.len()), Err(ClaimError::TimedOut));
    assert_eq!(sender.drain(Some(())), Err(ClaimError::TimedOut));
    assert_eq!(receiver.read(Some(())).map(|_| ()), Ok(()));
}

/// A caller that always waits less than a poll interval never sees one end, but must still learn of a death.
#[test]
fn a_deadline_does_not_hide_the_senders_death() {
    let geometry = Geometry::new(64, 2).unwrap();
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
    assert_eq!(receiver.read(Some(())).map(|_| ()), Err(ReadError::SenderDied));
    assert!(matches!(late.admitted(Some(())), Err(JoinError::SenderDied)));
}
