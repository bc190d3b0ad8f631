//! Rounds over the seats, and a way through them in one go.

use super::state::IDLE;
use super::step::{Actor, Step};
use super::{Parts, SeatState, count};
use crate::sync::{Ordering, SKIPS};

/// A round over all seats that were ever taken: the one after `from` first, in cyclic order, `from` itself last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan {
    from: u16,
    count: u16,
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
    fn visits_before(self, seat: u16) -> u16 {
        if seat > self.from { seat - self.from - 1 } else { self.count - self.from - 1 + seat }
    }

    /// The same round at the first seat from here on that is not idle; at the last of its `most` seats if all are.
    fn past_idle(self, most: u16, cells: &[SeatState], ordering: Ordering) -> Self {
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

impl Step {
    /// The step after the rest of a round, if nobody wants anything, as is most often so; otherwise the same step
    /// further on in its round, past seats that want nothing. [`take`](Self::take) would pass them one by one, with the
    /// same loads.
    #[inline(always)]
    #[must_use]
    pub fn skip<P: Parts>(self, parts: &P, actor: Actor) -> Self {
        let relaxed = Ordering::Relaxed; // as `take`
        let acquire = Ordering::Acquire; // the other half of *leave*, as `take`
        match self {
            other if !SKIPS => other,
            Self::Defer(_, attempt) if all_are_idle(parts, actor.seat, relaxed) => Self::Claim(attempt),
            Self::DrainReaders(_) if all_are_idle(parts, actor.seat, acquire) => Self::Writing,
            Self::Grant(_) if all_are_idle(parts, actor.seat, relaxed) => Self::Free,
            Self::Notify(..) if !actor.reclaiming && all_are_idle(parts, actor.seat, relaxed) => Self::Idle,

            // Only up to our own seat, where deferring ends.
            Self::Defer(scan, attempt) => {
                Self::Defer(scan.past_idle(scan.visits_before(actor.seat), parts.cells(), relaxed), attempt)
            }
            Self::DrainReaders(scan) => {
                Self::DrainReaders(scan.past_idle(scan.count, parts.cells(), acquire))
            }
            Self::Grant(scan) => Self::Grant(scan.past_idle(scan.count, parts.cells(), relaxed)),
            Self::Notify(scan, met) => Self::Notify(scan.past_idle(scan.count, parts.cells(), relaxed), met),
            Self::NotifyAll(scan) => Self::NotifyAll(scan.past_idle(scan.count, parts.cells(), relaxed)),
            other => other,
        }
    }
}

/// Whether nobody wants anything, ourselves included: who has announced itself goes on step by step.
#[inline(always)]
fn all_are_idle<P: Parts>(parts: &P, me: u16, ordering: Ordering) -> bool {
    // Eight at a time, without a branch for each. That may be a few more than were ever taken: those are idle. Loops, for
    // a fold is compiled as a function of its own, which asks for every load with which ordering it is.
    let (eights, rest) = parts.cells().as_chunks::<8>();
    let count = usize::from(count(parts, me));
    let mut found = IDLE;
    for eight in &eights[..count.div_ceil(8).min(eights.len())] {
        for cell in eight {
            found |= cell.word.load(ordering);
        }
    }
    if count > eights.len() * 8 {
        for cell in rest {
            found |= cell.word.load(ordering);
        }
    }
    found == IDLE
}
