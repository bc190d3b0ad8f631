//! Where processes that were not born together meet: the per-user runtime directory, names in it, and sockets that hand
//! descriptors over.
//!
//! | file | what it is |
//! |---|---|
//! | `NAME.sock` | the socket of a channel's owner; stale when nobody listens on it |
//! | `NAME.PID.wait` | a process that waits for an owner; stale when nobody holds its lock |

mod client;
mod list;
mod listener;
mod name;
pub mod protocol;
mod runtime_dir;
pub mod status;
mod wait_file;

pub use crate::os::file::FileId;
pub(crate) use client::readable;
pub use client::{Answer, Client, ConnectError, RequestError};
pub use list::{Listed, RemoveError, Removed, State, list, remove_dead, remove_name};
pub use listener::{BindError, Listener, Probe};
pub use name::{Name, NameError};
pub(crate) use runtime_dir::DirectoryLock;
pub use runtime_dir::{Locked, RuntimeDir, RuntimeError};
pub use wait_file::{Changes, Ended, WaitFile, Waiter};
