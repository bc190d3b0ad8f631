//! Shared memory: memory objects, who lives in them, and the ring and the mailboxes mapped from them.

pub mod heap;
pub mod liveness;
pub mod mailboxes;
pub mod mapped_ring;
pub mod ring;

pub use whorl_core::layout::{Geometry, LayoutError, MAX_SEATS, MailGeometry};
