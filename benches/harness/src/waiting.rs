//! Ways to wait that several contenders share.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Polite polling: after a few looks it yields the core between looks.
pub struct Backoff(u32);

impl Backoff {
    const LOOKS: u32 = 64;

    pub fn new() -> Self {
        Backoff(0)
    }

    /// Waits for a moment. Call it after each look that found nothing.
    #[inline]
    pub fn pause(&mut self) {
        if self.0 < Self::LOOKS {
            self.0 += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// Sleeps while `word` holds `expected`, and may return early. Uses the shared kind of futex, which works between
/// processes.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let time = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs() as _, // time_t, whose name is deprecated for musl
        tv_nsec: t.subsec_nanos() as libc::c_long,
    });
    let time = time.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
    // SAFETY: the word and the timespec outlive the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, time) };
}

/// Wakes up to `most` sleepers.
pub fn futex_wake(word: &AtomicU32, most: u32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, most) };
}
