//! Timeouts in the form that the kernel takes, with an upper limit.
//!
//! Two kinds of system calls refuse long timeouts:
//!
//! - A kernel before 5.11 has no `epoll_pwait2`, and a filter may refuse that call. The older call counts milliseconds in 31
//!   bits. For a longer timeout, rustix makes the call that is missing.
//! - Other calls turn a number of seconds that does not fit into a negative number, which the kernel refuses.
//!
//! So no caller asks the kernel to wait longer than [`LONGEST`]. A caller with a later deadline checks the clock after the wait,
//! and waits again.

use rustix::time::Timespec;
use std::time::{Duration, Instant};

/// The longest wait that a caller may ask the kernel for.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A timeout of zero: the call does not wait.
pub const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Returns a timeout of `duration` or of [`LONGEST`], whichever is shorter.
pub const fn timespec(duration: Duration) -> Timespec {
    let is_too_long = duration.as_secs() >= LONGEST.as_secs();
    let capped = if is_too_long { LONGEST } else { duration };
    Timespec { tv_sec: capped.as_secs() as _, tv_nsec: capped.subsec_nanos() as _ }
}

/// Returns the timeout for one wait until `deadline`, and whether that wait reaches it. `false` means that the deadline is later
/// than the longest wait.
pub fn until(deadline: Instant) -> (Timespec, bool) {
    let left = deadline.saturating_duration_since(Instant::now());
    (timespec(left), left <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_becomes_a_timeout_that_each_kernel_accepts() {
        let parts = |duration| {
            let Timespec { tv_sec, tv_nsec } = timespec(duration);
            (tv_sec, tv_nsec)
        };
        assert_eq!(parts(Duration::ZERO), (0, 0));
        assert_eq!(parts(Duration::from_nanos(1_500_000_001)), (1, 500_000_001));
        assert_eq!(parts(LONGEST - Duration::from_nanos(1)), (86_399, 999_999_999));
        for long in
            [LONGEST, Duration::from_millis(9_999_999_999), Duration::from_secs(1 << 63), Duration::MAX]
        {
            assert_eq!(parts(long), (86_400, 0), "{long:?}");
        }
        assert!(LONGEST.as_millis() < i32::MAX as u128, "the most that epoll_pwait accepts");
    }
}
