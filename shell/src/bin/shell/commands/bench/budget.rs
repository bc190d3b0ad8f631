//! The time budget, which makes the command end in time on every machine.

use harness::timing::Timing;
use std::time::{Duration, Instant};

/// The time that a part of the measurement may take.
#[derive(Clone, Copy)]
pub struct Budget {
    time: Duration,
    until: Instant,
    rounds: usize,
    /// Whether this is a quick check.
    pub quick: bool,
}

impl Budget {
    /// Makes a budget that starts now, for `rounds` rounds of each case.
    pub fn new(time: Duration, rounds: usize, quick: bool) -> Self {
        Self { time, until: Instant::now() + time, rounds: if quick { 1 } else { rounds }, quick }
    }

    /// Returns this share of the budget, starting now.
    pub fn share(&self, share: f64) -> Self {
        let time = self.time.mul_f64(share);
        Self { time, until: Instant::now() + time, ..*self }
    }

    /// Returns whether to run a round. The first one always runs, others while there is time.
    pub fn wants(&self, round: usize) -> bool {
        round == 0 || (round < self.rounds && Instant::now() < self.until)
    }

    /// Returns the timing of each of `runs` runs in a round. Starting and ending the processes takes a part of the time.
    pub fn timing(&self, runs: usize) -> Timing {
        let slot = self.time.div_f64((runs * self.rounds) as f64);
        let measure = slot.mul_f64(0.6).clamp(Duration::from_millis(10), Duration::from_secs(10));
        Timing {
            warm_up: measure / 4,
            measure,
            deadline: measure + Duration::from_secs(30),
            patience: Duration::from_secs(2),
        }
    }
}
