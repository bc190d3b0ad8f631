//! The operating system: files, descriptors, processes, signals, sockets and time.
//!
//! This layer does not know rings, channels or mailboxes. Only this folder names `libc`.

pub mod close_on_fork;
pub mod daemon;
pub(crate) mod deadline;
pub(crate) mod dirs;
pub mod error;
pub mod escape;
pub(crate) mod event_fd;
pub(crate) mod file;
pub(crate) mod file_id;
pub(crate) mod flush;
pub mod fork;
pub mod futex;
pub mod limits;
pub mod memory;
pub(crate) mod netlink;
pub mod new_file;
pub mod ofd_lock;
pub mod output;
pub mod pid;
pub mod signal;
pub mod socket;
pub mod socket_owner;
pub mod standard;
pub mod thread;
pub mod timeout;
