//! When a time is up.

use std::time::{Duration, Instant};

/// Longer than anything waits.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// When so much time will have passed from now on. A time that no clock reaches becomes decades.
pub(crate) fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now + FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_too_long() {
        for time in [Duration::MAX, Duration::from_secs(u64::MAX / 2), Duration::from_millis(u64::MAX)] {
            assert!(after(time) > Instant::now() + FAR / 2);
        }
        assert!(after(Duration::ZERO) <= Instant::now());
    }
}
