//! An eventfd that wakes an event loop, and checks that an event loop can wait at all.

use crate::os::timeout::NOW;
use rustix::event::{EventfdFlags, epoll, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::mem::MaybeUninit;

/// How often [`EventFd::signal`] tries its write.
const TRIES: u32 = 8;

/// An eventfd. [`signal`](Self::signal) makes it readable until [`drain`](Self::drain). Any thread and any forked child may signal
/// it.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    /// Creates an eventfd and writes to it once. If a filter forbids the write, an event loop would sleep forever, so this fails.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn new() -> Result<Self, Errno> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        while let Err(error) = rustix::io::write(&event, &0_u64.to_ne_bytes()) {
            if error != Errno::INTR {
                return Err(error);
            }
        }
        Ok(Self(event))
    }

    /// Makes the eventfd readable.
    pub(crate) fn signal(&self) {
        for _ in 0..TRIES {
            // A full counter is readable already. No other error is expected, but a lost signal would leave the event loop asleep
            // forever, so the write is tried again.
            if matches!(rustix::io::write(&self.0, &1_u64.to_ne_bytes()), Ok(_) | Err(Errno::AGAIN)) {
                return;
            }
        }
    }

    /// Makes the eventfd unreadable again.
    pub(crate) fn drain(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]); // fails if it was not readable
    }
}

/// Checks that poll(2) works. Otherwise an event loop would spin without seeing any event.
///
/// # Errors
/// The kernel's error, for example because a filter forbids the call.
pub(crate) fn try_poll() -> Result<(), Errno> {
    match poll(&mut [], Some(&NOW)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates an epoll instance and checks that waiting on it works. Otherwise an event loop would spin without seeing any event.
///
/// # Errors
/// The kernel's error. A filter may allow the creation and forbid the wait.
pub(crate) fn new_epoll() -> Result<OwnedFd, Errno> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut none = [MaybeUninit::<epoll::Event>::uninit(); 1];
    match epoll::wait(&epoll, &mut none, Some(&NOW)) {
        Ok(_) | Err(Errno::INTR) => Ok(epoll),
        Err(error) => Err(error),
    }
}

/// Watches a descriptor for input; its events carry `data`.
///
/// # Errors
/// The error of epoll_ctl(2).
pub(crate) fn watch(epoll: &OwnedFd, fd: BorrowedFd<'_>, data: u64) -> Result<(), Errno> {
    epoll::add(epoll, fd, epoll::EventData::new_u64(data), epoll::EventFlags::IN)
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
