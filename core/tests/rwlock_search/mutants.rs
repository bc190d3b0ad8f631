//! The lock with one rule broken. Each mutant shows that the search notices it, and that the lock needs the rule.

use crate::world::{Words, raw};
use std::sync::atomic::Ordering::SeqCst;
use whorl_core::host::Futex;
use whorl_core::rwlock::state::{FLAG, READ_WAIT, READING, WRITE_WAIT};
use whorl_core::rwlock::{Actor, Parts, Scan, Step};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// The unchanged lock.
    None,
    /// A leaving owner grants no reader.
    NoGrant,
    /// A leaving owner does not flag a reader that already reads, or is about to look.
    NoFlagOnReading,
    /// A draining owner waits until the seat does not read, instead of for any change.
    UntilNotReading,
    /// A reader changes to waiting by a swap, which overlooks a grant.
    QueueBySwap,
    /// A reader sleeps without looking again.
    NoSecondLook,
    /// A leaving owner notifies no waiter.
    NoNotify,
    /// A leaving owner wakes a waiter, but leaves no flag.
    NotifyWithoutFlag,
    /// A queued writer that gives up notifies no waiter.
    NoNotifyOnWithdrawal,
    /// A reclaimer notifies no waiter.
    NoNotifyAll,
    /// A writer claims a free owner word although others wait.
    Barge,
    /// A reader that saw the owner word free while it waited is in at once.
    NoThirdLook,
    /// A reader returns from waiting by a swap, which wipes the flag.
    ReturnBySwap,
    /// An owner clears its cell after it freed the owner word.
    ClearLast,
    /// An owner frees the owner word before it grants.
    FreeFirst,
    /// An owner does not look at the cells.
    NoDrain,
    /// An owner that gives up while it drains only clears its cell and frees the owner word.
    AbandonWithoutGrant,
    /// A reclaimer does not free the owner word that the dead owner held.
    NoRelease,
    /// A reclaimer grants on behalf of the dead owner, as a leaving owner does.
    GrantInReclaim,
}

impl Mutant {
    /// Takes a step as this mutant does.
    pub fn take(self, step: Step, words: &Words, actor: Actor) -> Step {
        let cell = |seat: u16| raw(&words.cells()[usize::from(seat)]);
        let own = cell(actor.seat);
        let count = words.cells().len() as u16;
        let around = Scan::after(actor.seat, count);
        // SAFETY: this lock guards nothing.
        let real = || unsafe { step.take(words, actor) };
        let next = |scan: Scan, then: fn(Scan) -> Step, end: Step| scan.next().map_or(end, then);
        match (self, step) {
            (Self::NoFlagOnReading, Step::Grant(scan)) if cell(scan.seat()).load(SeqCst) == READING => {
                return next(scan, Step::Grant, Step::Free);
            }
            (Self::UntilNotReading, Step::WokenDrainReaders(scan)) => {
                return if cell(scan.seat()).load(SeqCst) & !FLAG == READING {
                    Step::DrainReaders(scan)
                } else {
                    next(scan, Step::DrainReaders, Step::Writing)
                };
            }
            (Self::QueueBySwap, Step::QueueRead) => {
                if own.swap(READ_WAIT, SeqCst) == READING | FLAG {
                    words.host.wake_all(own);
                }
                return Step::LookAgain;
            }
            (Self::NotifyWithoutFlag, Step::Notify(scan, met)) => {
                let seen = cell(scan.seat()).load(SeqCst) & !FLAG;
                if seen == READ_WAIT || seen == WRITE_WAIT && !met {
                    return Step::NotifyWake(scan, met || seen == WRITE_WAIT);
                }
            }
            (Self::ReturnBySwap, Step::ReturnRead) => {
                return if own.swap(READING, SeqCst) & !FLAG == READING {
                    Step::Reading
                } else {
                    Step::LookRead
                };
            }
            (Self::ClearLast, Step::Writing | Step::Clear) => return Step::Grant(around),
            (Self::FreeFirst, Step::Writing | Step::Clear) => {
                let _ = real();
                return Step::Free;
            }
            (Self::FreeFirst, Step::Free) if !actor.reclaiming => {
                let _ = real();
                return Step::Grant(around);
            }
            (Self::FreeFirst, Step::Grant(scan) | Step::GrantWake(scan)) => {
                return match real() {
                    Step::Free => Step::Notify(Scan::after(scan.from(), count), false),
                    other => other,
                };
            }
            _ => {}
        }
        let after = real();
        match (self, step, after) {
            (Self::NoGrant, _, Step::Grant(scan)) if scan.visited() == 0 => Step::Free,
            (Self::NoSecondLook, Step::QueueRead, Step::LookAgain) => Step::SleepRead,
            (Self::NoNotify, Step::Free, _) if !actor.reclaiming => Step::Idle,
            (Self::NoNotifyOnWithdrawal, Step::LookWithdraw, _) => Step::Idle,
            (Self::NoNotifyAll, _, Step::NotifyAll(_)) => Step::Idle,
            (Self::Barge, Step::PeekWrite | Step::LookWrite, Step::Defer(_, attempt)) => Step::Claim(attempt),
            (Self::NoThirdLook, Step::ReturnRead, Step::LookRead) => Step::Reading,
            (Self::ClearLast, Step::Notify(..) | Step::NotifyWake(..), Step::Idle) => Step::LeaveRead,
            (Self::NoDrain, Step::Claim(_), Step::DrainReaders(_)) => Step::Writing,
            (Self::AbandonWithoutGrant, Step::Clear, _) => Step::Free,
            (Self::NoRelease, Step::ReclaimLook, _) => Step::NotifyAll(around),
            (Self::GrantInReclaim, Step::ReclaimLook, Step::Free) => Step::Grant(around),
            _ => after,
        }
    }
}
