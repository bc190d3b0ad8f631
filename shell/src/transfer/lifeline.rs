//! Hearing of a receiver's end where the kernel, or a container's filter, has no pidfds.
//!
//! Then each receiver alone holds one end of a pipe open. The kernel closes it when the receiver ends, however it ends, and
//! the other end becomes readable, as a pidfd would.

use crate::os::fork::Child;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

/// What is made before a receiver is forked, so that its end is heard of.
pub(super) enum Lifeline {
    /// Nothing: the kernel has pidfds.
    Pidfd,
    /// A pipe.
    Pipe {
        /// The end that becomes readable.
        reader: OwnedFd,
        /// The end that the receiver holds.
        writer: OwnedFd,
    },
}

/// Whether receivers need pipes, because there are no pidfds.
pub(super) fn needs_pipes() -> bool {
    let own = pidfd_open(getpid(), PidfdFlags::empty());
    matches!(own, Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS))
}

impl Lifeline {
    /// Prepares to hear of the receiver that is forked next.
    ///
    /// # Errors
    /// No descriptor was left.
    pub fn prepare(needs_pipe: bool) -> Result<Self, Errno> {
        if !needs_pipe {
            return Ok(Self::Pidfd);
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self::Pipe { reader, writer })
    }

    /// In the parent, once the receiver is forked and before the next one is: drops what only the receiver is to hold.
    pub fn forked(self) -> Option<OwnedFd> {
        match self {
            Self::Pidfd => None,
            Self::Pipe { reader, writer } => {
                drop(writer);
                Some(reader)
            }
        }
    }
}

/// A descriptor that becomes readable when the receiver ends.
///
/// # Errors
/// No descriptor was left.
pub(super) fn end_of(child: &Child, pipe: Option<OwnedFd>) -> Result<OwnedFd, Errno> {
    pipe.map_or_else(|| child.pidfd(), Ok)
}
