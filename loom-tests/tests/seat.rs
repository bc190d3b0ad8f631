//! The seat word: every step counts once, and carries what was written before it.

use loom::cell::UnsafeCell;
use loom_tests::model::{Model, race};
use loom_tests::seat::{Generation, Seat, State};
use std::sync::Arc;

struct Shared {
    seat: Seat,
    /// Guarded by the steps of the seat.
    guarded: UnsafeCell<u32>,
}

// SAFETY: loom's `UnsafeCell` checks every access; that the seat keeps them apart is what the models try.
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
        // SAFETY: loom checks that nobody else is here.
        self.guarded.with_mut(|guarded| unsafe { *guarded = value });
    }

    fn read(&self) -> u32 {
        // SAFETY: loom checks that nobody writes.
        self.guarded.with(|guarded| unsafe { *guarded })
    }
}

#[test]
fn of_two_that_sit_down_one_gets_the_seat() {
    Model::new("seat: two sit", 22).check(|| {
        let shared = Shared::new();
        let other = shared.clone();
        let (ours, theirs) = race(
            || shared.seat.occupy(State::AskFirst, 2).is_some(),
            move || other.seat.occupy(State::AskNow, 1).is_some(),
        );
        assert!(ours != theirs);
    });
}

/// Steps without Release: who sees the step does not see what was done before it. Looks without Acquire: the same.
#[test]
fn who_sees_a_step_sees_what_was_before_it() {
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

/// Steps without Acquire: a step that succeeds without a look before it has not seen what was done before the last one.
#[test]
fn who_steps_on_sees_what_was_before_the_last_step() {
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

/// A seat passes through a third hand: the steps between are part of the release sequence, so the new occupant sees what
/// the former one did last.
#[test]
fn the_next_occupant_sees_what_the_former_did() {
    Model::new("seat: leave, then sit", 9).check(|| {
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

/// A reclamation that does not raise the generation: the late leaving of the reclaimed one hits its successor.
#[test]
fn leaving_and_being_reclaimed_count_once_and_spare_the_successor() {
    Model::new("seat: leave against reclaim, then sit", 80).check(|| {
        let (shared, generation) = Shared::seated(State::Active);
        let other = shared.clone();
        let ((reclaimed, successor), left) = race(
            || (shared.seat.reclaim(), shared.seat.occupy(State::AskNow, 0)),
            move || other.seat.leave(generation),
        );
        assert!(left != reclaimed, "the step counted twice, or not at all");
        let seen = shared.seat.occupancy();
        let successor = successor.expect("the seat was cleared, by us or before us");
        assert_eq!((seen.state, seen.generation), (State::AskNow, successor));
        assert_ne!(successor, generation);
    });
}

/// The admitter's step names the generation: it cannot make a successor `Active` by mistake.
#[test]
fn a_late_admission_does_not_hit_a_successor() {
    Model::new("seat: admission against leave and sit", 35).check(|| {
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

/// Two that reclaim at once, as after a reclaimer's own death: one of them counts, and the generation grows by one.
#[test]
fn two_burials_count_once() {
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
