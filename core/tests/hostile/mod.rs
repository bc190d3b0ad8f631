//! A peer that writes anything, anywhere, at any time, and what it is tried on. `core/tests/hostile_words.rs` and the fuzz
//! targets (`fuzz/`) run the same functions: `run` in each module takes any bytes and returns what became of it.
//!
//! What must hold whatever the peer does: no access outside the region (guard pages stand on both sides), no panic, no call
//! that waits beyond its deadline, no length or count beyond what the geometry allows.
#![allow(dead_code, reason = "each user takes a part of it")]

pub mod boxes;
pub mod header;
pub mod memory;
pub mod peer;
pub mod ring;

/// What became of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Messages written.
    pub sent: u32,
    /// Messages read whole.
    pub received: u32,
    /// Calls that said no: full, empty, timed out, corrupt, taken, evicted.
    pub refused: u32,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.refused += other.refused;
    }
}
