//! The atomics of the runs: the names of core's `sync.rs`, from shuttle.

pub use shuttle::hint::spin_loop;
pub use shuttle::sync::atomic::{AtomicU32, Ordering};

/// Does nothing, because shuttle's interleavings are sequentially consistent without it.
pub fn fence(_: Ordering) {}

/// The exchange that the algorithm relies on.
pub fn exchange_before_fence(word: &AtomicU32, value: u32) -> u32 {
    word.swap(value, Ordering::Relaxed)
}

/// Does nothing, like [`fence`].
pub fn fence_after_exchange(_: Ordering) {}

/// Every step is taken by itself, so that other threads can run between two steps.
pub(crate) const SKIPS: bool = false;
