//! Errors that the errors of this library carry as their cause.
//!
//! Most programs only print them. A program that acts on a certain cause matches them.

pub use crate::discovery::FileError;
pub use crate::mailbox_server::server_registry::RegistryError;
pub use crate::os::error::OsError;
pub use crate::registry::protocol::{ProtocolError, Refusal};
pub use crate::registry::{BindError, ConnectError, NameError, RequestError, RuntimeError};
pub use crate::shm::LayoutError;
pub use crate::shm::ring::SegmentError;
pub use whorl_core::error::{LockError, MailReadError, MailWriteError, WaitError};
