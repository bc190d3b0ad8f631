//! The seat lock's operations. The victim has seat 0, a peer that survives has seat 1. The tester has seat 2, in which
//! it may hold the lock so that the others wait. Afterwards it takes the dead victim's seat.
//!
//! The survivors get no message about the death. They notice it when a wait slice ends, in the sweep.

use super::peers::{Fault, Outcome, Peer, Words, ensure, loss, retry, shared_zeroes};
use super::steps::{operation, pause};
use super::sweep::{Case, CaseResult, Operation};
use rustix::fd::OwnedFd;
use rustix::fs::MemfdFlags;
use std::hint::black_box;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use whorl::internal::os::ofd_lock::ByteLocks;
use whorl::internal::shm::liveness::{Owner, SharedHost};
use whorl_core::host::Host;
use whorl_core::rwlock::{self, LockWords, Participant, Parts, ReadGuard, SeatLock, SeatState, WriteGuard};
use whorl_core::sync::AtomicU32;

const VICTIM: u32 = 0;
const PEER: u32 = 1;
const TESTER: u32 = 2;
const FREE: u32 = 4;
const SEATS: usize = 5;

const READY: usize = 0;
const GO: usize = 1;
const DEAD: usize = 2;

/// A lock in shared memory, and counts of the writers and readers that are in.
#[repr(C)]
struct Memory {
    words: LockWords<[SeatState; SEATS]>,
    writers: AtomicU32,
    readers: AtomicU32,
}

/// The lock, as one process sees it.
type Lock = SeatLock<'static, SharedHost>;

/// What each process needs to take part.
#[derive(Clone, Copy)]
struct TestLock {
    memory: &'static Memory,
    object: &'static OwnedFd,
    words: Words,
}

impl TestLock {
    fn new() -> Self {
        let object =
            rustix::fs::memfd_create("whorl-test-lock", MemfdFlags::CLOEXEC).expect("a memory object");
        Self { memory: shared_zeroes(), object: Box::leak(Box::new(object)), words: Words::new() }
    }

    fn lock(self) -> Lock {
        let locks = ByteLocks::open(self.object).expect("a description");
        // SAFETY: the host asks the kernel which seats are dead.
        unsafe { SeatLock::new(&self.memory.words, SharedHost::new(locks, Owner::ThisProcess)) }
    }

    /// Takes a seat, after reclaiming its last occupant if that died.
    fn occupy(self, seat: u32) -> Result<(Participant<Lock>, ByteLocks), Fault> {
        let (lock, mine) = (self.lock(), ByteLocks::open(self.object).expect("a description"));
        let reclaim = || {
            // SAFETY: the byte was free, and is locked by this process now.
            unsafe { rwlock::reclaim(&lock, seat) };
            Some(())
        };
        retry("the seat's byte", |_| mine.occupy(seat, || true, reclaim).ok().flatten())?;
        // SAFETY: as above.
        Ok((unsafe { Participant::new(lock, seat) }, mine))
    }

    fn free(self) {
        self.words.free();
        // SAFETY: leaked by `new`, and no longer used.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(self.object).cast_mut()) });
        let memory = std::ptr::from_ref(self.memory).cast_mut().cast();
        // SAFETY: mapped by `new`, and no longer used.
        unsafe { libc::munmap(memory, size_of::<Memory>()) };
    }

    /// Checks, as a writer that has entered, that it is alone.
    fn write(self) -> Outcome {
        let alone = self.memory.writers.swap(1, SeqCst) == 0 && self.memory.readers.load(SeqCst) == 0;
        std::hint::spin_loop();
        let still = self.memory.writers.swap(0, SeqCst) == 1 && self.memory.readers.load(SeqCst) == 0;
        ensure(alone && still, || "a writer was not alone".into())
    }

    /// Checks, as a reader that has entered, that no writer is in.
    fn read(self) -> Outcome {
        self.memory.readers.fetch_add(1, SeqCst);
        let without = self.memory.writers.load(SeqCst) == 0;
        self.memory.readers.fetch_sub(1, SeqCst);
        ensure(without, || "a reader met a writer".into())
    }
}

/// Takes the lock both ways, several times. Reports a hang if that does not end.
fn rounds(test: TestLock, me: &mut Participant<Lock>) -> Outcome {
    for _ in 0..2 {
        retry("to write", |deadline| me.write(Some(deadline)).ok().map(|_guard| test.write()))??;
        retry("to read", |deadline| me.read(Some(deadline)).ok().map(|_guard| test.read()))??;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

/// What the victim is killed in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Locking {
    /// Enters, without a limit.
    Enter(Kind),
    /// Enters, or gives up after a millisecond.
    Timed(Kind),
    /// Enters, or gives up at once.
    Try(Kind),
    /// Leaves.
    Leave(Kind),
    /// Reclaims a process that died inside.
    Reclaim(Kind),
}

/// What the peer does during the operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peers {
    Wait,
    Sleep(Kind),
    Busy,
}

/// How the tester holds the lock during the operation.
type TesterHold = Option<Kind>;

enum Guard<'a> {
    Reading { _guard: ReadGuard<'a, Lock> },
    Writing { _guard: WriteGuard<'a, Lock> },
}

/// Enters a free lock.
fn enter(me: &mut Participant<Lock>, kind: Kind) -> Guard<'_> {
    match kind {
        Kind::Read => Guard::Reading { _guard: me.try_read().expect("the lock is free") },
        Kind::Write => Guard::Writing { _guard: me.try_write().expect("the lock is free") },
    }
}

struct Killed {
    locking: Locking,
    state: Peers,
    stops: bool,
    test: TestLock,
    peer: Peer,
    dead: Option<Peer>,
    guard: Option<Guard<'static>>,
    /// The tester's seat. Leaked until the end, because the guard borrows from it.
    tester: *mut (Participant<Lock>, ByteLocks),
}

impl Killed {
    fn new(locking: Locking, state: Peers, held: TesterHold, stops: bool) -> Result<Self, Fault> {
        let test = TestLock::new();
        let tester = Box::into_raw(Box::new(test.occupy(TESTER)?));
        // SAFETY: leaked just now; freed after the guard is dropped.
        let participant: &'static mut _ = unsafe { &mut (*tester).0 };
        let guard = held.map(|kind| enter(participant, kind));
        let peer = Peer::fork("the peer", || peer(test, state));
        test.words.wait(READY, "the peer")?;
        let mut killed = Self { locking, state, stops, test, peer, dead: None, guard, tester };
        // If the tester holds the lock, the peer must sleep before the victim comes.
        if killed.guard.is_some() {
            killed.settle()?;
        }
        Ok(killed)
    }

    /// Brings the peer into its state.
    fn settle(&mut self) -> Outcome {
        if let Locking::Reclaim(kind) = self.locking {
            let test = self.test;
            self.dead = Some(Peer::fork("the process that dies", || die_inside(test, kind)));
            test.words.wait(DEAD, "the process that dies")?;
        }
        self.test.words.set(READY + 8, 1);
        match self.state {
            Peers::Sleep(_) => self.peer.asleep()?,
            Peers::Busy => self.test.words.wait(READY + 9, "the busy peer")?,
            Peers::Wait => {}
        }
        drop(self.dead.take());
        Ok(())
    }
}

/// Enters in seat 3, and is killed there.
fn die_inside(test: TestLock, kind: Kind) -> Outcome {
    let (mut me, _locks) = test.occupy(3)?;
    let _guard = enter(&mut me, kind);
    test.words.set(DEAD, 1);
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

fn peer(test: TestLock, state: Peers) -> Outcome {
    let (mut me, _locks) = test.occupy(PEER)?;
    test.words.set(READY, 1);
    test.words.wait_for_ever(READY + 8);
    match state {
        Peers::Wait => test.words.wait_for_ever(GO),
        // Without a deadline: the tester's patience is the limit.
        Peers::Sleep(Kind::Read) => drop(me.read(None)),
        Peers::Sleep(Kind::Write) => drop(me.write(None)),
        Peers::Busy => {
            while test.words.get(GO) == 0 {
                if let Ok(_guard) = me.try_write() {
                    test.write()?;
                }
                if let Ok(_guard) = me.read(Some(Instant::now())) {
                    test.read()?;
                }
                test.words.word(READY + 9).store(1, SeqCst);
            }
        }
    }
    // Until the victim is dead it may be in, for as long as the tester steps through it.
    test.words.wait_for_ever(GO);
    rounds(test, &mut me)
}

impl Case for Killed {
    fn victim(&mut self) {
        let (mut me, _locks) = self.test.occupy(VICTIM).expect("a seat");
        match self.locking {
            Locking::Leave(Kind::Read) => {
                let guard = me.read(None).expect("in");
                pause();
                operation(|| drop(guard));
            }
            Locking::Leave(Kind::Write) => {
                let guard = me.write(None).expect("in");
                pause();
                operation(|| drop(guard));
            }
            Locking::Enter(kind) | Locking::Timed(kind) => {
                pause();
                let soon = Instant::now() + Duration::from_millis(1);
                let deadline = matches!(self.locking, Locking::Timed(_)).then_some(soon);
                match kind {
                    Kind::Read => drop(black_box(operation(|| me.read(deadline)))),
                    Kind::Write => drop(black_box(operation(|| me.write(deadline)))),
                }
            }
            Locking::Try(kind) => {
                pause();
                match kind {
                    Kind::Read => drop(black_box(operation(|| me.try_read()))),
                    Kind::Write => drop(black_box(operation(|| me.try_write()))),
                }
            }
            Locking::Reclaim(_) => {
                let lock = me.parts();
                // Reclaims a free seat, so that the steps leave out what only a first call does.
                // SAFETY: this seat is never occupied.
                let reclaim = || unsafe { rwlock::reclaim(lock, FREE) };
                lock.host().try_sweep(|| _ = lock.host().try_reclaim(FREE, reclaim));
                pause();
                // As a waiter does it: the waiter that locks the sweeper's byte checks all seats.
                operation(|| lock.host().try_sweep(|| _ = black_box(rwlock::reclaim_dead(lock))));
            }
        }
    }

    fn at_pause(&mut self, _number: u32) -> Outcome {
        if self.guard.is_none() { self.settle() } else { Ok(()) }
    }

    fn at_end(&mut self) -> Outcome {
        // If the victim entered without a limit, it is in, so the others are out.
        let Locking::Enter(kind) = self.locking else { return Ok(()) };
        let memory = self.test.memory;
        for _ in 0..20 {
            let others = match kind {
                Kind::Read => 0,
                Kind::Write => memory.readers.load(SeqCst),
            };
            ensure(memory.writers.load(SeqCst) + others == 0, || {
                "another process is in beside the victim".into()
            })?;
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    fn survive(mut self: Box<Self>) -> Outcome {
        drop(self.guard.take());
        // SAFETY: made by `new`; the guard is gone.
        drop(unsafe { Box::from_raw(self.tester) });
        let test = self.test;
        test.words.set(GO, 1);
        // A new process takes the dead victim's seat, or another one if the victim is only stopped.
        let (mut new, locks) = test.occupy(if self.stops { TESTER } else { VICTIM })?;
        rounds(test, &mut new)?;
        self.peer.end("the peer")?;
        // All live processes have left. Now the lock must be free.
        let Ok(_guard) = new.try_write() else { return loss("the lock is not free at the end") };
        drop(_guard);
        drop((new, locks));
        test.free();
        Ok(())
    }
}

/// All operations, in all states.
pub fn operations() -> Vec<Operation> {
    use Kind::{Read, Write};
    use Locking::{Enter, Leave, Reclaim, Timed, Try};
    use Peers::{Busy, Sleep, Wait};
    type States = &'static [(&'static str, Peers, TesterHold)];
    let all: [(&str, Locking, States); 10] = [
        (
            "read lock",
            Enter(Read),
            &[("alone", Wait, None), ("beside a reader", Wait, Some(Read)), ("one is busy", Busy, None)],
        ),
        ("write lock", Enter(Write), &[("alone", Wait, None), ("one is busy", Busy, None)]),
        (
            "read lock, timed",
            Timed(Read),
            &[
                ("behind a writer", Wait, Some(Write)),
                ("a reader sleeps", Sleep(Read), Some(Write)),
                ("a writer sleeps", Sleep(Write), Some(Read)),
            ],
        ),
        (
            "write lock, timed",
            Timed(Write),
            &[
                ("behind a reader", Wait, Some(Read)),
                ("a reader sleeps", Sleep(Read), Some(Write)),
                ("a writer sleeps", Sleep(Write), Some(Write)),
                ("a writer sleeps before a reader", Sleep(Write), Some(Read)),
            ],
        ),
        (
            "cancel reading",
            Try(Read),
            &[
                ("behind a writer", Wait, Some(Write)),
                ("a writer sleeps", Sleep(Write), Some(Read)),
                ("one is busy", Busy, None),
            ],
        ),
        (
            "cancel writing",
            Try(Write),
            &[
                ("behind a reader", Wait, Some(Read)),
                ("a reader sleeps", Sleep(Read), Some(Write)),
                ("a writer sleeps", Sleep(Write), Some(Write)),
                ("one is busy", Busy, None),
            ],
        ),
        (
            "unlock reading",
            Leave(Read),
            &[("alone", Wait, None), ("a writer sleeps", Sleep(Write), None), ("one is busy", Busy, None)],
        ),
        (
            "unlock writing",
            Leave(Write),
            &[
                ("alone", Wait, None),
                ("a reader sleeps", Sleep(Read), None),
                ("a writer sleeps", Sleep(Write), None),
                ("one is busy", Busy, None),
            ],
        ),
        (
            "reclaim a writer",
            Reclaim(Write),
            &[
                ("alone", Wait, None),
                ("a reader sleeps", Sleep(Read), None),
                ("a writer sleeps", Sleep(Write), None),
            ],
        ),
        (
            "reclaim a reader",
            Reclaim(Read),
            &[("alone", Wait, None), ("a writer sleeps", Sleep(Write), None), ("one is busy", Busy, None)],
        ),
    ];
    let mut operations = Vec::new();
    let stopped = [
        (
            "stopped while it reclaims a writer",
            Reclaim(Write),
            &[
                ("alone", Wait, None),
                ("a reader sleeps", Sleep(Read), None),
                ("a writer sleeps", Sleep(Write), None),
            ] as States,
        ),
        (
            "stopped while it reclaims a reader",
            Reclaim(Read),
            &[("alone", Wait, None), ("a writer sleeps", Sleep(Write), None), ("one is busy", Busy, None)],
        ),
    ];
    let each = all.into_iter().map(|row| (row, false)).chain(stopped.map(|row| (row, true)));
    for ((name, locking, states), stops) in each {
        for &(state, peers, held) in states {
            let make = move || -> CaseResult { Ok(Box::new(Killed::new(locking, peers, held, stops)?)) };
            operations.push(Operation { name, state, stops, make: Box::new(make) });
        }
    }
    operations
}
