//! The ring's data path between one sender and its receivers: publish, read, release, wrap, batches.
//!
//! Every ring here starts just before the positions wrap. Its cells are loom's `UnsafeCell`s, so a read that can meet a
//! write fails the model whatever the values are.

use loom::thread;
use loom_tests::error::ReadError;
use loom_tests::memory::{Ring, Watched, admitted, after_a_lap, read, take, try_send, try_send_of, try_take};
use loom_tests::model::{Model, Start, race};
use loom_tests::ring::ClaimSize;
use std::mem::forget;

/// Catches `tail` stored or loaded Relaxed: the receiver reads the item while the sender may still write it.
#[test]
fn a_published_item_can_be_read() {
    Model::new("ring: publish", 18).check(|| {
        let ring = Ring::new(Watched::new(2), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || match try_take(&mut receiver) {
            Ok(value) => assert_eq!(value, 1),
            Err(why) => assert_eq!(why, ReadError::Empty),
        };
        race(read, move || {
            assert!(try_send(&mut sender, 1));
            forget(sender);
        });
    });
}

/// Catches a cursor that is stored or loaded Relaxed, moved before the read, or not looked at: the next write meets the
/// read.
#[test]
fn a_slot_is_written_again_only_after_it_was_given_back() {
    Model::new("ring: release", 18).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, mut receiver) = after_a_lap(&ring);
        let write = move || {
            let sent = try_send(&mut sender, 2);
            forget(sender);
            sent
        };
        race(write, move || {
            assert_eq!(try_take(&mut receiver), Ok(0));
            forget(receiver);
        });
    });
}

/// The wrap: sequences MAX, 0, 1 and 2 through two slots, each read once, in order.
#[test]
fn items_come_in_order_across_the_wrap() {
    Model::new("ring: wrap", 22377).check(|| {
        let ring = Ring::new(Watched::new(2), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let send = move || {
            for value in 0..3 {
                while !try_send(&mut sender, value) {
                    thread::yield_now();
                }
            }
            forget(sender);
        };
        race(send, move || {
            for value in 0..3 {
                loop {
                    match try_take(&mut receiver) {
                        Ok(seen) => break assert_eq!(seen, value),
                        Err(why) => assert_eq!(why, ReadError::Empty),
                    }
                    thread::yield_now();
                }
            }
            forget(receiver);
        });
    });
}

/// One store makes a batch visible. A receiver sees none of it or all of it.
#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    Model::new("ring: batch", 45).check(|| {
        let ring = Ring::new(Watched::new(4), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || {
            for _ in 0..2 {
                match receiver.try_read() {
                    Ok(mut batch) => {
                        assert_eq!([(); 3].map(|()| read(&mut batch)), [7, 8, 9].map(Ok));
                        assert!(batch.next_frame().unwrap().is_none());
                    }
                    Err(why) => assert_eq!(why, ReadError::Empty),
                }
            }
            forget(receiver);
        };
        race(read, move || {
            for value in [7, 8, 9] {
                let mut claim = sender.try_claim(ClaimSize::exactly(0)).unwrap();
                claim.writer().set(value);
                claim.stage(0);
            }
            sender.publish();
            forget(sender);
        });
    });
}

/// Releasing half of a batch frees only that half.
#[test]
fn items_kept_by_a_partial_release_are_not_overwritten() {
    Model::new("ring: partial release", 45).check(|| {
        let ring = Ring::new(Watched::new(2), 1, u32::MAX);
        let (mut sender, mut receiver) = after_a_lap(&ring);
        let write = move || {
            let sent = [3, 4].map(|value| try_send(&mut sender, value));
            assert!(sent != [true; 2], "the second item was never given back");
            forget(sender);
        };
        race(write, move || {
            assert_eq!(try_take(&mut receiver), Ok(0));
            assert_eq!(read(&mut receiver.try_read().unwrap()), Ok(0));
            forget(receiver);
        });
    });
}

/// A frame of two cells that does not fit before the end of the ring lies at its beginning, behind padding. Both become
/// visible together, and both are given back together.
#[test]
fn a_frame_that_does_not_fit_comes_after_padding() {
    Model::new("ring: padding", 336).check(|| {
        let ring = Ring::new(Watched::new(4), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || {
            let mut expected = 0;
            for _ in 0..3 {
                match try_take(&mut receiver) {
                    Ok(value) => {
                        expected += 1;
                        assert_eq!(value, expected);
                    }
                    Err(why) => assert_eq!(why, ReadError::Empty),
                }
            }
            forget(receiver);
        };
        race(read, move || {
            assert!(try_send_of(&mut sender, 8, 1));
            // Padding and frame take three of the four cells.
            try_send_of(&mut sender, 8, 2);
            forget(sender);
        });
    });
}

/// A frame that needs padding is not claimed while the padding leaves too little room for it. Catches a claim that does not
/// count the padding: the sender writes over a message that is being read.
#[test]
fn padding_takes_room_too() {
    Model::new("ring: padding takes room", 4).check(|| {
        let ring = Ring::new(Watched::new(4), 1, u32::MAX - 3);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        assert!(try_send(&mut sender, 1) && try_send_of(&mut sender, 8, 2));
        assert_eq!(try_take(&mut receiver), Ok(1));
        let write = move || {
            // Two cells are free, and one of them is to be padding.
            let sent = try_send_of(&mut sender, 8, 3);
            forget(sender);
            sent
        };
        let (_, mut receiver) = race(write, move || {
            assert_eq!(read(&mut receiver.try_read().unwrap()), Ok(2));
            receiver
        });
        assert_eq!(try_take(&mut receiver), Ok(2));
        forget(receiver);
    });
}

/// What a claim gives back when it is published is claimed again by the next, and no receiver sees it meanwhile.
#[test]
fn a_claim_that_shrinks_leaves_room_for_the_next() {
    Model::new("ring: shrink", 53).check(|| {
        let ring = Ring::new(Watched::new(4), 1, u32::MAX - 3);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || {
            for value in 1..=2 {
                match try_take(&mut receiver) {
                    Ok(seen) => assert_eq!(seen, value),
                    Err(why) => return assert_eq!(why, ReadError::Empty),
                }
            }
            forget(receiver);
        };
        race(read, move || {
            let mut claim = sender.try_claim(ClaimSize::between(0, 8)).unwrap();
            assert_eq!(claim.len(), 8);
            claim.writer().set(1);
            claim.publish(0);
            assert!(try_send(&mut sender, 2));
            forget(sender);
        });
    });
}

/// The slower of two receivers is the gate, whichever it is.
#[test]
fn the_sender_waits_for_the_slowest() {
    Model::new("ring: two receivers", 470).bounded(3).check(|| {
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
        try_send(&mut sender, 2);
        forget(sender);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A receiver leaves with an unread item. Its last read comes before the sender's next write. Catches steps of the seat
/// without Release, and looks at it without Acquire.
#[test]
fn leaving_frees_the_slots_and_comes_after_the_last_read() {
    Model::new("ring: leave", 9).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, mut receiver) = after_a_lap(&ring);
        let write = move || {
            try_send(&mut sender, 2);
            forget(sender);
        };
        race(write, move || {
            assert_eq!(read(&mut receiver.try_read().unwrap()), Ok(0));
            drop(receiver);
        });
    });
}

/// A seat passes from one receiver to the next while the sender claims. The first receiver's last read still comes
/// before the write, although the sender may see only the steps of the second.
#[test]
fn a_successor_in_the_seat_does_not_hide_the_last_read() {
    Model::new("ring: leave, then ask", 159).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, mut receiver) = after_a_lap(&ring);
        let next = ring.clone();
        let write = move || {
            try_send(&mut sender, 2);
            forget(sender);
        };
        race(write, move || {
            assert_eq!(read(&mut receiver.try_read().unwrap()), Ok(0));
            drop(receiver);
            forget(next.request_seat(0, false));
        });
        ring.membership().admit_all();
    });
}

/// A drain ends when every item has been released, and not before. The last release must wake the sender.
#[test]
fn a_drain_ends_with_the_last_release() {
    Model::new("ring: drain", 883).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        assert!(try_send(&mut sender, 1));
        let drain = move || {
            sender.drain(None).unwrap();
            assert!(sender.is_drained());
            // Drained means released, so a write meets no read.
            assert!(try_send(&mut sender, 2));
            forget(sender);
        };
        race(drain, move || {
            assert_eq!(take(&mut receiver), Ok(1));
            forget(receiver);
        });
    });
}

/// A drain also ends when the last receiver leaves with unread items.
#[test]
fn a_drain_ends_when_the_last_receiver_leaves() {
    Model::new("ring: drain against leave", 403).check(|| {
        let ring = Ring::new(Watched::new(2), 2, u32::MAX);
        let (mut sender, receiver) = (ring.sender(), ring.join(0));
        assert!(try_send(&mut sender, 1));
        let asking = ring.request_seat(1, false);
        let drain = move || {
            sender.drain(None).unwrap();
            forget(sender);
        };
        race(drain, move || drop(receiver));
        ring.membership().admit_all();
        drop(admitted(asking));
    });
}
