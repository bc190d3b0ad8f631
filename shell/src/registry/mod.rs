//! The place where independent processes find each other: the per-user runtime directory, the names in it, and sockets
//! that transfer descriptors.
//!
//! | file | what it is |
//! |---|---|
//! | `NAME.sock` | the socket of a channel's owner; stale if no process listens on it |
//! | `NAME.PID.wait` | the lock file of a process that waits for an owner |
//! | `dipc-PORT.info` | the lock file of a mailbox server, whose socket is `dipc-PORT.sock` |

mod client;
mod list;
mod listener;
pub mod lock_file;
mod name;
pub mod protocol;
mod remove;
mod runtime_dir;
pub mod status;
mod wait_file;

pub use crate::os::file_id::FileId;
pub(crate) use client::readable;
pub use client::{Answer, Client, ConnectError, RequestError};
pub use list::{Listed, State, list};
pub(crate) use list::{owner_pid, report, server_of};
pub(crate) use listener::send;
pub use listener::{BindError, Listener, Probe};
pub use name::{Name, NameError};
pub use remove::{RemoveError, Removed, remove_dead, remove_name};
pub use runtime_dir::{Locked, RuntimeDir, RuntimeError};
pub use wait_file::{Changes, Ended, WaitFile, Waiter};
