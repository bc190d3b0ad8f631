//! A bell for event loops: an eventfd that is readable once it was rung, until it is hushed. And what such a loop waits with.

use crate::os::timeout::NOW;
use rustix::event::{EventfdFlags, epoll, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::mem::MaybeUninit;

/// So often is a ring tried.
const TRIES: u32 = 8;

/// The bell. Whoever has it may ring it, other threads and forked children included.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    /// Makes a bell, and tries it: a filter may forbid what rings it, and then a loop would sleep for ever.
    pub fn new() -> Result<Self, Errno> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        while let Err(error) = rustix::io::write(&event, &0_u64.to_ne_bytes()) {
            if error != Errno::INTR {
                return Err(error);
            }
        }
        Ok(Self(event))
    }

    /// Makes it readable.
    pub fn signal(&self) {
        for _ in 0..TRIES {
            // Full is rung. Nothing else is to be expected; but a bell that did not ring would leave a loop asleep for ever.
            if matches!(rustix::io::write(&self.0, &1_u64.to_ne_bytes()), Ok(_) | Err(Errno::AGAIN)) {
                return;
            }
        }
    }

    /// Takes the rings so far back.
    pub fn drain(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]); // empty is quiet
    }
}

/// Tries poll(2): a loop whose waits all fail would spin, and hear of nothing.
///
/// # Errors
/// It fails: a filter may forbid it.
pub(crate) fn try_poll() -> Result<(), Errno> {
    match poll(&mut [], Some(&NOW)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes an epoll set, and tries it: a loop whose waits all fail would spin, and hear of nothing.
///
/// # Errors
/// There is none to be had, or waiting with it fails: a filter may forbid that alone.
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
