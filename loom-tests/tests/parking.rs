//! The two sides of the ring sleep and wake. No model has a poll interval, so a lost wake is a deadlock.

use loom::thread;
use loom_tests::error::ClaimError;
use loom_tests::memory::{Ring, Watched, send, take, try_send, try_take};
use loom_tests::model::{Model, Start, is_long, race};
use loom_tests::ring::{ClaimSize, Parts};
use std::mem::forget;

/// Catches a missing fence in `release` or in `prepare_wait`, `wanted` stored after the announcement, and a missing
/// second look: the receiver leaves while the sender goes to sleep.
#[test]
fn a_full_ring_wakes_its_sender() {
    Model::new("parking: full ring", 875).check(|| {
        // Not so close to the wrap that `wanted` would equal its first value, 0.
        let ring = Ring::new(Watched::new(1), 1, u32::MAX - 4);
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

/// Catches a missing fence in `notify` or in `prepare_wait`, a missing second look, and a notification before the
/// publish: the sender stops while the receiver goes to sleep.
#[test]
fn an_empty_ring_wakes_its_receiver() {
    Model::new("parking: empty ring", 424).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
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
        let ring = Ring::new(Watched::new(2), 1, u32::MAX);
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
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
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

/// A ring of two cells wakes its sender when one cell is free. A ring of four wakes it only when two are: the release
/// in between wakes no thread.
#[test]
fn the_sender_sleeps_until_half_of_the_ring_is_free() {
    Model::new("parking: half of the ring", 4468).check(|| {
        let ring = Ring::new(Watched::new(4), 1, u32::MAX - 1);
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

/// Catches a missing fence in `release`: each of two receivers that pass `wanted` at once misses the other, and neither
/// notifies.
#[test]
fn one_of_two_receivers_that_pass_at_once_wakes_the_sender() {
    Model::new("parking: two pass at once", 9401).bounded(3).check(|| {
        let ring = Ring::new(Watched::new(1), 2, u32::MAX);
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

/// The sender already sleeps, so the search can go deeper into the two releases.
#[test]
fn one_of_two_receivers_that_pass_at_once_wakes_a_sleeping_sender() {
    Model::new("parking: two pass, announced before", 767).check(|| {
        let ring = Ring::new(Watched::new(1), 2, u32::MAX);
        let (mut sender, [mut first, mut second]) = (ring.sender(), [ring.join(0), ring.join(1)]);
        assert!(try_send(&mut sender, 1));
        // Announces itself and would sleep. The deadline has passed, so the model continues.
        assert!(matches!(sender.claim(ClaimSize::exactly(0), Some(())), Err(ClaimError::TimedOut)));
        let before = ring.host().wakes();
        let here = move || {
            assert_eq!(try_take(&mut first), Ok(1));
            forget(first);
        };
        race(here, move || {
            assert_eq!(try_take(&mut second), Ok(1));
            forget(second);
        });
        assert!(ring.host().wakes() > before, "both receivers passed `wanted` and neither notified");
        assert!(try_send(&mut sender, 2));
        forget(sender);
    });
}

/// The first of two receivers to pass does not wake the sender while the other is behind. The second one does.
#[test]
fn only_the_last_receiver_to_pass_wakes_the_sender() {
    Model::new("parking: last to pass", 1).check(|| {
        let ring = Ring::new(Watched::new(2), 2, u32::MAX);
        let (mut sender, [mut first, mut second]) = (ring.sender(), [ring.join(0), ring.join(1)]);
        assert!(try_send(&mut sender, 1) && try_send(&mut sender, 2));
        assert!(matches!(sender.claim(ClaimSize::exactly(0), Some(())), Err(ClaimError::TimedOut)));
        let before = ring.host().wakes();
        assert_eq!(try_take(&mut first), Ok(1));
        assert_eq!(ring.host().wakes(), before, "woken for nothing: the other receiver is still behind");
        assert_eq!(try_take(&mut second), Ok(1));
        assert_eq!(ring.host().wakes(), before + 1);
        assert_eq!(try_take(&mut second), Ok(2));
        assert_eq!(
            ring.host().wakes(),
            before + 1,
            "the last receiver passed `wanted` and did not wake the sender"
        );
        forget((first, second));
        forget(sender);
    });
}

/// A receiver that leaves without reading wakes the sender that waits for it.
#[test]
fn leaving_wakes_the_sender() {
    Model::new("parking: leave", 403).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
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
        let ring = Ring::new(Watched::new(1), 2, u32::MAX);
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
