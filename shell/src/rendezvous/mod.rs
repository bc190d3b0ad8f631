//! Where processes that were not born together meet: the per-user runtime directory, names in it, and sockets that hand
//! descriptors over.

mod directory;
mod handover;
mod name;

pub use directory::{RuntimeDir, RuntimeError};
pub use handover::{MAX_DESCRIPTORS, receive_with_descriptors, send_with_descriptors};
pub use name::{Name, NameError};
