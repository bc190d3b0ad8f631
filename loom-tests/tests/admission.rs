//! Admission while the sender claims and publishes: a new receiver's first item is never overwritten under it.

use loom::thread;
use loom_tests::error::{JoinError, ReadError};
use loom_tests::memory::{Ring, Watched, admitted, send, take, try_send, try_take};
use loom_tests::model::{Model, Start, is_long, race};
use loom_tests::ring::{ClaimSize, Receiver, Sender};
use loom_tests::seat::State;
use std::mem::forget;

/// Reads everything that is published, in place, without releasing it. The values must be consecutive.
fn read_all(receiver: &mut Receiver<Ring<Watched>>) -> Option<u32> {
    let mut batch = receiver.try_read().ok()?;
    let (mut first, mut count) = (None, 0);
    while let Some(frame) = batch.next_frame().expect("an honest sender") {
        let value = frame.payload().get();
        assert_eq!(value, *first.get_or_insert(value) + count, "skipped or repeated");
        count += 1;
    }
    first
}

/// Catches a missing fence in `decide` or in `notify`, and a sender that passes an `Admitting` seat: the membership
/// starts the receiver at an old tail whose cells the sender has claimed again.
#[test]
fn a_receiver_admitted_now_starts_within_a_lap() {
    Model::new("admission: now, against publish", 7290).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, membership, pending) =
            (ring.sender(), ring.membership(), ring.request_seat(0, false));
        let admit = move || {
            membership.admit_all();
            let mut receiver = admitted(pending);
            read_all(&mut receiver);
            forget(receiver);
        };
        race(admit, move || {
            (0..3).all(|value| try_send(&mut sender, value));
            forget(sender);
        });
    });
}

/// The sender has claimed several cells before. It may publish them while a seat is `Admitting`.
#[test]
fn a_receiver_may_ask_for_now_during_a_claim() {
    Model::new("admission: now, during a claim", 12192).check(|| {
        let ring = Ring::new(Watched::new(2), 1, u32::MAX);
        let (mut sender, membership, pending) =
            (ring.sender(), ring.membership(), ring.request_seat(0, false));
        assert!(try_send(&mut sender, 0));
        let admit = move || {
            membership.admit_all();
            let mut receiver = admitted(pending);
            read_all(&mut receiver);
            forget(receiver);
        };
        race(admit, move || {
            (1..4).all(|value| try_send(&mut sender, value));
            forget(sender);
        });
    });
}

/// A receiver that is admitted now starts before the frames that are staged. Catches a limit that counts from their end:
/// the sender overwrites the first of them under the receiver.
#[test]
fn a_receiver_admitted_now_gets_what_is_staged() {
    Model::new("admission: now, with staged frames", 5643).check(|| {
        let ring = Ring::new(Watched::new(2), 1, u32::MAX);
        let (mut sender, membership, pending) =
            (ring.sender(), ring.membership(), ring.request_seat(0, false));
        let stage = |sender: &mut Sender<Ring<Watched>>, value| {
            let Ok(mut claim) = sender.try_claim(ClaimSize::exactly(0)) else { return false };
            claim.writer().set(value);
            claim.stage(0);
            true
        };
        assert!(stage(&mut sender, 0));
        let admit = move || {
            membership.admit_all();
            let mut receiver = admitted(pending);
            read_all(&mut receiver);
            receiver
        };
        let (mut receiver, ()) = race(admit, move || {
            (1..4).all(|value| stage(&mut sender, value));
            sender.publish();
            forget(sender);
        });
        assert!(matches!(receiver.try_read(), Ok(_) | Err(ReadError::Empty)), "further than a lap ahead");
        forget(receiver);
    });
}

/// Catches a missing fence after `lapped` or in `decide`, `lapped` stored after the scan, and a missing second scan: the
/// receiver is admitted at the first item while the sender overwrites it. Also catches a cursor stored after `Active`,
/// or `Active` stored without Release: the sender takes the old cursor, which is within the lap, for the receiver's.
#[test]
fn a_receiver_that_asks_for_the_first_item_gets_it_or_is_refused() {
    Model::new("admission: first, against the first lap", 1141).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, membership, pending) =
            (ring.sender(), ring.membership(), ring.request_seat(0, true));
        assert!(try_send(&mut sender, 0));
        let admit = move || {
            membership.admit_all();
            match pending.try_admitted() {
                Ok(mut receiver) => {
                    assert_eq!(read_all(&mut receiver), Some(0), "the first item was overwritten");
                    forget(receiver);
                }
                Err((why, _)) => assert_eq!(why, JoinError::Missed),
            }
        };
        race(admit, move || {
            (1..3).all(|value| try_send(&mut sender, value));
            forget(sender);
        });
    });
}

/// A ring of two cells, of which one is published. The first claim of the race uses up the limit.
#[test]
fn the_first_lap_ends_in_the_middle_of_a_batch() {
    Model::new("admission: first, two cells", 1239).check(|| {
        let ring = Ring::new(Watched::new(2), 1, u32::MAX);
        let (mut sender, membership, pending) =
            (ring.sender(), ring.membership(), ring.request_seat(0, true));
        assert!(try_send(&mut sender, 0));
        let admit = move || {
            membership.admit_all();
            match pending.try_admitted() {
                Ok(mut receiver) => {
                    assert_eq!(read_all(&mut receiver), Some(0), "the first item was overwritten");
                    forget(receiver);
                }
                Err((why, _)) => assert_eq!(why, JoinError::Missed),
            }
        };
        race(admit, move || {
            (1..4).all(|value| try_send(&mut sender, value));
            forget(sender);
        });
    });
}

/// The receiver acts in its own thread, so it learns of the admission only through its seat. Catches looks at the seat
/// without Acquire, and steps without Release: they give it a wrong start.
#[test]
fn the_start_reaches_the_receiver_with_its_admission() {
    Model::new("admission: the start cursor", 46).check(|| {
        let ring = Ring::new(Watched::new(2), 1, u32::MAX);
        let (mut sender, membership, pending) =
            (ring.sender(), ring.membership(), ring.request_seat(0, false));
        let join = move || match pending.try_admitted() {
            Ok(mut receiver) => {
                if let Ok(value) = try_take(&mut receiver) {
                    assert_eq!(value, 1, "it starts with the item after its admission");
                }
                forget(receiver);
            }
            Err((_, pending)) => forget(pending),
        };
        race(join, move || {
            assert!(try_send(&mut sender, 0));
            // Its start is the next item.
            membership.admit_all();
            assert!(try_send(&mut sender, 1));
            forget(sender);
        });
    });
}

/// Catches an admission that does not notify `data`: the receiver stays asleep. Also catches a Relaxed sequence: the
/// receiver looks at the old seat.
#[test]
fn an_admission_wakes_its_receiver() {
    Model::new("admission: sleeping receiver", 11196).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, membership, pending) =
            (ring.sender(), ring.membership(), ring.request_seat(0, true));
        let join = move || {
            let mut receiver = pending.admitted(None).unwrap();
            assert_eq!(try_take(&mut receiver), Ok(7));
            forget(receiver);
        };
        assert!(try_send(&mut sender, 7));
        race(join, move || assert_eq!(membership.admit_all(), 1));
        forget(sender);
    });
}

/// Catches an admission that does not notify `space`: the sender found the seat `Admitting`, and stays asleep.
#[test]
fn an_admission_wakes_the_sender_that_waited_for_it() {
    Model::new("admission: sleeping sender", 7966).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, membership, pending) =
            (ring.sender(), ring.membership(), ring.request_seat(0, false));
        assert!(try_send(&mut sender, 0));
        let write = move || {
            send(&mut sender, 1);
            forget(sender);
        };
        // The race is over in both orders: the receiver is admitted behind the item, so it gates nothing yet.
        race(write, move || {
            membership.admit_all();
            forget(pending);
        });
    });
}

/// A pending receiver gives up at any moment. Its seat is free afterwards, no thread hangs, and no receiver is admitted
/// by mistake.
#[test]
fn a_receiver_may_give_up_while_it_is_admitted() {
    Model::new("admission: giving up", 28469).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, membership, pending) =
            (ring.sender(), ring.membership(), ring.request_seat(0, true));
        assert!(try_send(&mut sender, 0));
        let admit = move || {
            membership.admit_all();
            send(&mut sender, 1);
            forget(sender);
        };
        race(admit, move || drop(pending));
        assert_eq!(ring.occupancy(0).state, State::Free);
    });
}

/// The mark of used seats is raised before a seat is requested. Catches a later raise: the sender's scan ends before
/// the new receiver's seat.
#[test]
fn a_receiver_in_a_new_seat_is_scanned() {
    Model::new("admission: a seat never used before", 6353).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, membership) = (ring.sender(), ring.membership());
        assert!(try_send(&mut sender, 0));
        let joining = ring.clone();
        let join = move || {
            let pending = joining.request_seat(0, true);
            membership.admit_all();
            if let Ok(mut receiver) = pending.try_admitted() {
                assert_eq!(read_all(&mut receiver), Some(0), "the first item was overwritten");
                forget(receiver);
            }
        };
        race(join, move || {
            try_send(&mut sender, 1);
            forget(sender);
        });
    });
}

/// A pending receiver, the membership and the sender each run in their own thread, and each sleeps at times.
#[test]
fn joining_ends_although_all_threads_sleep() {
    let items = if is_long() { 2 } else { 1 };
    Model::new("admission: three threads", 43667).bounded(3).check(move || {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, membership, pending) =
            (ring.sender(), ring.membership(), ring.request_seat(0, true));
        let start = Start::new();
        let (second, third) = (start.clone(), start.clone());
        let write = thread::spawn(move || {
            second.step();
            (0..items).for_each(|value| send(&mut sender, value));
            forget(sender);
        });
        let join = thread::spawn(move || {
            third.step();
            match pending.admitted(None) {
                Ok(mut receiver) => {
                    (0..items).for_each(|value| assert_eq!(take(&mut receiver), Ok(value)));
                    forget(receiver);
                }
                Err(why) => assert_eq!(why, JoinError::Missed),
            }
        });
        start.step();
        membership.admit_all();
        write.join().unwrap();
        join.join().unwrap();
    });
}
