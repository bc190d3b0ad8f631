//! How long things take: so that all is over when it should be, whatever the machine.

use harness::timing::Timing;
use std::time::{Duration, Instant};

/// The time that one part of the measurement may take.
#[derive(Clone, Copy)]
pub struct Budget {
    time: Duration,
    until: Instant,
    rounds: usize,
    /// Only to see that all works.
    pub quick: bool,
}

impl Budget {
    /// So much time from now on, for `rounds` rounds of each case.
    pub fn new(time: Duration, rounds: usize, quick: bool) -> Self {
        Self { time, until: Instant::now() + time, rounds: if quick { 1 } else { rounds }, quick }
    }

    /// This share of it, from now on.
    pub fn share(&self, share: f64) -> Self {
        let time = self.time.mul_f64(share);
        Self { time, until: Instant::now() + time, ..*self }
    }

    /// Whether there is to be a round of this number: the first in any case, others while there is time.
    pub fn wants(&self, round: usize) -> bool {
        round == 0 || (round < self.rounds && Instant::now() < self.until)
    }

    /// The timing of each of so many runs in every round, which share the time with what it takes to start and end them.
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
