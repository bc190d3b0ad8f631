//! One process talks to many on one Linux machine.
//!
//! `whorl` is what the command `shell` is made of: shared-memory segments, the broadcast ring in them, and copying one
//! source to many forked receivers. The lock-free algorithms are `whorl-core`'s; here is everything that touches the
//! operating system.
//!
//! | wanted | here |
//! |---|---|
//! | a stream of messages to many processes, by name | [`Sender`], [`Receiver`] |
//! | the latest message, which many read | [`Mailboxes`], [`mailbox_server`] |
//! | servers that are found in a directory | [`Server`], [`discover`] |
//! | a file or stream to forked receivers | [`transfer`] |
//! | a ring within one process | [`shm::heap`] |
//!
//! The library leaves signals to its program. Beyond the limit of file sizes (`RLIMIT_FSIZE`), which counts for shared memory
//! too, the kernel sends SIGXFSZ, which kills a program that neither ignores nor handles it. A program that does gets an
//! error instead: `EFBIG`, "file too large".
//!
//! A sender and a receiver, in any order:
//!
//! ```no_run
#![doc = include_str!("../examples/hello.rs")]
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Whorl's shell needs Linux: memfd, futex, pidfd and open-file-description locks. whorl-core builds anywhere."
);

pub mod channel;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod contenders;
pub mod discovery;
pub mod mailbox_server;
#[doc(hidden)]
pub mod os;
pub mod registry;
pub mod shm;
pub mod transfer;

pub use channel::{
    CreateError, JoinError, ReceiveError, Received, Receiver, ReceiverOptions, SendError, Sender,
    SenderOptions, Slot,
};
pub use discovery::{Server, ServerOptions, discover};
pub use registry::Name;
pub use registry::protocol::Start;
pub use shm::mailboxes::Mailboxes;
