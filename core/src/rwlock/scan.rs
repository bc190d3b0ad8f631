//! Scans over the seats of a lock.

use super::parts::SeatState;
use super::parts::state::IDLE;
use crate::sync::Ordering;

/// A scan over all seats that were ever taken, in cyclic order. It begins after `from` and ends with `from` itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan {
    from: u16,
    pub(super) count: u16,
    visited: u16,
}

impl Scan {
    /// Starts a scan. An invalid `from` counts as the last seat.
    #[inline]
    pub fn after(from: u16, count: u16) -> Self {
        Self { from: from.min(count - 1), count, visited: 0 }
    }

    /// Returns a scan that has already visited some seats, for models.
    pub fn resume(from: u16, count: u16, visited: u16) -> Self {
        Self { visited, ..Self::after(from, count) }
    }

    /// Returns the seat after which the scan began.
    pub fn from(self) -> u16 {
        self.from
    }

    /// Returns how many seats the scan has finished.
    pub fn visited(self) -> u16 {
        self.visited
    }

    /// Returns the current seat.
    pub fn seat(self) -> u16 {
        let seat = self.from + 1 + self.visited; // less than twice around
        if seat < self.count { seat } else { seat - self.count }
    }

    /// Returns how many visits the scan makes before it reaches `seat`.
    pub(super) fn visits_before(self, seat: u16) -> u16 {
        if seat > self.from { seat - self.from - 1 } else { self.count - self.from - 1 + seat }
    }

    /// Returns this scan at the first seat from here on that is not idle, or at the last of its `most` seats if all are
    /// idle.
    pub(super) fn past_idle(self, most: u16, cells: &[SeatState], ordering: Ordering) -> Self {
        let is_idle = |scan: Self| cells[usize::from(scan.seat())].word.load(ordering) == IDLE;
        let mut scan = self;
        while scan.visited + 1 < most && is_idle(scan) {
            scan.visited += 1;
        }
        scan
    }

    /// Returns this scan at its next seat, or `None` after the last one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let visited = self.visited + 1;
        (visited < self.count).then_some(Self { visited, ..self })
    }
}
