//! Rounds over the seats of a lock.

use super::parts::SeatState;
use super::parts::state::IDLE;
use crate::sync::Ordering;

/// A round over all seats that were ever taken: the one after `from` first, in cyclic order, `from` itself last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan {
    from: u16,
    pub(super) count: u16,
    visited: u16,
}

impl Scan {
    /// The start of a round. Garbage in `from` counts as the last seat.
    #[inline]
    pub fn after(from: u16, count: u16) -> Self {
        Self { from: from.min(count - 1), count, visited: 0 }
    }

    /// A round that has come some way; for models.
    pub fn resume(from: u16, count: u16, visited: u16) -> Self {
        Self { visited, ..Self::after(from, count) }
    }

    /// Where the round began.
    pub fn from(self) -> u16 {
        self.from
    }

    /// How many seats it has done with.
    pub fn visited(self) -> u16 {
        self.visited
    }

    /// The seat it is at.
    pub fn seat(self) -> u16 {
        let seat = self.from + 1 + self.visited; // less than two rounds
        if seat < self.count { seat } else { seat - self.count }
    }

    /// After how many visits it comes to `seat`.
    pub(super) fn visits_before(self, seat: u16) -> u16 {
        if seat > self.from { seat - self.from - 1 } else { self.count - self.from - 1 + seat }
    }

    /// The same round at the first seat from here on that is not idle; at the last of its `most` seats if all are.
    pub(super) fn past_idle(self, most: u16, cells: &[SeatState], ordering: Ordering) -> Self {
        let is_idle = |scan: Self| cells[usize::from(scan.seat())].word.load(ordering) == IDLE;
        let mut scan = self;
        while scan.visited + 1 < most && is_idle(scan) {
            scan.visited += 1;
        }
        scan
    }

    /// The same round at its next seat; `None` after the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let visited = self.visited + 1;
        (visited < self.count).then_some(Self { visited, ..self })
    }
}
