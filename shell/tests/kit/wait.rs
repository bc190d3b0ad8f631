//! Waiting for a condition.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Nothing in these tests takes this long, unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(60);
/// What the command promises within a second gets this long, because the machine may be busy.
pub const SOON: Duration = Duration::from_secs(5);

/// Waits for a condition. Panics if it is not met within this time.
#[track_caller]
pub fn until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < within, "not so within {within:?}: {what}");
        sleep(Duration::from_millis(1));
    }
}
