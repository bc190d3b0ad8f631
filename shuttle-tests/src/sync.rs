//! Shuttle's side of the door: the same names as core's `sync.rs`.

pub use shuttle::hint::spin_loop;
pub use shuttle::sync::atomic::{AtomicU32, Ordering};

/// Nothing: shuttle's interleavings are sequentially consistent without.
pub fn fence(_: Ordering) {}

/// The exchange that it is to the algorithm.
pub fn exchange_before_fence(word: &AtomicU32, value: u32) -> u32 {
    word.swap(value, Ordering::Relaxed)
}

/// As [`fence`].
pub fn fence_after_exchange(_: Ordering) {}

/// Every step is taken by itself, so that others can come between.
pub(crate) const SKIPS: bool = false;
