//! Whorl's seat lock, between processes: core's own, over the library's host.

use crate::os::ofd_lock::ByteLocks;
use crate::shm::liveness::{Owner, SharedHost};
use harness::locks::Lock;
use rustix::fd::OwnedFd;
use std::sync::OnceLock;
use whorl_core::rwlock::{LockWords, Participant, Parts, SeatLock, SeatState};

const SEATS: usize = 64;
/// How many seats count as taken, whoever is there: the uncontended figures are asked for with so many.
const TAKEN: u32 = 8;

/// The words in shared memory. Zeroed memory is a free lock.
pub type Shared = LockWords<[SeatState; SEATS]>;

/// The lock over them, as one process sees it.
type Handle = SeatLock<'static, SharedHost>;

/// The object whose bytes say who is alive; inherited by every party.
fn object() -> &'static OwnedFd {
    static OBJECT: OnceLock<OwnedFd> = OnceLock::new();
    OBJECT.get_or_init(|| crate::shm::ring::object("bench-lock", 4096).expect("a memfd"))
}

fn handle(shared: &'static Shared) -> Handle {
    let host = SharedHost::new(ByteLocks::open(object()).expect("a lock"), Owner::ThisProcess);
    // SAFETY: the host asks the kernel who is dead.
    unsafe { SeatLock::new(shared, host) }
}

/// The lock, as a party.
pub struct Whorl {
    participant: Participant<Handle>,
    _seat: ByteLocks,
}

impl Lock for Whorl {
    const NAME: &'static str = "whorl";
    type Shared = Shared;

    unsafe fn make(place: *mut Shared) {
        object();
        // SAFETY: zeroed memory, which is a free lock; atomics.
        let shared = unsafe { &*place };
        handle(shared).seats_used().raise(TAKEN - 1);
    }

    fn enter(shared: &'static Shared, seat: u32) -> Self {
        let lock = ByteLocks::open(object()).expect("a lock");
        assert!(lock.try_lock(seat).expect("a lock"), "somebody sits there");
        // SAFETY: each party has a seat of its own and holds its byte.
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
