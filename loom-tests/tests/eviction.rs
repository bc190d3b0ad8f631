//! Eviction: the sender overwrites slots that a slow receiver may still be copying, and the receiver learns of it.

use loom::thread;
use loom_tests::error::ReadError;
use loom_tests::memory::{Ring, Words};
use loom_tests::model::{Model, Start, race};
use loom_tests::ring::{ClaimSize, Receiver, Sender};
use std::mem::forget;

/// Publishes a message of one cell if there is room now.
fn try_send(sender: &mut Sender<Ring<Words>>, value: u32) -> bool {
    let Ok(mut claim) = sender.try_claim(ClaimSize::exactly(0)) else { return false };
    claim.writer().set(value);
    claim.publish(0);
    true
}

/// Returns a ring of one slot after its first lap, with item `[1, 1]` to read. On the first lap the sender fences once
/// more before it overwrites anything, which would hide that its own fence against evicted receivers is missing.
fn after_a_lap() -> (Ring<Words>, Sender<Ring<Words>>, Receiver<Ring<Words>>) {
    let ring = Ring::new(Words::new(1), 2, u32::MAX);
    let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
    assert!(try_send(&mut sender, 0));
    let mut batch = receiver.try_read().unwrap();
    assert!(batch.next_frame().unwrap().is_some());
    batch.release();
    assert!(try_send(&mut sender, 1));
    (ring, sender, receiver)
}

/// Copies a message, which must be `[1, 1]` if the copy counts as whole.
fn copy_one(receiver: &mut Receiver<Ring<Words>>) {
    let Ok(mut batch) = receiver.try_read() else { return };
    let copy = match batch.next_frame() {
        Ok(frame) => frame.expect("a message").payload().copy(),
        Err(why) => return assert_eq!(why, ReadError::Evicted),
    };
    if batch.validate() {
        assert_eq!(copy, [1, 1], "overwritten during the copy");
    }
}

/// Catches a missing fence (the sender's after its look at the seats, the receiver's after its copy), and a missing
/// look at the seat: a torn or newer copy counts as whole.
#[test]
fn a_copy_that_counts_as_whole_is_what_was_sent() {
    Model::new("eviction: copy against overwriting", 28932).check(|| {
        let (ring, mut sender, mut receiver) = after_a_lap();
        let membership = ring.membership();
        let copy = move || {
            copy_one(&mut receiver);
            forget(receiver);
        };
        race(copy, move || {
            assert!(membership.evict(0));
            assert!(try_send(&mut sender, 2));
            forget(sender);
        });
    });
}

/// A separate thread evicts, so the sender learns of it only by its look at the seat.
#[test]
fn an_eviction_by_the_control_thread_is_seen_by_the_copy() {
    Model::new("eviction: three threads", 6560).bounded(3).check(|| {
        let (ring, mut sender, mut receiver) = after_a_lap();
        let membership = ring.membership();
        let start = Start::new();
        let (second, third) = (start.clone(), start.clone());
        let evict = thread::spawn(move || {
            second.step();
            membership.evict(0)
        });
        let copy = thread::spawn(move || {
            third.step();
            copy_one(&mut receiver);
            forget(receiver);
        });
        start.step();
        try_send(&mut sender, 2);
        forget(sender);
        assert!(evict.join().unwrap());
        copy.join().unwrap();
    });
}

/// Catches an eviction that does not notify: the sender stays asleep, although no receiver gates it any more.
#[test]
fn an_eviction_wakes_the_sender() {
    Model::new("eviction: sleeping sender", 2898).check(|| {
        let ring = Ring::new(Words::new(1), 1, u32::MAX);
        let (mut sender, membership, receiver) = (ring.sender(), ring.membership(), ring.join(0));
        assert!(try_send(&mut sender, 1));
        let write = move || {
            let mut claim = sender.claim(ClaimSize::exactly(0), None).unwrap();
            claim.writer().set(2);
            claim.publish(0);
            forget(sender);
        };
        race(write, move || assert!(membership.evict(0)));
        forget(receiver);
    });
}

/// Catches an eviction that does not notify the evicted receiver, which sleeps on an empty ring.
#[test]
fn an_eviction_wakes_the_evicted_receiver() {
    Model::new("eviction: sleeping receiver", 6426).check(|| {
        let ring = Ring::new(Words::new(1), 1, u32::MAX);
        let (sender, membership, mut receiver) = (ring.sender(), ring.membership(), ring.join(0));
        let read = move || {
            assert_eq!(receiver.read(None).map(|_| ()), Err(ReadError::Evicted));
        };
        race(read, move || assert!(membership.evict(0)));
        forget(sender);
    });
}

/// An evicted receiver's late release changes nothing, and its leaving frees the seat.
#[test]
fn a_late_release_of_an_evicted_receiver_changes_nothing() {
    Model::new("eviction: late release", 629).check(|| {
        let ring = Ring::new(Words::new(1), 2, u32::MAX);
        let (mut sender, membership, mut slow) = (ring.sender(), ring.membership(), ring.join(0));
        let mut other = ring.join(1);
        assert!(try_send(&mut sender, 1));
        let late = move || {
            if let Ok(mut batch) = slow.try_read()
                && batch.next_frame().is_ok()
            {
                batch.release();
            }
            drop(slow);
        };
        race(late, move || {
            membership.evict(0);
            assert!(!try_send(&mut sender, 2), "the other receiver has not released the slot");
            forget(sender);
        });
        assert!(!ring.occupancy(0).is_taken());
        let mut batch = other.try_read().unwrap();
        assert_eq!(batch.next_frame().unwrap().unwrap().payload().copy(), [1, 1]);
    });
}

/// The sender writes a payload over the header that an evicted receiver is reading. Catches a missing fence before the look
/// at the seat: the receiver takes the sender for a hostile one.
#[test]
fn a_header_that_was_overwritten_is_an_eviction() {
    Model::new("eviction: header against overwriting", 179).bounded(3).check(|| {
        let ring = Ring::new(Words::new(4), 1, u32::MAX - 3);
        let (mut sender, membership, mut receiver) = (ring.sender(), ring.membership(), ring.join(0));
        (1..=4).for_each(|value| assert!(try_send(&mut sender, value)));
        let mut batch = receiver.try_read().unwrap();
        assert!(batch.next_frame().unwrap().is_some());
        batch.release();
        let read = move || {
            if let Ok(mut batch) = receiver.try_read() {
                if let Err(why) = batch.next_frame() {
                    assert_eq!(why, ReadError::Evicted);
                }
            } else {
                assert_eq!(receiver.try_read().map(|_| ()), Err(ReadError::Evicted));
            }
            forget(receiver);
        };
        race(read, move || {
            assert!(membership.evict(0));
            // Its payload lies where message 2 has its header.
            let mut claim = sender.try_claim(ClaimSize::exactly(8)).unwrap();
            claim.writer().set(0);
            claim.publish(8);
            forget(sender);
        });
    });
}
