//! The peer: a host that changes words of the segment during its calls and between them.
//!
//! Its clock moves only during waits, so each run is repeatable. A wait that continues after its deadline fails at
//! once, without taking real time.

#![allow(missing_debug_implementations, reason = "no test prints these")]

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use whorl_core::host::{Futex, Host, WaitResult};
use whorl_core::sync;

/// A script of any bytes, followed by zeroes.
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

/// The words that a peer changes: the parts of a segment that have a meaning.
pub type Words<'a> = Vec<&'a AtomicU32>;

/// Returns the words at these places of a region, counted in words from its start.
pub fn pick<'a>(words: &'a [AtomicU32], places: &[Range<usize>]) -> Words<'a> {
    places.iter().flat_map(|place| &words[place.clone()]).collect()
}

/// Returns the values that code most likely takes for a valid one. `n` is the number of slots or seats.
pub fn tricky(old: u32, n: u32) -> [u32; 9] {
    [0, 1, u32::MAX, 1 << 31, n, n + 1, old.wrapping_add(1), old.wrapping_sub(1), 0x7f55_5000]
}

/// How the peer decides on its turn.
enum Will<'a> {
    /// By the bytes of a script.
    Script(Script<'a>),
    /// One change, at turn number `at`, or none if `at` is `None`.
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

    /// Returns a peer that changes one word once, to the `value`-th of the tricky values.
    pub fn once(at: Option<u32>, word: usize, value: usize, words: Words<'a>, n: u32) -> Self {
        Self::new(Will::Once { at, word, value }, words, n)
    }

    fn new(will: Will<'a>, words: Words<'a>, n: u32) -> Self {
        let (turns, clock, dead) = (Cell::new(0), Cell::new(1), Cell::new(0));
        Self { will: RefCell::new(will), words, n, turns, clock, dead }
    }

    /// Returns how many turns the peer has had.
    pub fn turns(&self) -> u32 {
        self.turns.get()
    }

    /// Returns how many words it can change.
    pub fn reach(&self) -> usize {
        self.words.len()
    }

    pub fn is_over(&self) -> bool {
        matches!(&*self.will.borrow(), Will::Script(script) if script.is_over())
    }

    /// Returns the next byte of the script, or 0 without a script.
    pub fn byte(&self) -> u8 {
        match &mut *self.will.borrow_mut() {
            Will::Script(script) => script.byte(),
            Will::Once { .. } => 0,
        }
    }

    /// Returns a deadline a few waits ahead.
    pub fn soon(&self) -> Option<u32> {
        Some(self.clock.get() + 1 + u32::from(self.byte() % 4))
    }

    /// Makes the occupant of this seat dead.
    pub fn kill(&self, seat: u32) {
        self.dead.set(self.dead.get() | 1 << seat);
    }

    /// The peer's turn: it changes a word, or changes nothing.
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
        assert!(now < deadline + 8, "it is still waiting after its deadline");
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
