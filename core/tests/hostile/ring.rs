//! A live ring with a hostile peer: sender, receivers, admission, eviction and reclamation, all in one thread.

use super::memory::Guarded;
use super::peer::{Peer, Script, Words, pick};
use super::{Stage, Tally, play_script, play_steps};
use std::mem::forget;
use whorl_core::error::End;
use whorl_core::layout::{Geometry, OwnedRing, Ring};
use whorl_core::ring::{CELL, ClaimSize, Membership, PendingReceiver, Receiver, Sender};
use whorl_core::sequence::Sequence;

type Shared<'m> = Ring<'m, &'m Peer<'m>>;

/// What a participant does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Ask(u32, bool),
    Admit,
    Enter(u32),
    /// Sends `count` messages, published together, with at most this many bytes each.
    Send {
        count: u32,
        most: u32,
        waits: bool,
    },
    Receive {
        seat: u32,
        waits: bool,
    },
    Arm(u32),
    Leave(u32),
    /// The occupant dies without leaving.
    Die(u32),
    Reclaim,
    Evict(u32),
    Drain,
    Close,
}

enum Place<'m> {
    Empty,
    Asking(PendingReceiver<Shared<'m>>),
    In(Receiver<Shared<'m>>),
}

struct World<'m> {
    geometry: Geometry,
    peer: &'m Peer<'m>,
    ring: Shared<'m>,
    sender: Sender<OwnedRing<'m, &'m Peer<'m>>>,
    membership: Membership<Shared<'m>>,
    places: Vec<Place<'m>>,
    tally: Tally,
    buffer: Vec<u8>,
}

/// Makes the memory of a ring: data, control.
pub fn memory(geometry: Geometry) -> [Guarded; 2] {
    [geometry.data_length(), geometry.control_length()].map(|length| Guarded::new(length as usize))
}

/// Returns the words of a ring that have a meaning, as `core/src/layout/ring.rs` draws them.
pub fn words(memory: &[Guarded; 2], geometry: Geometry) -> Words<'_> {
    let [data, control] = memory.each_ref().map(Guarded::words);
    let mut words = pick(data, &[0..16, 32..64, 1024..1024 + geometry.capacity() as usize / 4]);
    words.extend(pick(control, &[0..16, 64..128, 1024..control.len()]));
    words
}

fn cells(geometry: Geometry) -> u32 {
    (geometry.capacity() / CELL as u64) as u32
}

/// Returns the geometry of a small ring.
pub fn geometry(shape: u8) -> Geometry {
    let capacity = [64, 128, 256, 2048][usize::from(shape & 3)];
    let geometry = Geometry::new(capacity, u32::from(shape >> 2 & 3) + 1).expect("possible measures");
    if shape & 128 == 0 { geometry } else { geometry.evictable() }
}

/// Runs the script that the bytes describe.
pub fn run(input: &[u8]) -> Tally {
    let mut script = Script::new(input);
    let geometry = geometry(script.byte());
    let memory = memory(geometry);
    let peer = Peer::scripted(script, words(&memory, geometry), cells(geometry));
    play_script(&peer, World::new(&memory, geometry, &peer))
}

/// Runs these steps with one change of one word at one moment. Returns how many moments and words there were.
pub fn run_once(
    memory: &[Guarded; 2],
    geometry: Geometry,
    steps: &[Step],
    at: Option<u32>,
    word: usize,
    value: usize,
) -> (Tally, u32, usize) {
    let peer = Peer::once(at, word, value, words(memory, geometry), cells(geometry));
    play_steps(&peer, World::new(memory, geometry, &peer), steps)
}

impl<'m> World<'m> {
    fn new(memory: &'m [Guarded; 2], geometry: Geometry, peer: &'m Peer<'m>) -> Self {
        let [data, control] = memory.each_ref().map(Guarded::region);
        // SAFETY: fresh memory of the right lengths; the peer reclaims only forgotten occupants.
        let mut owned = unsafe { Ring::create(data, control, geometry, 7, peer) }.expect("memory that fits");
        owned.start_at(Sequence::from_word(u32::MAX - 1));
        let ring = owned.ring();
        let (sender, membership) = owned.into_sender();
        let places = (0..geometry.seats()).map(|_| Place::Empty).collect();
        let buffer = vec![0; geometry.max_message() as usize];
        Self { geometry, peer, ring, sender, membership, places, tally: Tally::default(), buffer }
    }
}

impl Stage for World<'_> {
    type Step = Step;

    fn decode(&self) -> Step {
        let byte = self.peer.byte();
        let (seat, flag) = (u32::from(byte >> 5) % self.geometry.seats(), byte & 128 == 0);
        match byte % 16 {
            0..2 => Step::Ask(seat, flag),
            2 => Step::Admit,
            3..5 => Step::Enter(seat),
            5..8 => {
                let most = u32::from(self.peer.byte()) % (self.geometry.max_message() + 9);
                Step::Send { count: seat + 1, most, waits: flag }
            }
            8..11 => Step::Receive { seat, waits: flag },
            11 => Step::Arm(seat),
            12 => Step::Leave(seat),
            13 => Step::Die(seat),
            14 if flag => Step::Reclaim,
            14 => Step::Evict(seat),
            _ if self.peer.byte() < 250 => Step::Drain,
            _ => Step::Close,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask(seat, from_first) => self.request_seat(seat, from_first),
            Step::Admit => {
                let decided = self.membership.admit_all();
                assert!(decided <= self.geometry.seats());
            }
            Step::Enter(seat) => self.enter(seat),
            Step::Send { count, most, waits } => self.send(count, most, waits),
            Step::Receive { seat, waits } => self.receive(seat, waits),
            Step::Arm(seat) => {
                if let Place::In(receiver) = &mut self.places[seat as usize] {
                    let _ = receiver.arm();
                    whorl_core::ring::disarm(&self.ring, seat);
                }
            }
            Step::Leave(seat) => self.places[seat as usize] = Place::Empty,
            Step::Die(seat) => match std::mem::replace(&mut self.places[seat as usize], Place::Empty) {
                Place::Empty => {}
                Place::Asking(pending) => self.die(seat, pending),
                Place::In(receiver) => self.die(seat, receiver),
            },
            Step::Reclaim => {
                self.membership.reclaim_dead();
                for status in self.membership.status() {
                    assert!(status.seat < self.geometry.seats() && status.behind <= self.geometry.capacity());
                }
            }
            Step::Evict(seat) => {
                self.membership.evict(seat);
            }
            Step::Drain => {
                let soon = self.peer.soon();
                let drained = self.sender.drain(soon).is_ok();
                self.note(drained);
            }
            Step::Close => self.sender.close(End { total: 4, checksum: None }),
        }
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

impl<'m> World<'m> {
    fn note(&mut self, went: bool) {
        self.tally.refused += u32::from(!went);
    }

    fn die(&mut self, seat: u32, occupant: impl Sized) {
        forget(occupant);
        self.peer.kill(seat);
    }

    fn request_seat(&mut self, seat: u32, from_first: bool) {
        let place = &mut self.places[seat as usize];
        if !matches!(place, Place::Empty) {
            return;
        }
        match PendingReceiver::request_seat(self.ring.clone(), seat, from_first, 1) {
            Ok(pending) => *place = Place::Asking(pending),
            Err(_) => self.tally.refused += 1,
        }
    }

    fn enter(&mut self, seat: u32) {
        let place = &mut self.places[seat as usize];
        let Place::Asking(pending) = std::mem::replace(place, Place::Empty) else { return };
        match pending.admitted(self.peer.soon()) {
            Ok(receiver) => *place = Place::In(receiver),
            Err(_) => self.tally.refused += 1,
        }
    }

    fn send(&mut self, count: u32, most: u32, waits: bool) {
        for _ in 0..count {
            let kind = self.peer.byte();
            let align = if kind & 7 == 1 { 64 } else { 8 };
            let size = ClaimSize::between(most.min(8), most).aligned(align);
            let claim = match waits {
                true => self.sender.claim(size, self.peer.soon()),
                false => self.sender.try_claim(size),
            };
            let Ok(mut claim) = claim else { return self.note(false) };
            let length = claim.len();
            assert!(length <= most && length <= self.geometry.max_message());
            self.peer.act();
            if kind == 255 && length >= 8 {
                claim.stage_hole(u64::from(most));
            } else {
                claim.writer().write(&vec![kind; length as usize]);
                self.peer.act();
                claim.stage(length);
            }
            self.tally.sent += 1;
        }
        self.peer.act();
        self.sender.publish();
    }

    fn receive(&mut self, seat: u32, waits: bool) {
        let Place::In(receiver) = &mut self.places[seat as usize] else { return };
        let batch = match waits {
            true => receiver.read(self.peer.soon()),
            false => receiver.try_read(),
        };
        let Ok(mut batch) = batch else { return self.note(false) };
        let (mut copied, mut frames) = (0, 0u32);
        while let Ok(Some(frame)) = batch.next_frame() {
            self.peer.act();
            frames += 1;
            assert!(u64::from(frames) <= self.geometry.capacity() / CELL as u64, "more frames than cells");
            let payload = frame.payload();
            assert!(payload.len() as u64 <= self.geometry.capacity());
            if let (Some(start), Some(last)) = (payload.as_ptr(), payload.len().checked_sub(1)) {
                let last = start.wrapping_add(last);
                // SAFETY: inside the ring, as the length was checked; the kernel would read it in write(2).
                unsafe { last.read_volatile() };
            }
            self.peer.act();
            self.buffer.resize(payload.len(), 0);
            copied += u32::from(payload.copy_to(&mut self.buffer).is_ok());
        }
        self.peer.act();
        let whole = batch.validate();
        batch.release();
        match whole {
            true => self.tally.received += copied,
            false => self.tally.refused += 1,
        }
    }
}
