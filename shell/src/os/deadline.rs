//! Deadlines.

use std::time::{Duration, Instant};

/// The deadline that replaces one that the clock cannot represent.
const FAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Returns the instant that lies `timeout` from now. If the clock cannot represent it, returns an instant in thirty years.
pub(crate) fn after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + FAR_FUTURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_timeout_is_too_long() {
        for timeout in [Duration::MAX, Duration::from_secs(u64::MAX / 2), Duration::from_millis(u64::MAX)] {
            assert!(after(timeout) > Instant::now() + FAR_FUTURE / 2);
        }
        assert!(after(Duration::ZERO) <= Instant::now());
    }
}
