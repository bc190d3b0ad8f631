//! How long a run takes.

use std::time::Duration;

/// How long the parts of a run take.
#[derive(Clone, Copy)]
pub struct Timing {
    pub warm_up: Duration,
    pub measure: Duration,
    /// The whole run is killed after this time.
    pub deadline: Duration,
    /// After a kill, the sender has this long to come to its end.
    pub patience: Duration,
}
