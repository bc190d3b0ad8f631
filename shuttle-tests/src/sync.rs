//! Shuttle's side of the door: the same names as core's `sync.rs`.

pub use shuttle::sync::atomic::{AtomicU32, Ordering};

/// Nothing: shuttle's interleavings are sequentially consistent without.
pub fn fence(_: Ordering) {}

/// As [`fence`].
pub fn fence_after_exchange(_: Ordering) {}

/// Every step is taken by itself, so that others can come between.
pub(crate) const SKIPS: bool = false;
