//! The durations of a run.

use std::time::Duration;

/// The durations of a run's parts.
#[derive(Clone, Copy)]
pub struct Timing {
    pub warm_up: Duration,
    pub measure: Duration,
    /// The harness kills the whole run after this time.
    pub deadline: Duration,
    /// The time that the sender has to finish after a kill.
    pub patience: Duration,
}
