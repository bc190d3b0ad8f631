//! The peer: a host in whose calls, and between whose calls, words of the segment change.
//!
//! Its clock moves only when somebody waits, so runs are the same each time, and a wait that goes on after its deadline is
//! seen and not sat out.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use whorl_core::host::{Futex, Host, WaitResult};
use whorl_core::sync;

/// Any bytes; zeroes after their end.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn short(&mut self) -> usize {
        usize::from(self.byte()) | usize::from(self.byte()) << 8
    }

    pub fn word(&mut self) -> u32 {
        self.short() as u32 | (self.short() as u32) << 16
    }
}

/// The words that a peer changes: parts of a segment that mean something.
pub type Words<'a> = Vec<&'a AtomicU32>;

/// The words at these places (in words from the start) of a region.
pub fn pick<'a>(words: &'a [AtomicU32], places: &[Range<usize>]) -> Words<'a> {
    places.iter().flat_map(|place| &words[place.clone()]).collect()
}

/// What is most likely to be taken for something: `n` is the number of slots or seats.
pub fn tricky(old: u32, n: u32) -> [u32; 9] {
    [0, 1, u32::MAX, 1 << 31, n, n + 1, old.wrapping_add(1), old.wrapping_sub(1), 0x7f55_5000]
}

/// What the peer does when it is its turn.
enum Will<'a> {
    /// As the bytes say.
    Script(Script<'a>),
    /// One change, at its turn number `at`; never if `None`.
    Once { at: Option<u32>, word: usize, value: usize },
}

pub struct Peer<'a> {
    will: RefCell<Will<'a>>,
    words: Words<'a>,
    n: u32,
    turns: Cell<u32>,
    clock: Cell<u32>,
    /// One bit for each seat whose occupant will never act again.
    dead: Cell<u32>,
}

impl<'a> Peer<'a> {
    pub fn scripted(script: Script<'a>, words: Words<'a>, n: u32) -> Self {
        Self::new(Will::Script(script), words, n)
    }

    /// Changes one word once: to the `value`-th of the tricky values.
    pub fn once(at: Option<u32>, word: usize, value: usize, words: Words<'a>, n: u32) -> Self {
        Self::new(Will::Once { at, word, value }, words, n)
    }

    fn new(will: Will<'a>, words: Words<'a>, n: u32) -> Self {
        let (turns, clock, dead) = (Cell::new(0), Cell::new(1), Cell::new(0));
        Self { will: RefCell::new(will), words, n, turns, clock, dead }
    }

    /// How often it was the peer's turn.
    pub fn turns(&self) -> u32 {
        self.turns.get()
    }

    /// How many words it can change.
    pub fn reach(&self) -> usize {
        self.words.len()
    }

    pub fn is_over(&self) -> bool {
        matches!(&*self.will.borrow(), Will::Script(script) if script.is_over())
    }

    /// The next byte of the script; 0 without one.
    pub fn byte(&self) -> u8 {
        match &mut *self.will.borrow_mut() {
            Will::Script(script) => script.byte(),
            Will::Once { .. } => 0,
        }
    }

    /// Soon: after so many waits.
    pub fn soon(&self) -> Option<u32> {
        Some(self.clock.get() + 1 + u32::from(self.byte() % 4))
    }

    /// The occupant of this seat will never act again.
    pub fn kill(&self, seat: u32) {
        self.dead.set(self.dead.get() | 1 << seat);
    }

    /// Its turn: it changes a word, or not.
    pub fn act(&self) {
        let turn = self.turns.replace(self.turns.get() + 1);
        match &mut *self.will.borrow_mut() {
            Will::Script(script) if script.is_over() => {}
            Will::Script(script) => {
                if !script.byte().is_multiple_of(3) {
                    return;
                }
                let word = self.words[script.short() % self.words.len()];
                let old = word.load(Relaxed);
                let new = match script.byte() % 16 {
                    kind @ 0..9 => tricky(old, self.n)[usize::from(kind)],
                    9..11 => old ^ 1 << (script.byte() % 32),
                    11..13 => script.byte().into(),
                    13 => 0x8000_0000 | u32::from(script.byte()),
                    _ => script.word(),
                };
                word.store(new, Relaxed);
            }
            Will::Once { at, word, value } => {
                if *at == Some(turn) {
                    let word = self.words[*word];
                    word.store(tricky(word.load(Relaxed), self.n)[*value], Relaxed);
                }
            }
        }
    }
}

impl Futex for &Peer<'_> {
    type Deadline = u32;

    fn spin(&self, attempt: u32, _: Option<u32>) -> bool {
        self.act();
        attempt < 3
    }

    fn wait(&self, _: &sync::AtomicU32, _: u32, deadline: Option<u32>) -> WaitResult {
        let deadline = deadline.expect("all waits here have a deadline");
        let now = self.clock.replace(self.clock.get() + 1);
        assert!(now < deadline + 8, "it goes on waiting after its deadline");
        self.act();
        match self.byte() % 8 {
            _ if now >= deadline => WaitResult::TimedOut,
            1 => WaitResult::Interrupted,
            2..4 => WaitResult::PollInterval,
            _ => WaitResult::Woken,
        }
    }

    fn wake_all(&self, _: &sync::AtomicU32) {
        self.act();
    }
}

impl Host for &Peer<'_> {
    fn try_reclaim(&self, seat: u32, reclaim: impl FnOnce()) -> bool {
        self.act();
        let dead = seat < 32 && self.dead.get() >> seat & 1 == 1;
        if dead {
            reclaim();
            self.dead.set(self.dead.get() & !(1 << seat));
        }
        dead
    }

    fn try_sweep(&self, round: impl FnOnce()) {
        round();
    }

    fn owner_is_dead(&self) -> bool {
        self.byte() == 7
    }
}
