//! A bell for event loops: an eventfd that is readable once it was rung, until it is hushed.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// So often is a ring tried.
const TRIES: u32 = 8;

/// The bell. Whoever has it may ring it, other threads and forked children included.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub fn new() -> Result<Self, Errno> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it readable.
    pub fn ring(&self) {
        for _ in 0..TRIES {
            // Full is rung. Nothing else is to be expected; but a bell that did not ring would leave a loop asleep for ever.
            if matches!(rustix::io::write(&self.0, &1_u64.to_ne_bytes()), Ok(_) | Err(Errno::AGAIN)) {
                return;
            }
        }
    }

    /// Takes the rings so far back.
    pub fn hush(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]); // empty is quiet
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
