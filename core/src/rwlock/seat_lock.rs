//! A ready-made lock, for programs that need no memory layout of their own.

use super::parts::{OwnerWord, Parts, SeatState, SeatsUsed};
use crate::host::Host;

/// The words of a lock, with one [`SeatState`] for each seat. Zeroed memory is a free lock.
#[repr(C)]
#[derive(Debug)]
pub struct LockWords<S: ?Sized = [SeatState]> {
    owner_word: OwnerWord,
    seats_used: SeatsUsed,
    cells: S,
}

impl<const SEATS: usize> LockWords<[SeatState; SEATS]> {
    /// Returns the words of a free lock.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        let cells = core::array::from_fn(|_| SeatState::new());
        Self { owner_word: OwnerWord::new(), seats_used: SeatsUsed::new(), cells }
    }
}

/// A lock: its words, and the host that waits on them. Each process makes one over the same words.
///
/// ```
/// use whorl_core::host::SpinHost;
/// use whorl_core::rwlock::{LockWords, Participant, SeatLock, SeatState};
///
/// let words = LockWords::<[SeatState; 4]>::new();
/// // SAFETY: this host never reports a death.
/// let lock = unsafe { SeatLock::new(&words, SpinHost::new()) };
/// // SAFETY: seat 0 belongs to this participant alone.
/// let mut participant = unsafe { Participant::new(&lock, 0) };
/// drop(participant.write(None).expect("this call has no deadline"));
/// ```
#[derive(Debug)]
pub struct SeatLock<'m, H, S: ?Sized = [SeatState]> {
    words: &'m LockWords<S>,
    host: H,
}

mod sealed {
    /// An array of seats or a slice of them. A number of seats that the compiler knows makes uncontended writing faster.
    pub trait Seats {
        fn cells(&self) -> &[super::SeatState];
    }

    impl Seats for [super::SeatState] {
        fn cells(&self) -> &[super::SeatState] {
            self
        }
    }

    impl<const SEATS: usize> Seats for [super::SeatState; SEATS] {
        fn cells(&self) -> &[super::SeatState] {
            self
        }
    }
}

impl<'m, H: Host, S: sealed::Seats + ?Sized> SeatLock<'m, H, S> {
    /// Makes a lock from its words.
    ///
    /// # Safety
    /// - The host's `try_reclaim` runs its closure only for a participant that will never act again.
    ///
    /// # Panics
    /// If there are no seats, or more than 1024.
    pub unsafe fn new(words: &'m LockWords<S>, host: H) -> Self {
        assert!((1..=1024).contains(&words.cells.cells().len()), "a lock has 1 to 1024 seats");
        Self { words, host }
    }
}

// SAFETY: the parts are fields of one value, `new` has checked their number, and the caller of `new` vouches for the
// host.
unsafe impl<H: Host, S: sealed::Seats + ?Sized> Parts for SeatLock<'_, H, S> {
    type Host = H;

    fn host(&self) -> &H {
        &self.host
    }
    fn owner_word(&self) -> &OwnerWord {
        &self.words.owner_word
    }
    fn cells(&self) -> &[SeatState] {
        self.words.cells.cells()
    }
    fn seats_used(&self) -> &SeatsUsed {
        &self.words.seats_used
    }
}
