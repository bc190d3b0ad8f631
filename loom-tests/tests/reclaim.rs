//! Deaths: a receiver that stops at any of its steps is reclaimed, and the ring continues.

use loom_tests::error::{ClaimError, JoinError};
use loom_tests::memory::{Ring, Watched, admitted, send, take, try_send};
use loom_tests::model::{Model, is_long, race};
use loom_tests::parking::Death;
use loom_tests::ring::{Parts, PendingReceiver, Receiver};
use loom_tests::seat::State;
use std::mem::{ManuallyDrop, forget};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The bound of preemptions. A reclamation touches every shared word, so without a bound these models take hours.
fn depth() -> usize {
    if is_long() { 5 } else { 3 }
}

/// Runs `life`. Returns false if it died at one of its steps, and leaves everything as it was then.
fn live(life: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(life)) {
        Ok(()) => true,
        Err(end) if end.is::<Death>() => false,
        Err(panic) => resume_unwind(panic),
    }
}

/// Returns a receiver that dies at its `steps`-th step after joining. The other side of the ring is immortal.
fn mortal_receiver(ring: &Ring<Watched>, steps: u32) -> ManuallyDrop<Receiver<Ring<Watched>>> {
    let receiver = ring.join_as(ring.mortal(), 0);
    receiver.parts().host().live_for(steps);
    ManuallyDrop::new(receiver)
}

/// Reclaims seat 0, whose occupant is known to be dead. A receiver that died after leaving its seat, but before its
/// notification, leaves nothing to reclaim. That wait ends with the poll interval.
fn reclaim(ring: &Ring<Watched>) {
    ring.host().kill_seat(0);
    if ring.membership().reclaim_dead() == 0 {
        ring.host().end_slices();
    }
}

/// A receiver dies before each step of reading, releasing and leaving, while the sender waits for it. The sender
/// continues, and the dead receiver's reads come before the writes into its slots. Catches a reclamation that does not
/// notify, or that notifies before it has cleared the seat: the sender stays asleep.
#[test]
fn the_sender_continues_whichever_step_a_receiver_dies_at() {
    for steps in 0.. {
        let (survived, report) = std::sync::mpsc::channel();
        let survived = std::sync::Mutex::new(survived);
        Model::new("reclamation: a receiver's death while the sender waits", 239).bounded(depth()).check(
            move || {
                let ring = Ring::new(Watched::new(1), 1, u32::MAX);
                let (mut sender, mut receiver) = (ring.sender(), mortal_receiver(&ring, steps));
                assert!(try_send(&mut sender, 1));
                let write = move || {
                    send(&mut sender, 2);
                    forget(sender);
                };
                let (_, lived) = race(write, move || {
                    let lived = live(|| {
                        assert_eq!(take(&mut receiver), Ok(1));
                        // SAFETY: not used again.
                        unsafe { ManuallyDrop::drop(&mut receiver) };
                    });
                    reclaim(&ring);
                    lived
                });
                let _ = survived.lock().unwrap().send(lived);
            },
        );
        if report.iter().all(|lived| lived) {
            assert!(steps > 8, "the receiver died at only {steps} steps, but it has more");
            break;
        }
    }
}

/// Another receiver must get every item, and the sender polls.
#[test]
fn other_receivers_lose_nothing_by_a_death() {
    Model::new("reclamation: another receiver continues", 2583).bounded(depth()).check(|| {
        let ring = Ring::new(Watched::new(1), 2, u32::MAX);
        let (mut sender, dead, mut other) = (ring.sender(), ring.join(0), ring.join(1));
        assert!(try_send(&mut sender, 1));
        forget(dead);
        let write = move || {
            send(&mut sender, 2);
            forget(sender);
        };
        race(write, move || {
            assert_eq!(take(&mut other), Ok(1));
            reclaim(&ring);
            assert_eq!(take(&mut other), Ok(2));
            forget(other);
        });
    });
}

/// A pending receiver dies before it is admitted, or after it, or without having looked. Each leaves a seat to reclaim,
/// and none stops the sender.
#[test]
fn a_pending_receiver_may_die_at_any_moment() {
    for steps in 0..3 {
        Model::new("reclamation: a pending receiver's death", 38).bounded(depth()).check(move || {
            let ring = Ring::new(Watched::new(1), 1, u32::MAX);
            let (mut sender, membership, pending) =
                (ring.sender(), ring.membership(), ring.request_seat(0, true));
            assert!(try_send(&mut sender, 0));
            let write = move || {
                send(&mut sender, 1);
                forget(sender);
            };
            race(write, move || {
                if steps > 0 {
                    membership.admit_all();
                }
                if steps > 1 {
                    forget(pending.try_admitted());
                } else {
                    forget(pending);
                }
                ring.host().kill_seat(0);
                // A receiver that was refused has left by itself.
                membership.reclaim_dead();
                assert!(!ring.occupancy(0).is_taken());
            });
        });
    }
}

/// A request for a seat is cut short at each of its steps. What is left can be reclaimed, and the seat used again.
/// Catches a raise of `seats_used` after the request: no scan reaches the seat.
#[test]
fn a_request_may_be_cut_short() {
    for steps in 0..4 {
        Model::new("reclamation: asking cut short", 1).check(move || {
            let ring = Ring::new(Watched::new(1), 1, u32::MAX);
            let dying = ring.mortal();
            live(|| {
                dying.host().live_for(steps);
                forget(PendingReceiver::request_seat(dying.clone(), 0, true, 0));
            });
            reclaim(&ring);
            assert_eq!(ring.occupancy(0).state, State::Free);
            forget(ring.join(0));
        });
    }
}

/// An admission that stopped half-way holds up the sender, in a claim and in a drain, until its seat is reclaimed. The
/// start of the receiver is not decided yet.
#[test]
fn half_an_admission_holds_up_the_sender() {
    Model::new("reclamation: half an admission", 1).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, admitter) = (ring.sender(), ring.mortal());
        assert!(try_send(&mut sender, 0));
        forget(ring.request_seat(0, true));
        let (membership, life) = (admitter.membership(), admitter.host().clone());
        let died_at = (0..9).find(|steps| {
            life.live_for(*steps);
            !live(|| _ = membership.admit_all()) && ring.occupancy(0).state == State::Admitting
        });
        assert!(died_at.is_some(), "no step lies between the mark and the decision");
        assert!(!sender.is_drained());
        assert_eq!(sender.drain(Some(())), Err(ClaimError::TimedOut));
        assert!(!try_send(&mut sender, 1));
        reclaim(&ring);
        assert!(sender.is_drained() && try_send(&mut sender, 1));
        forget(sender);
    });
}

/// A receiver that was taken for dead leaves late. Either the leaving or the reclamation counts, and the successor's
/// seat does not change.
#[test]
fn a_late_leaving_does_not_change_the_successors_seat() {
    Model::new("reclamation: late leaving", 585).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, membership, receiver) = (ring.sender(), ring.membership(), ring.join(0));
        ring.host().kill_seat(0);
        let here = ring.clone();
        let replace = move || {
            membership.reclaim_dead();
            let successor = here.request_seat(0, true);
            assert_eq!(membership.admit_all(), 1);
            successor
        };
        let (successor, ()) = race(replace, move || drop(receiver));
        assert_eq!(ring.occupancy(0).state, State::Active);
        let mut successor = admitted(successor);
        assert!(try_send(&mut sender, 1));
        assert!(!try_send(&mut sender, 2), "the successor gates the sender");
        assert_eq!(take(&mut successor), Ok(1));
        forget(sender);
    });
}

/// A pending receiver that was taken for dead gets an error instead of waiting forever.
#[test]
fn a_pending_receiver_taken_for_dead_gets_an_error() {
    Model::new("reclamation: sleeping pending receiver", 1532).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (sender, membership, pending) = (ring.sender(), ring.membership(), ring.request_seat(0, true));
        let join = move || assert_eq!(pending.admitted(None).map(|_| ()), Err(JoinError::Reclaimed));
        race(join, move || {
            ring.host().kill_seat(0);
            assert_eq!(membership.reclaim_dead(), 1);
        });
        forget(sender);
    });
}
