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

use peer::Peer;

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

/// What a hostile peer is tried on.
trait Stage {
    type Step: Copy;

    /// What the script says to do next.
    fn decode(&self) -> Self::Step;

    fn take(&mut self, step: Self::Step);

    fn tally(&self) -> Tally;
}

/// So many steps of a script at most.
const STEPS: u32 = 256;

/// Plays what the peer's script says, to its end.
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

/// Plays these steps; says how many moments and words there were for the peer.
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
