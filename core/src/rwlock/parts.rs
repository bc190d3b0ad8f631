//! The words of a lock in shared memory, and the trait that gives them to the algorithms.

use crate::host::Host;
use crate::sync::{AtomicU32, Ordering};

/// The states of a [`SeatState`].
pub mod state {
    /// Wants nothing.
    pub const IDLE: u32 = 0;
    /// Reads, or is about to look whether it may.
    pub const READING: u32 = 1;
    /// Waits to read.
    pub const READ_WAIT: u32 = 2;
    /// Waits to write, or writes.
    pub const WRITE_WAIT: u32 = 3;
    /// With `READING`: surely in, and to wake its own cell when it leaves. With a waiting state: look again.
    pub const FLAG: u32 = 4;
}

/// What the occupant of one seat wants of one lock. Zeroed memory is idle. 64 bytes.
///
/// Only its occupant, or who reclaims it, takes a cell out of `READING` and `WRITE_WAIT`; the owner of the owner word takes it
/// from `READ_WAIT` to `READING`; the flag is set by others and cleared by the occupant.
#[repr(C, align(64))]
pub struct SeatState {
    /// A state, perhaps with the flag. *Leave*, *grant*, and the announcing halves of *look* and *queue*.
    pub(super) word: AtomicU32,
}

impl SeatState {
    /// An idle cell; the same as zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(state::IDLE) }
    }
}

const BUSY: u32 = 1 << 31;
/// Room for 1024 seats.
const SEAT_MASK: u32 = 1023;

/// Who owns a lock for writing. Zeroed memory is free. 64 bytes.
#[repr(C, align(64))]
pub struct OwnerWord {
    /// Busy or free, and the owner's or the last owner's seat. *Free*, and the other halves of *look* and *queue*.
    pub(super) word: AtomicU32,
}

impl OwnerWord {
    /// A free owner word; the same as zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Who owns the lock, at one moment: for display.
    pub fn ownership(&self) -> Ownership {
        Ownership(self.word.load(Ordering::Relaxed)) // Relaxed: guards nothing
    }
}

/// An owner word's word, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ownership(pub(super) u32);

impl Ownership {
    /// What the owner word's word says.
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    pub(super) const fn busy(seat: u16) -> Self {
        Self(BUSY | seat as u32)
    }

    pub(super) const fn free(last: u16) -> Self {
        Self(last as u32)
    }

    /// Whether a writer owns the lock.
    pub const fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    /// The owner, or the last owner.
    pub const fn seat(self) -> u16 {
        (self.0 & SEAT_MASK) as u16
    }
}

/// One more than the highest seat ever taken, which bounds every scan. Raised before a seat takes part, never lowered. One
/// mark serves all locks of a segment. 64 bytes.
#[repr(C, align(64))]
pub struct SeatsUsed {
    /// Relaxed: a scan that must see a seat comes after its announcement by *look* or *queue*, hence after the mark.
    pub(super) word: AtomicU32,
}

impl SeatsUsed {
    /// Returns a mark of zero seats, which is zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Counts `seat` in. Stores only if it was not yet: every participant reads this line.
    pub fn raise(&self, seat: u32) {
        if self.count() <= seat {
            self.word.fetch_max(seat + 1, Ordering::Relaxed);
        }
    }

    /// How many seats are to be looked at; a peer may have left any number here.
    pub fn count(&self) -> u32 {
        self.word.load(Ordering::Relaxed)
    }
}

/// The parts of a lock.
///
/// # Safety
/// What the lock guards may be memory that must not be written and read at once. So
/// - each method always returns the same part, and all of them are parts of one lock;
/// - there are between 1 and 1024 cells;
/// - the host's `try_reclaim` runs the reclamation only for a participant that will never act again.
pub unsafe trait Parts {
    /// How to sleep on this memory, and how to know which participants are dead.
    type Host: Host;

    /// The host.
    fn host(&self) -> &Self::Host;
    /// Who owns it.
    fn owner_word(&self) -> &OwnerWord;
    /// A cell for each seat.
    fn cells(&self) -> &[SeatState];
    /// How many of them were ever taken.
    fn seats_used(&self) -> &SeatsUsed;
}

// SAFETY: all of it is `P`'s.
unsafe impl<P: Parts> Parts for &P {
    type Host = P::Host;

    fn host(&self) -> &P::Host {
        P::host(self)
    }
    fn owner_word(&self) -> &OwnerWord {
        P::owner_word(self)
    }
    fn cells(&self) -> &[SeatState] {
        P::cells(self)
    }
    fn seats_used(&self) -> &SeatsUsed {
        P::seats_used(self)
    }
}

/// How many cells a scan in the name of `seat` visits. A foreign high-water mark is bounded by the table and by `seat`.
#[inline]
pub(super) fn count<P: Parts>(parts: &P, seat: u16) -> u16 {
    let high = parts.seats_used().count() as usize;
    high.max(usize::from(seat) + 1).min(parts.cells().len()) as u16
}
