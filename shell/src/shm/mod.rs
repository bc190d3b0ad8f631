//! Shared memory: memory objects, the processes that use them, and the ring and the mailboxes that are mapped from them.

pub mod heap;
pub mod liveness;
pub mod mailboxes;
pub(crate) mod mapped_ring;
pub mod ring;

pub use whorl_core::layout::{Geometry, LayoutError, MAX_SEATS, MailGeometry};
