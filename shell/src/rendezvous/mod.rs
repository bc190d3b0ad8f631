//! Where processes that were not born together meet: the per-user runtime directory, names in it, and sockets that hand
//! descriptors over.
//!
//! | file | what it is |
//! |---|---|
//! | `NAME.sock` | the socket of a channel's owner; stale when nobody listens on it |
//! | `NAME.PID.wait` | a process that waits for an owner; stale when nobody holds its lock |

mod client;
mod directory;
mod handover;
mod listener;
mod name;
pub mod protocol;
pub mod report;
mod waiting;

pub use crate::named::Identity;
pub(crate) use client::readable;
pub use client::{Answer, Client, ConnectError, TalkError};
pub(crate) use directory::DirectoryLock;
pub use directory::{Locked, RuntimeDir, RuntimeError};
pub use handover::{MAX_DESCRIPTORS, receive, receive_with_descriptors, send_with_descriptors};
pub use listener::{BindError, Listener, Probe};
pub use name::{Name, NameError};
pub use waiting::{Changes, Ended, WaitFile, Waiter};

/// What `shell ls` and `shell rm` need of all this.
pub(crate) mod judging {
    pub(crate) use super::listener::{identity, probe, remove};
    pub(crate) use super::waiting::{dismiss, is_live, remove_if_stale, visible_pid};
}
