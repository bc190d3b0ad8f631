//! The ends of a stream: closed, abandoned, or with a dead sender.

use loom_tests::error::{End, JoinError, ReadError};
use loom_tests::memory::{Ring, Watched, send, take, try_send, try_take};
use loom_tests::model::{Model, race};
use loom_tests::ring::{ClaimSize, Parts, Sender};
use std::mem::forget;

/// An end record in which every word differs from the zeroes before.
const END: End = End { total: 1 | 2 << 32, checksum: Some([3; 16]) };

/// Catches `state` stored or loaded Relaxed, or stored before the record: half of the record is missing. Also catches a
/// missing second look at the tail after `state`: the last item is missing.
#[test]
fn the_end_comes_after_the_last_item_and_is_complete() {
    Model::new("closing: end after the last item", 826).check(|| {
        let ring = Ring::new(Watched::new(2), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || {
            let mut taken = 0;
            for _ in 0..3 {
                match try_take(&mut receiver) {
                    Ok(value) => {
                        assert_eq!(value, 1);
                        taken += 1;
                    }
                    Err(ReadError::Ended(end)) => assert_eq!((taken, end), (1, END)),
                    Err(why) => assert_eq!(why, ReadError::Empty),
                }
            }
            forget(receiver);
        };
        race(read, move || {
            assert!(try_send(&mut sender, 1));
            sender.close(END);
        });
    });
}

/// Catches a close that does not wake, and a second look that ignores `state`.
#[test]
fn closing_wakes_sleeping_receivers() {
    Model::new("closing: close against sleep", 424).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || {
            assert_eq!(take(&mut receiver), Err(ReadError::Ended(END)));
            forget(receiver);
        };
        race(read, move || sender.close(END));
    });
}

/// A sender that is dropped without closing reports that, after the items that it published.
#[test]
fn an_abandoned_stream_is_read_and_then_reported() {
    Model::new("closing: abandoned, polled", 826).check(|| {
        let ring = Ring::new(Watched::new(2), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || {
            let mut taken = 0;
            for _ in 0..3 {
                match try_take(&mut receiver) {
                    Ok(_) => taken += 1,
                    Err(ReadError::SenderDied) => assert_eq!(taken, 1),
                    Err(why) => assert_eq!(why, ReadError::Empty),
                }
            }
            forget(receiver);
        };
        race(read, move || {
            assert!(try_send(&mut sender, 1));
            drop(sender);
        });
    });
}

/// Catches a drop that does not wake: the receiver stays asleep.
#[test]
fn dropping_the_sender_wakes_sleeping_receivers() {
    Model::new("closing: abandoned against sleep", 424).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || {
            assert_eq!(take(&mut receiver), Err(ReadError::SenderDied));
            forget(receiver);
        };
        race(read, move || drop(sender));
    });
}

/// No thread admits any more, so the pending receiver gets an error instead of waiting.
#[test]
fn dropping_the_sender_wakes_pending_receivers() {
    Model::new("closing: abandoned against a pending receiver", 264).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (sender, pending) = (ring.sender(), ring.request_seat(0, true));
        let join = move || assert_eq!(pending.admitted(None).map(|_| ()), Err(JoinError::SenderDied));
        race(join, move || drop(sender));
    });
}

/// A sender dies at each of its steps, and a poll interval tells the receivers. They first read what it published, and
/// nothing else. Catches a report without a last look at the tail: an item is lost.
#[test]
fn a_dead_sender_is_reported_after_what_it_published() {
    /// Takes `steps` steps and then stops, as if killed.
    fn die_after(mut sender: Sender<Ring<Watched>>, steps: u32) -> u32 {
        let mut published = 0;
        if steps > 0 {
            let mut claim = sender.try_claim(ClaimSize::exactly(0)).unwrap();
            if steps > 1 {
                claim.writer().set(7);
            }
            if steps > 2 {
                claim.publish(0);
                published = 1;
            }
        }
        forget(sender);
        published
    }
    for steps in 0..4 {
        Model::new("closing: sender's death", 19).check(move || {
            let ring = Ring::new(Watched::new(1), 1, u32::MAX);
            let (sender, mut receiver) = (ring.sender(), ring.join(0));
            let parking = ring.host().clone();
            let read = move || {
                let mut taken = 0;
                let end = loop {
                    match take(&mut receiver) {
                        Ok(value) => assert_eq!(value, 7),
                        Err(why) => break why,
                    }
                    taken += 1;
                };
                assert_eq!(end, ReadError::SenderDied);
                forget(receiver);
                taken
            };
            let (taken, published) = race(read, move || {
                let published = die_after(sender, steps);
                parking.kill_owner();
                published
            });
            assert_eq!(taken, published);
        });
    }
}

/// A receiver reads the last items, and sleeps while the sender sends, drains and closes.
#[test]
fn a_stream_is_read_to_its_end_with_both_sides_asleep() {
    Model::new("closing: send, drain, close", 32251).bounded(3).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
        let read = move || {
            assert_eq!([take(&mut receiver), take(&mut receiver)], [Ok(0), Ok(1)]);
            assert_eq!(take(&mut receiver), Err(ReadError::Ended(END)));
        };
        race(read, move || {
            send(&mut sender, 0);
            send(&mut sender, 1);
            sender.close(END);
            sender.drain(None).unwrap();
        });
    });
}
