//! Whorl's seat lock between processes: the lock of core over the host of the library.

use crate::os::ofd_lock::ByteLocks;
use crate::shm::liveness::{Owner, SharedHost};
use harness::locks::Lock;
use rustix::fd::OwnedFd;
use std::sync::OnceLock;
use whorl_core::rwlock::{LockWords, Participant, Parts, SeatLock, SeatState};

const SEATS: usize = 64;
/// How many seats count as used, even if fewer processes take part. The uncontended figures are measured with this number.
const SEATS_USED: u32 = 8;

/// The words in shared memory. Zeroed memory is a free lock.
pub type Shared = LockWords<[SeatState; SEATS]>;

/// The lock over these words, as one process uses it.
type Handle = SeatLock<'static, SharedHost, [SeatState; SEATS]>;

/// Returns the memory object whose bytes the live processes lock. The forked roles inherit it.
fn object() -> &'static OwnedFd {
    static OBJECT: OnceLock<OwnedFd> = OnceLock::new();
    OBJECT.get_or_init(|| crate::shm::ring::object("bench-lock", 4096).expect("a memfd"))
}

fn handle(shared: &'static Shared) -> Handle {
    let host = SharedHost::new(ByteLocks::open(object()).expect("a lock"), Owner::ThisProcess);
    // SAFETY: the host reports a process as dead only after the kernel has dropped the lock of its seat's byte.
    unsafe { SeatLock::new(shared, host) }
}

/// The lock as a contender.
#[derive(Debug)]
pub struct Whorl {
    participant: Participant<Handle>,
    _seat: ByteLocks,
}

impl Lock for Whorl {
    const NAME: &'static str = "whorl";
    type Shared = Shared;

    unsafe fn make(place: *mut Shared) {
        object();
        // SAFETY: the caller passes zeroed memory that stays mapped. Zeroed memory is a free lock, and the words are atomics.
        let shared = unsafe { &*place };
        handle(shared).seats_used().raise(SEATS_USED - 1);
    }

    fn enter(shared: &'static Shared, seat: u32) -> Self {
        let lock = ByteLocks::open(object()).expect("a lock");
        assert!(lock.try_lock(seat).expect("a lock"), "another process occupies the seat");
        // SAFETY: each role has a seat of its own and holds that seat's byte, as the assertion has checked.
        let participant = unsafe { Participant::new(handle(shared), seat) };
        Self { participant, _seat: lock }
    }

    #[inline]
    fn read<R>(&mut self, inside: impl FnOnce() -> R) -> R {
        let _held = self.participant.read(None).expect("no deadline");
        inside()
    }

    #[inline]
    fn write<R>(&mut self, inside: impl FnOnce() -> R) -> R {
        let _held = self.participant.write(None).expect("no deadline");
        inside()
    }
}
