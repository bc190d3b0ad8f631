//! The atomics of the models: the names of core's `sync.rs`, from loom.

pub use loom::hint::spin_loop;
pub use loom::sync::atomic::{AtomicU32, Ordering, fence};

/// The exchange that the algorithm relies on.
pub fn exchange_before_fence(word: &AtomicU32, value: u32) -> u32 {
    word.swap(value, Ordering::Relaxed)
}

/// A fence like any other. The algorithm does not depend on a processor that already has one there.
pub fn fence_after_exchange(order: Ordering) {
    fence(order);
}

/// `core/tests/rwlock_search` checks state by state that skipping changes nothing.
pub(crate) const SKIPS: bool = false;
