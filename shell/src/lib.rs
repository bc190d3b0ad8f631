//! One process talks to many on one Linux machine.
//!
//! A **channel** is a stream under a name. One [`Sender`] writes each message once, into shared memory, and any number of
//! [`Receiver`]s read it there. No message is lost: the sender waits for the slowest receiver. **Mailboxes** hold the latest
//! message for many readers. A **server** is found through a file in a directory, and gives each client two messages.
//!
//! | you want | use |
//! |---|---|
//! | to send a stream of messages to many processes | [`Sender`], [`Receiver`] |
//! | to read and write the latest message of many | [`Mailboxes`] of a server, [`MailSegment`] of your own |
//! | to be found in a directory, and to find others there | [`Server`], [`discover`] |
//! | a ring between the threads of one process | [`heap`] |
//! | the algorithms over memory of your own | [`whorl_core`] |
//!
//! A sender and a receiver, started in any order:
//!
//! ```no_run
#![doc = include_str!("../examples/hello.rs")]
//! ```
//!
//! # Waiting
//!
//! `send` and `recv` wait without a limit. `try_send` and `try_recv` never wait. The calls that end with `_timeout` and
//! `_deadline` wait until a time. In an event loop, [`Receiver::arm`] returns whether the program can wait for the receiver's descriptor.
//!
//! # Signals, forks and threads
//!
//! - The library installs no signal handlers, and its threads block every signal. A wait continues after a handler of the
//!   program returns, so a program that must stop uses the calls with a time limit.
//! - After `fork`, the parent keeps its handles. In the child each call on them returns `Forked`.
//! - Beyond the limit of file sizes (`RLIMIT_FSIZE`), which counts for shared memory too, the kernel sends SIGXFSZ. A program
//!   that ignores or handles it gets the error `EFBIG`, "file too large".
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `cli` | yes | the command `shell`, and with it all packages that only the command needs |
//!
//! A program that uses the library alone turns it off: `whorl-ipc = { version = "0.1", default-features = false }`.

#![cfg_attr(feature = "cli", deny(unreachable_pub))]
#![cfg_attr(
    feature = "cli",
    allow(rustdoc::private_intra_doc_links, reason = "the checked page is the one without `cli`")
)]
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports, reason = "the command uses the rest"))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Whorl's shell needs Linux: memfd, futex, pidfd and open-file-description locks. whorl-core builds anywhere."
);

mod channel;
#[cfg(feature = "cli")]
mod contenders;
mod discovery;
pub mod error;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod internal;
mod mailbox_server;
mod os;
mod registry;
mod shm;
mod transfer;

pub use channel::{
    Batch, Claim, CreateError, JoinError, PeerSummary, ReceiveError, Received, Receiver, ReceiverOptions,
    SendError, Sender, SenderOptions,
};
pub use discovery::{Answer, Reach, Server, ServerError, ServerOptions, discover};
pub use mailbox_server::attach::AttachError;
pub use registry::Name;
pub use registry::protocol::Start;
pub use shm::MailGeometry;
pub use shm::heap;
pub use shm::mailboxes::{MailSegment, MailboxError, Mailboxes, Message};
pub use whorl_core::error::End;
