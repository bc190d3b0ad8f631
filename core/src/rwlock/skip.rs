//! Passes the idle seats of a scan at once, without a step for each.

use super::parts::state::IDLE;
use super::parts::{Parts, count};
use super::step::{Actor, Step};
use crate::sync::{Ordering, SKIPS};

impl Step {
    /// Returns the step after the scan if every seat is idle, which is the usual case. Otherwise returns this step
    /// further on in its scan, past idle seats. [`take`](Self::take) would pass them one by one, with the same loads.
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

            // Only up to this participant's own seat, where deferring ends.
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

/// Returns whether every seat is idle, also this participant's own. An announced participant continues step by step.
#[inline(always)]
fn all_are_idle<P: Parts>(parts: &P, me: u16, ordering: Ordering) -> bool {
    // Eight at a time, without a branch for each. These may include a few seats that were never taken, which are idle.
    // A loop instead of `fold`, because a fold compiles to a function of its own, which checks the ordering at each
    // load.
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
