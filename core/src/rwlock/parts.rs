//! The words of a lock in shared memory, and the trait that gives them to the algorithms.

use crate::host::Host;
use crate::sync::{AtomicU32, Ordering};

/// The states of a [`SeatState`].
pub mod state {
    /// The occupant wants nothing.
    pub const IDLE: u32 = 0;
    /// The occupant reads, or is about to look whether it may.
    pub const READING: u32 = 1;
    /// The occupant waits to read.
    pub const READ_WAIT: u32 = 2;
    /// The occupant waits to write, or writes.
    pub const WRITE_WAIT: u32 = 3;
    /// With `READING`: the reader is surely in, and must wake its own cell when it leaves. With a waiting state: look
    /// again.
    pub const FLAG: u32 = 4;
}

/// The state of one seat's occupant in one lock. Zeroed memory is idle. 64 bytes.
///
/// Only its occupant or its reclaimer changes a cell from `READING` or `WRITE_WAIT`. The lock's owner changes it from
/// `READ_WAIT` to `READING`. Other participants set the flag, and the occupant clears it.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct SeatState {
    /// A state, perhaps with the flag. *Leave*, *grant*, and the announcing halves of *look* and *queue*.
    pub(super) word: AtomicU32,
}

impl SeatState {
    /// Returns an idle cell, which is zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(state::IDLE) }
    }
}

const BUSY: u32 = 1 << 31;
/// The bits of a seat number: 1024 seats at most.
const SEAT_MASK: u32 = 1023;

/// The word that says which writer owns a lock. Zeroed memory is free. 64 bytes.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct OwnerWord {
    /// Busy or free, and the seat of the owner or of the last owner. *Free*, and the other halves of *look* and
    /// *queue*.
    pub(super) word: AtomicU32,
}

impl OwnerWord {
    /// Returns a free owner word, which is zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Returns the owner at one moment, for display.
    pub fn ownership(&self) -> Ownership {
        Ownership(self.word.load(Ordering::Relaxed)) // Relaxed: guards nothing
    }
}

/// The value of an [`OwnerWord`], decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ownership(pub(super) u32);

impl Ownership {
    /// Decodes the value of an owner word.
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    pub(super) const fn busy(seat: u16) -> Self {
        Self(BUSY | seat as u32)
    }

    pub(super) const fn free(last: u16) -> Self {
        Self(last as u32)
    }

    /// Returns whether a writer owns the lock.
    pub const fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    /// Returns the seat of the owner, or of the last owner.
    pub const fn seat(self) -> u16 {
        (self.0 & SEAT_MASK) as u16
    }
}

/// One more than the highest seat ever taken, which bounds every scan. Raised before a seat takes part, never lowered. One
/// mark serves all locks of a segment. 64 bytes.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct SeatsUsed {
    /// Relaxed: *look* or *queue* puts a scan that must see a seat after the seat's announcement, and so after the
    /// mark.
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

    /// Raises the mark so that it includes `seat`. Stores only if the mark is lower, because every participant reads
    /// this line.
    pub fn raise(&self, seat: u32) {
        if self.count() <= seat {
            self.word.fetch_max(seat + 1, Ordering::Relaxed);
        }
    }

    /// Returns how many seats a scan must visit. A hostile peer may have left any number here.
    pub fn count(&self) -> u32 {
        self.word.load(Ordering::Relaxed)
    }
}

/// The parts of a lock.
///
/// # Safety
/// What the lock guards may be memory that must not be written and read at the same time. So
/// - each method always returns the same part, and all of them are parts of one lock;
/// - there are between 1 and 1024 cells;
/// - the host's `try_reclaim` runs the reclamation only for a participant that will never act again.
pub unsafe trait Parts {
    /// How to sleep on this memory, and how to know which participants are dead.
    type Host: Host;

    /// Returns the host.
    fn host(&self) -> &Self::Host;
    /// Returns the owner word.
    fn owner_word(&self) -> &OwnerWord;
    /// Returns one cell for each seat.
    fn cells(&self) -> &[SeatState];
    /// Returns the mark of seats that were ever taken.
    fn seats_used(&self) -> &SeatsUsed;
}

// SAFETY: each part is one of `P`'s.
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

/// Returns how many cells a scan on behalf of `seat` visits. The table and `seat` bound a mark that a hostile peer
/// stored.
#[inline]
pub(super) fn count<P: Parts>(parts: &P, seat: u16) -> u16 {
    let high = parts.seats_used().count() as usize;
    high.max(usize::from(seat) + 1).min(parts.cells().len()) as u16
}
