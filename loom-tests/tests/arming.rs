//! Sleeping elsewhere: an armed receiver that found nothing is notified of the next item, by any notifier.

use loom_tests::memory::{Ring, Watched, try_send};
use loom_tests::model::{Model, race};
use loom_tests::ring::{Parts, Receiver, Sender, disarm};
use std::mem::forget;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

type Parties = (Ring<Watched>, Sender<Ring<Watched>>, Receiver<Ring<Watched>>, Arc<AtomicBool>);

/// Makes a ring whose host notifies the receiver in seat 0 if it is armed, and records that. The record is outside the
/// model.
fn ring() -> Parties {
    let ring = Ring::new(Watched::new(2), 1, u32::MAX);
    let (sender, receiver) = (ring.sender(), ring.join(0));
    let notified = Arc::new(AtomicBool::new(false));
    let (seats, records) = (ring.clone(), notified.clone());
    ring.host().on_wake(Some(Arc::new(move || {
        if disarm(&seats, 0) {
            records.store(true, SeqCst);
        }
    })));
    (ring, sender, receiver, notified)
}

/// Checks that the receiver does not sleep beside an item. A receiver that is notified of nothing looks and arms again,
/// which would be another round.
fn check(
    name: &'static str,
    executions: usize,
    others: impl Fn(&Ring<Watched>) + Copy + Send + Sync + 'static,
) {
    Model::new(name, executions).check(move || {
        let (ring, mut sender, mut receiver, notified) = ring();
        let arm = move || {
            let sleeps = receiver.arm().unwrap();
            forget(receiver);
            sleeps
        };
        let rings = ring.clone();
        let (sleeps, ()) = race(arm, move || {
            others(&rings);
            assert!(try_send(&mut sender, 1));
            forget(sender);
        });
        ring.host().on_wake(None);
        assert!(!sleeps || notified.load(SeqCst), "the receiver sleeps beside an item and was not notified");
    });
}

/// Catches `armed` stored after the announcement, and a missing announcement: the publish notifies no receiver.
#[test]
fn an_armed_receiver_is_notified_of_the_next_item() {
    check("ring: arm", 85, |_| ());
}

/// Catches a missing fence in `disarm`, and a missing second look at `has_waiters` in `arm`. A notification for other
/// receivers clears the announcement and misses `armed`, and the publish after it notifies no receiver.
#[test]
fn a_notification_for_others_does_not_hide_an_announcement() {
    check("ring: arm, another notification", 5121, |ring| ring.control().notify_all(ring.host()));
}
