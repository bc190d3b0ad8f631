//! The data thread's state for the control thread: plain counters, which order nothing.

use crate::registry::status::Phase;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The progress of a sender.
#[derive(Default)]
pub(crate) struct SendStatus {
    sent: AtomicU64,
    /// Messages and holes, modulo 2^32.
    messages: AtomicU32,
    /// The length of the source plus 1, or 0 if the length is unknown.
    total: AtomicU64,
    waiting: AtomicBool,
    wanted: AtomicU32,
    begun: AtomicBool,
    needs_receivers: AtomicBool,
}

impl SendStatus {
    /// Stores the number of bytes sent so far.
    pub(crate) fn set_sent(&self, total: u64) {
        self.sent.store(total, Ordering::Relaxed);
    }

    /// Counts a message. Only the sender's thread counts.
    pub(crate) fn add_sent(&self, bytes: u64) {
        self.set_sent(self.sent() + bytes);
        self.messages.store(self.messages().wrapping_add(1), Ordering::Relaxed);
    }

    /// Returns how many messages were sent, modulo 2^32; 0 where bytes travel without message boundaries.
    pub(crate) fn messages(&self) -> u32 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stores the number of bytes to send, if it is known.
    pub(crate) fn set_total(&self, total: Option<u64>) {
        self.total.store(total.map_or(0, |total| total.saturating_add(1)), Ordering::Relaxed);
    }

    /// Returns the number of bytes to send, if it is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Runs a function that may wait for receivers.
    pub(crate) fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.waiting.store(true, Ordering::Relaxed);
        let result = wait();
        self.waiting.store(false, Ordering::Relaxed);
        result
    }

    /// Returns whether the data thread waits for receivers now.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Stores how many receivers the sender waits for before it begins.
    pub(crate) fn want(&self, count: u32) {
        self.wanted.store(count, Ordering::Relaxed);
    }

    /// Returns how many receivers the sender waits for before it begins.
    pub(crate) fn wanted(&self) -> u32 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Records that the sender has begun. With `needs_receivers` it ends when no receiver takes part.
    pub(crate) fn begin(&self, needs_receivers: bool) {
        self.begun.store(true, Ordering::Relaxed);
        self.needs_receivers.store(needs_receivers, Ordering::Relaxed);
    }

    /// Returns whether the sender ends when no receiver takes part.
    pub(crate) fn needs_receivers(&self) -> bool {
        self.needs_receivers.load(Ordering::Relaxed)
    }

    /// Returns whether the sender has begun.
    pub(crate) fn phase(&self) -> Phase {
        if self.begun.load(Ordering::Relaxed) { Phase::Live } else { Phase::Waiting }
    }
}
