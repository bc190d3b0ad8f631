//! Sleeping elsewhere: a receiver that armed and found nothing is told of what comes, by whoever rings.

use loom_tests::memory::{Cells, Ring, try_send};
use loom_tests::model::{Model, race};
use loom_tests::ring::{Parts, Receiver, Sender, disarm};
use std::mem::forget;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

type Parties = (Ring<Cells>, Sender<Ring<Cells>>, Receiver<Ring<Cells>>, Arc<AtomicBool>);

/// A ring whose host tells the receiver in seat 0 when it is armed, and whether it did. Plain: outside the model.
fn ring() -> Parties {
    let ring = Ring::new(Cells::new(2), 1, u32::MAX);
    let (sender, receiver) = (ring.sender(), ring.join(0));
    let told = Arc::new(AtomicBool::new(false));
    let (seats, tells) = (ring.clone(), told.clone());
    ring.host().on_wake(Some(Arc::new(move || {
        if disarm(&seats, 0) {
            tells.store(true, SeqCst);
        }
    })));
    (ring, sender, receiver, told)
}

/// Nobody sleeps on beside an item. Who is told sooner, of nothing, looks and arms again: that is another round.
fn check(
    name: &'static str,
    executions: usize,
    others: impl Fn(&Ring<Cells>) + Copy + Send + Sync + 'static,
) {
    Model::new(name, executions).check(move || {
        let (ring, mut sender, mut receiver, told) = ring();
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
        assert!(!sleeps || told.load(SeqCst), "it sleeps, was not told, and there is something to read");
    });
}

/// `armed` stored after the announcement, or no announcement: the publish tells nobody.
#[test]
fn who_armed_is_told_of_what_comes() {
    check("ring: arm", 85, |_| ());
}

/// The fence in `disarm`, or the second look at `has_waiters` in `arm`: a ring that came for others clears the announcement and
/// misses `armed`, and the publish after it tells nobody.
#[test]
fn a_ring_for_others_does_not_swallow_an_announcement() {
    check("ring: arm, another ring", 5121, |ring| ring.control().notify_all(ring.host()));
}
