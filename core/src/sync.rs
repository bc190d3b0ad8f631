//! The one door to atomics: everything else in this crate takes them from here.
//!
//! The models compile the same algorithms against another implementation of this module, which is why nothing else may
//! name `core::sync::atomic` (`tests/source.rs` looks) and why no shared type has a `const` constructor.

pub use core::hint::spin_loop;
pub use core::sync::atomic::{AtomicU32, Ordering, fence};
