//! The dead: a receiver that stops at any of its steps is reclaimed, and the ring goes on.

use loom_tests::error::{ClaimError, JoinError};
use loom_tests::memory::{Cells, Ring, admitted, send, take, try_send};
use loom_tests::model::{Model, is_long, race};
use loom_tests::parking::Death;
use loom_tests::ring::{Parts, PendingReceiver, Receiver};
use loom_tests::seat::State;
use std::mem::{ManuallyDrop, forget};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Preemptions: a reclamation touches every shared word, so without a bound these take hours.
fn depth() -> usize {
    if is_long() { 5 } else { 3 }
}

/// Runs `life`; false if it died at one of its steps, leaving everything as it was then.
fn live(life: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(life)) {
        Ok(()) => true,
        Err(end) if end.is::<Death>() => false,
        Err(panic) => resume_unwind(panic),
    }
}

/// A receiver for a ring whose other side is immortal: it dies at its `steps`-th step after joining.
fn mortal_receiver(ring: &Ring<Cells>, steps: u32) -> ManuallyDrop<Receiver<Ring<Cells>>> {
    let receiver = ring.join_as(ring.mortal(), 0);
    receiver.parts().host().live_for(steps);
    ManuallyDrop::new(receiver)
}

/// Reclaims seat 0 with the knowledge that its occupant is dead. Who died with its seat left but the sender not yet told
/// leaves nothing to reclaim: that stall ends with the slice.
fn reclaim(ring: &Ring<Cells>) {
    ring.host().kill_seat(0);
    if ring.membership().reclaim_dead() == 0 {
        ring.host().end_slices();
    }
}

/// A receiver killed before each step of reading, releasing and leaving, while the sender waits for it: the sender goes
/// on, and the dead one's reads come before the writes into what it held. A reclamation that does not ring leaves the sender
/// asleep; so does one that rings before it has cleared the seat.
#[test]
fn the_sender_goes_on_whichever_step_a_receiver_dies_at() {
    for steps in 0.. {
        let (survived, report) = std::sync::mpsc::channel();
        let survived = std::sync::Mutex::new(survived);
        Model::new("reclamation: a receiver's death while the sender waits", 239).bounded(depth()).check(
            move || {
                let ring = Ring::new(Cells::new(1), 1, u32::MAX);
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
            assert!(steps > 8, "died at only {steps} steps: are there no more?");
            break;
        }
    }
}

/// The same, with another receiver that must get every item, and a sender that polls.
#[test]
fn the_others_lose_nothing_by_a_death() {
    Model::new("reclamation: another receiver goes on", 2583).bounded(depth()).check(|| {
        let ring = Ring::new(Cells::new(1), 2, u32::MAX);
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

/// An applicant that dies before it is admitted, or after it, or that never looked: each leaves a seat to be reclaimed, and
/// none stops the sender.
#[test]
fn an_applicant_may_die_at_any_moment() {
    for steps in 0..3 {
        Model::new("reclamation: an applicant's death", 38).bounded(depth()).check(move || {
            let ring = Ring::new(Cells::new(1), 1, u32::MAX);
            let (mut sender, membership, applicant) =
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
                    forget(applicant.try_admitted());
                } else {
                    forget(applicant);
                }
                ring.host().kill_seat(0);
                // If it was refused it had left by itself.
                membership.reclaim_dead();
                assert!(!ring.occupancy(0).is_taken());
            });
        });
    }
}

/// Asking is cut short at each of its steps: what is left can be reclaimed and the seat used again. `taken` raised after the
/// seat was asked for leaves a seat behind that no scan reaches.
#[test]
fn asking_may_be_cut_short() {
    for steps in 0..4 {
        Model::new("reclamation: asking cut short", 1).check(move || {
            let ring = Ring::new(Cells::new(1), 1, u32::MAX);
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

/// An admission that stopped half-way holds the sender up, in a claim as in a drain, until its seat is reclaimed: where the
/// applicant will start is not decided.
#[test]
fn half_an_admission_holds_the_sender_up() {
    Model::new("reclamation: half an admission", 1).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, admitter) = (ring.sender(), ring.mortal());
        assert!(try_send(&mut sender, 0));
        forget(ring.request_seat(0, true));
        let (membership, life) = (admitter.membership(), admitter.host().clone());
        let died_at = (0..9).find(|steps| {
            life.live_for(*steps);
            !live(|| _ = membership.admit_all()) && ring.occupancy(0).state == State::Admitting
        });
        assert!(died_at.is_some(), "no step of it lies between the mark and the decision");
        assert!(!sender.is_drained());
        assert_eq!(sender.drain(Some(())), Err(ClaimError::TimedOut));
        assert!(!try_send(&mut sender, 1));
        reclaim(&ring);
        assert!(sender.is_drained() && try_send(&mut sender, 1));
        forget(sender);
    });
}

/// A receiver taken for dead leaves late: one of leaving and reclamation counts, and the successor in the seat is untouched.
#[test]
fn a_late_leaving_does_not_hit_the_successor() {
    Model::new("reclamation: late leaving", 585).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
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
        assert!(!try_send(&mut sender, 2), "the successor gates");
        assert_eq!(take(&mut successor), Ok(1));
        forget(sender);
    });
}

/// An applicant that was taken for dead learns it instead of waiting for ever.
#[test]
fn an_applicant_taken_for_dead_is_told() {
    Model::new("reclamation: sleeping applicant", 1532).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (sender, membership, applicant) = (ring.sender(), ring.membership(), ring.request_seat(0, true));
        let join = move || assert_eq!(applicant.admitted(None).map(|_| ()), Err(JoinError::Reclaimed));
        race(join, move || {
            ring.host().kill_seat(0);
            assert_eq!(membership.reclaim_dead(), 1);
        });
        forget(sender);
    });
}
