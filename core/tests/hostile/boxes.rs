//! Live mailboxes with a hostile peer: users, their locks, waits and reclamation, all in one thread.

use super::memory::Guarded;
use super::peer::{Peer, Script, Words, pick};
use super::{Stage, Tally, play_script, play_steps};
use std::mem::forget;
use whorl_core::error::{MailReadError, MailWriteError};
use whorl_core::layout::{MailGeometry, Mailboxes, User};

type Host<'m> = &'m Peer<'m>;

/// What an occupant does, or a process without a seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Sit(u32),
    Leave(u32),
    /// The occupant dies without leaving.
    Die(u32),
    Reclaim,
    Write {
        seat: u32,
        index: u32,
        waits: bool,
    },
    Read {
        seat: u32,
        index: u32,
        waits: bool,
    },
    Newer(u32),
    Watch,
}

struct World<'m> {
    geometry: MailGeometry,
    peer: Host<'m>,
    boxes: Mailboxes<'m, Host<'m>>,
    users: Vec<Option<User<'m, Host<'m>>>>,
    tally: Tally,
    buffer: Vec<u8>,
}

/// Makes the memory of mailboxes.
pub fn memory(geometry: MailGeometry) -> Guarded {
    Guarded::new(geometry.length() as usize)
}

/// Returns the words that have a meaning, as `core/src/layout/mailboxes.rs` draws them.
pub fn words(memory: &Guarded, geometry: MailGeometry) -> Words<'_> {
    let words = memory.words();
    let seats = geometry.seats() as usize;
    let boxes = (1024 + 2 * seats).next_multiple_of(16);
    let end = boxes + geometry.boxes() as usize * (48 + 16 * seats);
    pick(words, &[0..16, 64..96, 1024..1024 + 2 * seats, boxes..end, end.next_multiple_of(1024)..words.len()])
}

/// Returns the geometry of a few mailboxes. Short messages are copied in another way than long ones.
pub fn geometry(shape: u8) -> MailGeometry {
    let capacity = [10, 64, 200, 1000][usize::from(shape & 3)];
    let (boxes, seats) = (1 + u32::from(shape >> 2 & 1), 1 + u32::from(shape >> 3 & 3));
    MailGeometry::new(boxes, capacity, seats).expect("possible measures")
}

/// Runs the script that the bytes describe.
pub fn run(input: &[u8]) -> Tally {
    let mut script = Script::new(input);
    let geometry = geometry(script.byte());
    let memory = memory(geometry);
    let peer = Peer::scripted(script, words(&memory, geometry), geometry.seats());
    play_script(&peer, World::new(&memory, geometry, &peer))
}

/// Runs these steps with one change of one word at one moment. Returns how many moments and words there were.
pub fn run_once(
    memory: &Guarded,
    geometry: MailGeometry,
    steps: &[Step],
    at: Option<u32>,
    word: usize,
    value: usize,
) -> (Tally, u32, usize) {
    let peer = Peer::once(at, word, value, words(memory, geometry), geometry.seats());
    play_steps(&peer, World::new(memory, geometry, &peer), steps)
}

impl<'m> World<'m> {
    fn new(memory: &'m Guarded, geometry: MailGeometry, peer: Host<'m>) -> Self {
        // SAFETY: fresh memory of the right length; the peer reclaims only forgotten occupants.
        let boxes =
            unsafe { Mailboxes::create(memory.region(), geometry, 7, peer) }.expect("memory that fits");
        let users = (0..geometry.seats()).map(|_| None).collect();
        let buffer = vec![0; geometry.capacity() as usize];
        Self { geometry, peer, boxes, users, tally: Tally::default(), buffer }
    }
}

impl Stage for World<'_> {
    type Step = Step;

    fn decode(&self) -> Step {
        let byte = self.peer.byte();
        let (seat, flag) = (u32::from(byte >> 5) % self.geometry.seats(), byte & 128 == 0);
        let index = u32::from(byte >> 4 & 1) % self.geometry.boxes();
        match byte % 16 {
            0..2 => Step::Sit(seat),
            2 => Step::Leave(seat),
            3 => Step::Die(seat),
            4 => Step::Reclaim,
            5..9 => Step::Write { seat, index, waits: flag },
            9..13 => Step::Read { seat, index, waits: flag },
            13..15 => Step::Newer(index),
            _ => Step::Watch,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Sit(seat) if self.users[seat as usize].is_none() => {
                self.users[seat as usize] = self.boxes.occupy(seat, 1).ok();
                self.tally.refused += u32::from(self.users[seat as usize].is_none());
            }
            Step::Sit(_) => {}
            Step::Leave(seat) => self.users[seat as usize] = None,
            Step::Die(seat) => {
                if let Some(user) = self.users[seat as usize].take() {
                    forget(user);
                    self.peer.kill(seat);
                }
            }
            Step::Reclaim => {
                self.boxes.reclaim_dead();
                assert!(self.boxes.users().count() <= self.geometry.seats() as usize);
            }
            Step::Write { seat, index, waits } => self.write(seat, index, waits),
            Step::Read { seat, index, waits } => self.read(seat, index, waits),
            Step::Newer(index) => {
                let than = u64::from(self.peer.byte());
                let found = self.boxes.wait_newer(index, than, self.peer.soon());
                assert!(found.is_err() || found.is_ok_and(|version| version > than));
                let _ = self.boxes.version(index);
            }
            Step::Watch => {
                let _ = self.boxes.sleep_unless(|| self.peer.byte() & 1 == 0, self.peer.soon());
                assert_eq!(self.boxes.version(self.geometry.boxes()), None);
            }
        }
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

impl<'m> World<'m> {
    fn write(&mut self, seat: u32, index: u32, waits: bool) {
        let Some(user) = &mut self.users[seat as usize] else { return };
        let length = usize::from(self.peer.byte()) * 4;
        let message = vec![self.peer.byte(); length.min(self.geometry.capacity() as usize + 1)];
        let written = match waits {
            true => user.write(index, &message, self.peer.soon()),
            false => user.try_write(index, &message),
        };
        match written {
            Ok(_) => self.tally.sent += 1,
            Err(MailWriteError::NoSuchBox) => panic!("the mailbox exists"),
            Err(MailWriteError::TooLong) => assert!(message.len() > self.geometry.capacity() as usize),
            Err(MailWriteError::Lock(_)) => self.tally.refused += 1,
        }
    }

    fn read(&mut self, seat: u32, index: u32, waits: bool) {
        let Some(user) = &mut self.users[seat as usize] else { return };
        let read = match waits {
            true => user.read(index, &mut self.buffer, self.peer.soon()),
            false => user.try_read(index, &mut self.buffer),
        };
        match read {
            Ok(message) => {
                assert!(message.length <= self.buffer.len());
                self.tally.received += 1;
            }
            Err(MailReadError::NoSuchBox) => panic!("the mailbox exists"),
            // The buffer is as long as the longest message.
            Err(MailReadError::TooShort(length)) => panic!("a message of {length} bytes"),
            Err(_) => self.tally.refused += 1,
        }
    }
}
