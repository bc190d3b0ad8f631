//! What the tests share: a host for the threads of one process, and memory.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use whorl_core::host::{Futex, Host, WaitResult};

/// Waits by yielding; nobody dies. A slice is so many looks at the word.
#[derive(Clone, Copy, Default)]
pub struct Yielding;

impl Futex for Yielding {
    type Deadline = Instant;

    fn spin(&self, attempt: u32, deadline: Option<Instant>) -> bool {
        std::hint::spin_loop();
        attempt < 16 && deadline.is_none_or(|deadline| Instant::now() < deadline)
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> WaitResult {
        for _ in 0..1000 {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return WaitResult::TimedOut;
            }
            if word.load(Ordering::Relaxed) != expected {
                return WaitResult::Woken;
            }
            std::thread::yield_now();
        }
        WaitResult::PollInterval
    }

    fn wake_all(&self, _: &AtomicU32) {}
}

impl Host for Yielding {
    fn try_reclaim(&self, _: u32, _: impl FnOnce()) -> bool {
        false
    }
    fn try_sweep(&self, round: impl FnOnce()) {
        round();
    }
    fn owner_is_dead(&self) -> bool {
        false
    }
}

/// Memory with the alignment that segments want.
#[repr(C, align(4096))]
#[derive(Clone, Copy)]
pub struct Page([u8; 4096]);

/// So many zeroed bytes, in pages.
pub fn memory(length: u64) -> Vec<Page> {
    vec![Page([0; 4096]); length.div_ceil(4096) as usize]
}

/// Their bytes.
pub fn bytes(pages: &mut [Page]) -> &mut [u8] {
    // SAFETY: pages are bytes without padding.
    unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), pages.len() * 4096) }
}
