//! What a data thread tells a control thread of the bytes' flow. Plain counters, which order nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The bytes sent, and whether the data thread waits for peers.
#[derive(Default)]
pub(crate) struct Progress {
    sent: AtomicU64,
    waiting: AtomicBool,
}

impl Progress {
    /// So many bytes were sent by now.
    pub fn set_sent(&self, total: u64) {
        self.sent.store(total, Ordering::Relaxed);
    }

    /// The bytes sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Runs something that may wait for peers.
    pub fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.waiting.store(true, Ordering::Relaxed);
        let result = wait();
        self.waiting.store(false, Ordering::Relaxed);
        result
    }

    /// Whether the data thread waits for peers just now.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }
}
