//! Loom's side of the door: the same names as core's `sync.rs`.

pub use loom::hint::spin_loop;
pub use loom::sync::atomic::{AtomicU32, Ordering, fence};

/// The exchange that it is to the algorithm.
pub fn exchange_before_fence(word: &AtomicU32, value: u32) -> u32 {
    word.swap(value, Ordering::Relaxed)
}

/// To a model it is a fence like any other: that a processor may already have it is no matter of the algorithm.
pub fn fence_after_exchange(order: Ordering) {
    fence(order);
}

/// That skipping changes nothing is checked state by state in `core/tests/rwlock_search`.
pub(crate) const SKIPS: bool = false;
