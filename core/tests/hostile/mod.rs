//! A peer that writes anything, anywhere, at any time, and the code that it attacks. `core/tests/hostile_words.rs` and
//! the fuzz targets (`fuzz/`) run the same functions: `run` in each module takes any bytes and returns its counts.
//!
//! Whatever the peer does, the code under test keeps these rules: no access outside the region (guard pages are on both
//! sides), no panic, no call that waits beyond its deadline, no length or count beyond the geometry.
#![allow(dead_code, reason = "each test and fuzz target uses only a part of it")]

pub mod boxes;
pub mod header;
pub mod memory;
pub mod peer;
pub mod ring;

use peer::Peer;

/// The counts of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Messages written.
    pub sent: u32,
    /// Messages read whole.
    pub received: u32,
    /// Calls that returned an error: full, empty, timed out, corrupt, taken, evicted.
    pub refused: u32,
}

/// The code that a hostile peer attacks.
trait Stage {
    type Step: Copy;

    /// Decodes the next step of the script.
    fn decode(&self) -> Self::Step;

    fn take(&mut self, step: Self::Step);

    fn tally(&self) -> Tally;
}

/// The most steps of a script.
const STEPS: u32 = 256;

/// Plays the peer's script to its end.
fn play_script(peer: &Peer<'_>, mut stage: impl Stage) -> Tally {
    for _ in 0..STEPS {
        if peer.is_over() {
            break;
        }
        peer.act();
        let step = stage.decode();
        stage.take(step);
    }
    stage.tally()
}

/// Plays these steps. Returns how many moments and words there were for the peer.
fn play_steps<S: Stage>(peer: &Peer<'_>, mut stage: S, steps: &[S::Step]) -> (Tally, u32, usize) {
    for step in steps {
        peer.act();
        stage.take(*step);
    }
    (stage.tally(), peer.turns(), peer.reach())
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.refused += other.refused;
    }
}
