//! The ring's two sides sleeping and waking: no model has a slice, so a lost wake is a deadlock.

use loom::thread;
use loom_tests::error::ClaimError;
use loom_tests::memory::{Cells, Ring, send, take, try_send, try_take};
use loom_tests::model::{Model, Start, is_long, race};
use loom_tests::ring::Parts;
use std::mem::forget;

/// The fence in `release` or in `prepare` removed, `wanted` stored after the announcement, no second look: the receiver
/// goes away while the sender goes to sleep.
#[test]
fn a_full_ring_wakes_its_sender() {
    Model::new("parking: full ring", 875).check(|| {
        // Not so near the wrap that `wanted` would equal its first value, 0.
        let ring = Ring::new(Cells::new(1), 1, u32::MAX - 4);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        assert!(try_send(&mut sender, 1));
        let write = move || {
            send(&mut sender, 2);
            forget(sender);
        };
        race(write, move || {
            assert_eq!(try_take(&mut receiver), Ok(1));
            forget(receiver);
        });
    });
}

/// The fence in `notify` or in `prepare` removed, no second look, told before published: the sender goes away while the
/// receiver goes to sleep.
#[test]
fn an_empty_ring_wakes_its_receiver() {
    Model::new("parking: empty ring", 424).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || {
            assert_eq!(take(&mut receiver), Ok(1));
            forget(receiver);
        };
        race(read, move || {
            assert!(try_send(&mut sender, 1));
            forget(sender);
        });
    });
}

/// Two publishes: the second finds the receiver awake, asleep again, or on its way.
#[test]
fn a_receiver_that_sleeps_again_is_woken_again() {
    Model::new("parking: empty ring, twice", 1091).bounded(if is_long() { 5 } else { 3 }).check(|| {
        let ring = Ring::new(Cells::new(2), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || {
            assert_eq!([take(&mut receiver), take(&mut receiver)], [Ok(1), Ok(2)]);
            forget(receiver);
        };
        race(read, move || {
            assert!(try_send(&mut sender, 1) && try_send(&mut sender, 2));
            forget(sender);
        });
    });
}

/// Both sides sleep on each other in turns.
#[test]
fn both_sides_wake_each_other() {
    let items = if is_long() { 3 } else { 2 };
    Model::new("parking: both sides", 3336).bounded(if is_long() { 4 } else { 3 }).check(move || {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let write = move || {
            (0..items).for_each(|value| send(&mut sender, value));
            forget(sender);
        };
        race(write, move || {
            for value in 0..items {
                assert_eq!(take(&mut receiver), Ok(value));
            }
            forget(receiver);
        });
    });
}

/// A ring of two wakes its sender when one slot is free; one of four only when two are: the release in between is quiet.
#[test]
fn the_sender_sleeps_until_half_of_the_ring_is_free() {
    Model::new("parking: half of the ring", 4468).check(|| {
        let ring = Ring::new(Cells::new(4), 1, u32::MAX - 1);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        assert!((0..4).all(|value| try_send(&mut sender, value)));
        let before = ring.host().wakes();
        let write = move || {
            send(&mut sender, 4);
            forget(sender);
        };
        let (_, wakes) = race(write, move || {
            assert_eq!([try_take(&mut receiver), try_take(&mut receiver)], [Ok(0), Ok(1)]);
            let wakes = receiver.parts().host().wakes();
            forget(receiver);
            wakes
        });
        assert!(wakes <= before + 1, "woken before half was free");
    });
}

/// Without the fence in `release` each of two that pass `wanted` at once misses the other, and nobody rings.
#[test]
fn of_two_that_pass_at_once_one_wakes_the_sender() {
    Model::new("parking: two pass at once", 9401).bounded(3).check(|| {
        let ring = Ring::new(Cells::new(1), 2, u32::MAX);
        let (mut sender, receivers) = (ring.sender(), [ring.join(0), ring.join(1)]);
        assert!(try_send(&mut sender, 1));
        let start = Start::new();
        let threads = receivers.map(|mut receiver| {
            let start = start.clone();
            thread::spawn(move || {
                start.step();
                assert_eq!(try_take(&mut receiver), Ok(1));
                forget(receiver);
            })
        });
        start.step();
        send(&mut sender, 2);
        forget(sender);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// The same with the sender already asleep, so that the search can go deeper into the two releases.
#[test]
fn of_two_that_pass_at_once_one_rings_for_a_sleeping_sender() {
    Model::new("parking: two pass, announced before", 767).check(|| {
        let ring = Ring::new(Cells::new(1), 2, u32::MAX);
        let (mut sender, [mut first, mut second]) = (ring.sender(), [ring.join(0), ring.join(1)]);
        assert!(try_send(&mut sender, 1));
        // Announces itself and would sleep; the deadline has passed, so the model goes on.
        assert!(matches!(sender.claim(1, Some(())), Err(ClaimError::TimedOut)));
        let before = ring.host().wakes();
        let here = move || {
            assert_eq!(try_take(&mut first), Ok(1));
            forget(first);
        };
        race(here, move || {
            assert_eq!(try_take(&mut second), Ok(1));
            forget(second);
        });
        assert!(ring.host().wakes() > before, "both passed and nobody rang");
        assert!(try_send(&mut sender, 2));
        forget(sender);
    });
}

/// The first of two to pass does not wake the sender while the other is behind; the second does.
#[test]
fn only_the_last_to_pass_wakes_the_sender() {
    Model::new("parking: last to pass", 1).check(|| {
        let ring = Ring::new(Cells::new(2), 2, u32::MAX);
        let (mut sender, [mut first, mut second]) = (ring.sender(), [ring.join(0), ring.join(1)]);
        assert!(try_send(&mut sender, 1) && try_send(&mut sender, 2));
        assert!(matches!(sender.claim(1, Some(())), Err(ClaimError::TimedOut)));
        let before = ring.host().wakes();
        assert_eq!(try_take(&mut first), Ok(1));
        assert_eq!(ring.host().wakes(), before, "woken for nothing: the other is still behind");
        assert_eq!(try_take(&mut second), Ok(1));
        assert_eq!(ring.host().wakes(), before + 1);
        assert_eq!(try_take(&mut second), Ok(2));
        assert_eq!(ring.host().wakes(), before + 1, "passed long ago");
        forget((first, second));
        forget(sender);
    });
}

/// A receiver that leaves without reading wakes the sender that waits for it.
#[test]
fn leaving_wakes_the_sender() {
    Model::new("parking: leave", 403).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, receiver) = (ring.sender(), ring.join(0));
        assert!(try_send(&mut sender, 1));
        let write = move || {
            send(&mut sender, 2);
            forget(sender);
        };
        race(write, move || drop(receiver));
    });
}

/// One publish wakes every receiver that sleeps.
#[test]
fn a_publish_wakes_all_receivers() {
    Model::new("parking: two sleeping receivers", 5027).bounded(3).check(|| {
        let ring = Ring::new(Cells::new(1), 2, u32::MAX);
        let (mut sender, receivers) = (ring.sender(), [ring.join(0), ring.join(1)]);
        let start = Start::new();
        let threads = receivers.map(|mut receiver| {
            let start = start.clone();
            thread::spawn(move || {
                start.step();
                assert_eq!(take(&mut receiver), Ok(1));
                forget(receiver);
            })
        });
        start.step();
        assert!(try_send(&mut sender, 1));
        forget(sender);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
