//! Loom's side of the door: the same names as core's `sync.rs`.

pub use loom::sync::atomic::{AtomicU32, Ordering, fence};

/// Does nothing. Core's spins are bounded, so no model needs to yield in them; and a yield makes loom forget the stale
/// values that the thread has seen, which would hide a lost wake from the models.
pub fn spin_loop() {}
