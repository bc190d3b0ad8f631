//! Timeouts for the kernel: made in one place, and capped.
//!
//! A kernel before 5.11 has no `epoll_pwait2`, and a filter may refuse it. The older call counts milliseconds in 31
//! bits, and the call that rustix makes for a longer timeout is the missing one. Elsewhere a number of seconds that does
//! not fit becomes negative, which the kernel refuses. So no wait is asked for longer than [`LONGEST`]. A caller whose
//! deadline is later looks at the clock when the wait ends, and waits again.

use rustix::time::Timespec;
use std::time::{Duration, Instant};

/// The longest wait that the kernel is asked for.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// No waiting at all.
pub const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// A timeout of `duration`, or of [`LONGEST`] if that is shorter.
pub const fn timespec(duration: Duration) -> Timespec {
    let longer = duration.as_secs() >= LONGEST.as_secs();
    let capped = if longer { LONGEST } else { duration };
    Timespec { tv_sec: capped.as_secs() as _, tv_nsec: capped.subsec_nanos() as _ }
}

/// What is left until `deadline`, as far as one wait goes. False beside it: the deadline is later than that.
pub fn until(deadline: Instant) -> (Timespec, bool) {
    let left = deadline.saturating_duration_since(Instant::now());
    (timespec(left), left <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_becomes_a_timeout_that_every_kernel_takes() {
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
        assert!(LONGEST.as_millis() < i32::MAX as u128, "what epoll_pwait takes");
    }
}
