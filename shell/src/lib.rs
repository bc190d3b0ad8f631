//! One process talks to many on one Linux machine.
//!
//! `whorl` is what the command `shell` is made of: shared-memory segments, the broadcast ring in them, and copying one
//! source to many forked receivers. The lock-free algorithms are `whorl-core`'s; here is everything that touches the
//! operating system.
//!
//! | wanted | here |
//! |---|---|
//! | a stream of messages to many processes, by name | [`Sender`], [`Receiver`] |
//! | the latest message, which many read | [`Mailboxes`], [`dipc`] |
//! | servers that are found in a directory | [`Server`], [`discover`] |
//! | a file or stream to forked receivers | [`broadcast`] |
//! | a ring or mailboxes within one process | [`heap`] |
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

mod bell;
pub mod broadcast;
pub mod channel;
mod deadline;
pub mod dipc;
pub mod discovery;
#[doc(hidden)]
pub mod escape;
mod flow;
#[doc(hidden)]
pub mod flush;
pub mod futex;
pub mod heap;
pub mod held;
pub mod liveness;
mod made;
pub mod mailboxes;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod measured;
pub mod memory;
mod named;
mod netlink;
#[doc(hidden)]
pub mod new_file;
#[doc(hidden)]
pub mod output;
pub mod process;
pub mod rendezvous;
pub mod segment;
#[doc(hidden)]
pub mod socket_owner;
#[doc(hidden)]
pub mod standard;
pub mod timeout;

pub use channel::{
    CreateError, JoinError, JoinOptions, ReceiveError, Received, Receiver, SendError, Sender, SenderOptions,
    Slot,
};
pub use discovery::{Server, ServerOptions, discover};
pub use mailboxes::Mailboxes;
pub use rendezvous::Name;
pub use rendezvous::protocol::Start;

use rustix::io::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the kernel said, in words and without its number.
pub fn reason(error: Errno) -> String {
    reason_of(&std::io::Error::from(error))
}

/// The same of an error of the standard library.
pub fn reason_of(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// A path for people: quoted where it needs to be, and nothing in it reaches a terminal as a command.
pub fn shown(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text)
            if !text.is_empty() && !text.contains(|c: char| escape::is_hazard(c) || c.is_whitespace()) =>
        {
            text.to_owned()
        }
        _ => escape::quoted(bytes),
    }
}
