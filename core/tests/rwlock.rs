//! The seat lock, one thread at a time: which participant gets in, which does not, and what reclamation leaves.

mod threads;

use std::cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use threads::{Yielding, yielding};
use whorl_core::error::LockError;
use whorl_core::host::{Futex, Host, WaitResult};
use whorl_core::rwlock::{self, LockWords, Participant, Parts, SeatLock, SeatState, reclaim_dead};

/// The value of a reader's cell.
const READING: u32 = 1;

type Words = LockWords<[SeatState; 4]>;
type Lock<'m> = SeatLock<'m, Yielding>;

fn lock(words: &Words) -> Lock<'_> {
    // SAFETY: this host reports no death.
    unsafe { SeatLock::new(words, yielding()) }
}

fn participant<'l, 'm>(lock: &'l Lock<'m>, seat: u32) -> Participant<&'l Lock<'m>> {
    // SAFETY: each test uses each seat once, or again after reclamation.
    unsafe { Participant::new(lock, seat) }
}

fn idle(lock: &Lock<'_>) -> bool {
    !lock.owner_word().ownership().is_busy()
        && lock.cells().iter().all(|cell| word(cell).load(Ordering::Relaxed) == 0)
}

fn word(cell: &SeatState) -> &AtomicU32 {
    // SAFETY: a cell is an atomic word with padding after it.
    unsafe { &*std::ptr::from_ref(cell).cast() }
}

fn reclaim(lock: &Lock<'_>, seat: u32) {
    // SAFETY: this lock guards nothing.
    unsafe { rwlock::reclaim(lock, seat) }
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(2))
}

#[test]
fn readers_share_and_writers_do_not() {
    let words = Words::new();
    let lock = lock(&words);
    let (mut a, mut b) = (participant(&lock, 0), participant(&lock, 3));
    let reading = a.read(None).unwrap();
    assert_eq!(b.try_write().err(), Some(LockError::Busy));
    assert_eq!(b.write(soon()).err(), Some(LockError::TimedOut));
    drop(b.try_read().unwrap());
    drop(b.read(soon()).unwrap());
    drop(reading);
    let writing = b.try_write().unwrap();
    assert_eq!(a.try_read().err(), Some(LockError::Busy));
    assert_eq!(a.try_write().err(), Some(LockError::Busy));
    assert_eq!(a.read(soon()).err(), Some(LockError::TimedOut));
    assert_eq!(a.write(soon()).err(), Some(LockError::TimedOut));
    drop(writing);
    assert!(idle(&lock));
    drop(a.write(soon()).unwrap());
    assert!(idle(&lock));
}

#[test]
fn reclamation_frees_what_the_dead_held_and_may_be_repeated() {
    let words = Words::new();
    let lock = lock(&words);
    let mut a = participant(&lock, 1);
    for _ in 0..2 {
        std::mem::forget(participant(&lock, 0).write(None).unwrap());
        assert_eq!(a.try_read().err(), Some(LockError::Busy));
        reclaim(&lock, 0);
        reclaim(&lock, 0);
        assert!(idle(&lock));
        drop(a.try_read().unwrap());
        std::mem::forget(participant(&lock, 2).read(None).unwrap());
        drop(a.try_read().unwrap());
        assert_eq!(a.try_write().err(), Some(LockError::Busy));
        reclaim(&lock, 2);
        drop(a.try_write().unwrap());
        reclaim(&lock, 4);
        assert_eq!(reclaim_dead(&lock), 0); // this host reports no death
        assert!(idle(&lock));
    }
}

#[test]
fn an_owner_reclaimed_by_mistake_does_not_free_its_successors_lock() {
    let words = Words::new();
    let lock = lock(&words);
    let mut a = participant(&lock, 0);
    let late = a.write(None).unwrap();
    reclaim(&lock, 0);
    let mut b = participant(&lock, 1);
    let writing = b.write(soon()).unwrap();
    drop(late);
    assert_eq!(participant(&lock, 2).try_read().err(), Some(LockError::Busy));
    drop(writing);
    assert!(idle(&lock));
}

#[test]
fn the_last_owner_comes_last() {
    let words = Words::new();
    let lock = lock(&words);
    // 1 waits to write; 2 was the last owner, so 3, 0, 1 come first, then 2.
    drop(participant(&lock, 2).write(None).unwrap());
    word(&lock.cells()[1]).store(3, Ordering::Relaxed);
    assert_eq!(participant(&lock, 2).try_write().err(), Some(LockError::Busy));
    assert!(participant(&lock, 3).try_write().is_ok());
    assert!(participant(&lock, 0).try_write().is_ok());
    word(&lock.cells()[1]).store(0, Ordering::Relaxed);
    assert!(participant(&lock, 2).try_write().is_ok());
}

thread_local! {
    /// How often this test was about to pause.
    static SPINS: cell::Cell<u32> = const { cell::Cell::new(0) };
    /// How often it may pause.
    static LINGERS: cell::Cell<u32> = const { cell::Cell::new(0) };
    /// A cell that must not say that its occupant reads during a pause.
    static WATCHED: cell::Cell<Option<&'static AtomicU32>> = const { cell::Cell::new(None) };
}

/// A host on which every wait ends at once, and the occupant of seat 1 is dead.
struct Impatient;

impl Futex for Impatient {
    type Deadline = ();

    fn spin(&self, attempt: u32, _: Option<()>) -> bool {
        SPINS.set(SPINS.get() + 1);
        if attempt > 0 {
            let state = WATCHED.get().map_or(0, |cell| cell.load(Ordering::Relaxed));
            assert_ne!(state, READING, "the reader pauses while it is announced");
        }
        attempt < LINGERS.get()
    }
    fn wait(&self, _: &AtomicU32, _: u32, _: Option<()>) -> WaitResult {
        WaitResult::TimedOut
    }
    fn wake_all(&self, _: &AtomicU32) {}
}

impl Host for Impatient {
    fn try_reclaim(&self, seat: u32, reclaim: impl FnOnce()) -> bool {
        if seat == 1 {
            reclaim();
        }
        seat == 1
    }
    fn try_sweep(&self, round: impl FnOnce()) {
        round();
    }
    fn owner_is_dead(&self) -> bool {
        false
    }
}

/// Returns a lock with that host.
fn hasty(words: &Words) -> SeatLock<'_, Impatient> {
    // SAFETY: the tests never use seat 1 again before it is reclaimed.
    unsafe { SeatLock::new(words, Impatient) }
}

/// A caller that always waits less than a poll interval never sees one end. If all callers do that, one of them must
/// still reclaim the dead.
#[test]
fn a_wait_that_times_out_reclaims_the_dead_for_the_next() {
    let words = Words::new();
    let lock = hasty(&words);
    // SAFETY: one participant for each seat.
    let mut me = unsafe { Participant::new(&lock, 0) };
    // SAFETY: as above.
    let mut dying = unsafe { Participant::new(&lock, 1) };
    std::mem::forget(dying.write(Some(())).unwrap());
    assert_eq!(me.read(Some(())).map(|_guard| ()), Err(LockError::TimedOut));
    drop(me.read(Some(())).unwrap());
    std::mem::forget(dying.read(Some(())).unwrap());
    assert_eq!(me.write(Some(())).map(|_guard| ()), Err(LockError::TimedOut));
    drop(me.write(Some(())).unwrap());
}

#[test]
fn trying_never_pauses() {
    let words = Words::new();
    let lock = hasty(&words);
    // SAFETY: one participant for each seat.
    let [mut me, mut other] = [0, 2].map(|seat| unsafe { Participant::new(&lock, seat) });
    let reading = other.read(None).unwrap();
    assert!(matches!(me.try_write(), Err(LockError::Busy)));
    drop(reading);
    let writing = other.write(None).unwrap();
    assert!(matches!(me.try_write(), Err(LockError::Busy)));
    assert!(matches!(me.try_read(), Err(LockError::Busy)));
    drop(writing);
    assert_eq!(SPINS.get(), 0);
}

/// A draining writer waits for each announced reader, so a reader that pauses must not be announced.
#[test]
fn a_reader_that_pauses_is_not_announced() {
    let lock: &'static _ = Box::leak(Box::new(hasty(Box::leak(Box::new(Words::new())))));
    // SAFETY: one participant for each seat.
    let [mut me, mut other] = [0, 2].map(|seat| unsafe { Participant::new(lock, seat) });
    LINGERS.set(5);
    WATCHED.set(Some(word(&lock.cells()[0])));
    let writing = other.write(None).unwrap();
    assert!(matches!(me.read(Some(())), Err(LockError::TimedOut)));
    assert!(SPINS.get() > 5, "it paused {} times", SPINS.get());
    drop(writing);
    drop(me.read(Some(())).unwrap());
}
