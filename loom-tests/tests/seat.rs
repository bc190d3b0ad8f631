//! The seat word: every step counts once, and makes visible what was written before it.

use loom::cell::UnsafeCell;
use loom_tests::model::{Model, race};
use loom_tests::seat::{Generation, Seat, State};
use std::sync::Arc;

struct Shared {
    seat: Seat,
    /// A value that the steps of the seat guard.
    guarded: UnsafeCell<u32>,
}

// SAFETY: loom's `UnsafeCell` checks every access; the models try whether the seat keeps them apart.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { seat: Seat::new(), guarded: UnsafeCell::new(0) })
    }

    fn seated(state: State) -> (Arc<Self>, Generation) {
        let shared = Self::new();
        let generation = shared.seat.occupy(state, 0).unwrap();
        (shared, generation)
    }

    fn write(&self, value: u32) {
        // SAFETY: loom checks that no other thread uses it.
        self.guarded.with_mut(|guarded| unsafe { *guarded = value });
    }

    fn read(&self) -> u32 {
        // SAFETY: loom checks that no thread writes it.
        self.guarded.with(|guarded| unsafe { *guarded })
    }
}

#[test]
fn one_of_two_participants_gets_the_seat() {
    Model::new("seat: two occupy", 22).check(|| {
        let shared = Shared::new();
        let other = shared.clone();
        let (ours, theirs) = race(
            || shared.seat.occupy(State::AskFirst, 2).is_some(),
            move || other.seat.occupy(State::AskNow, 1).is_some(),
        );
        assert!(ours != theirs);
    });
}

/// Catches steps without Release, and looks without Acquire: a thread that sees the step does not see what came before
/// it.
#[test]
fn a_look_at_a_step_sees_what_came_before_it() {
    Model::new("seat: step, then look", 18).check(|| {
        let (shared, generation) = Shared::seated(State::Admitting);
        let other = shared.clone();
        let look = || {
            if shared.seat.occupancy().state == State::Active {
                assert_eq!(shared.read(), 7);
            }
        };
        race(look, move || {
            other.write(7);
            assert!(other.seat.transition(generation, State::Admitting, State::Active));
        });
    });
}

/// Catches steps without Acquire: a step that succeeds without a look before it has not seen what came before the last
/// step.
#[test]
fn the_next_step_sees_what_came_before_the_last_one() {
    Model::new("seat: step, then step", 11).check(|| {
        let (shared, generation) = Shared::seated(State::AskNow);
        let other = shared.clone();
        let step = || {
            if shared.seat.transition(generation, State::Admitting, State::Active) {
                assert_eq!(shared.read(), 7);
            }
        };
        race(step, move || {
            other.write(7);
            assert!(other.seat.transition(generation, State::AskNow, State::Admitting));
        });
    });
}

/// A seat passes through a third participant. The steps between belong to the release sequence, so the new occupant
/// sees what the first one did last.
#[test]
fn the_next_occupant_sees_what_the_former_did() {
    Model::new("seat: leave, then occupy", 9).check(|| {
        let (shared, generation) = Shared::seated(State::Active);
        let other = shared.clone();
        let sit = || {
            if shared.seat.occupy(State::AskNow, 0).is_some() {
                shared.write(8);
            }
        };
        race(sit, move || {
            other.write(7);
            assert!(other.seat.leave(generation));
        });
    });
}

/// Catches a reclamation that does not raise the generation: the late leaving of the reclaimed occupant frees its
/// successor's seat.
#[test]
fn leaving_and_reclamation_count_once_and_spare_the_successor() {
    Model::new("seat: leave against reclaim, then occupy", 80).check(|| {
        let (shared, generation) = Shared::seated(State::Active);
        let other = shared.clone();
        let ((reclaimed, successor), left) = race(
            || (shared.seat.reclaim(), shared.seat.occupy(State::AskNow, 0)),
            move || other.seat.leave(generation),
        );
        assert!(left != reclaimed, "the step counted twice, or not at all");
        let seen = shared.seat.occupancy();
        let successor = successor.expect("one of the two cleared the seat");
        assert_eq!((seen.state, seen.generation), (State::AskNow, successor));
        assert_ne!(successor, generation);
    });
}

/// The membership's step names the generation, so it cannot make a successor `Active` by mistake.
#[test]
fn a_late_admission_does_not_change_a_successors_seat() {
    Model::new("seat: admission against leave and occupy", 35).check(|| {
        let (shared, generation) = Shared::seated(State::Admitting);
        let other = shared.clone();
        let (admitted, successor) = race(
            || shared.seat.transition(generation, State::Admitting, State::Active),
            move || {
                assert!(other.seat.leave(generation));
                other.seat.occupy(State::AskFirst, 0).unwrap()
            },
        );
        let seen = shared.seat.occupancy();
        assert_eq!((seen.state, seen.generation), (State::AskFirst, successor), "admitted: {admitted}");
    });
}

/// Two reclaimers act at once, as after a reclaimer's own death. One of them counts, and the generation grows by one.
#[test]
fn two_reclamations_count_once() {
    Model::new("seat: two reclamations", 36).check(|| {
        let (shared, generation) = Shared::seated(State::Active);
        let other = shared.clone();
        let (ours, theirs) = race(|| shared.seat.reclaim(), move || other.seat.reclaim());
        assert!(ours != theirs);
        let next = shared.seat.occupy(State::AskNow, 0).unwrap();
        assert_ne!(next, generation);
        assert!(!shared.seat.leave(generation));
    });
}
