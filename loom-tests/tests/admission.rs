//! Admission while the sender claims and publishes: a new receiver's first item is never overwritten under it.

use loom::thread;
use loom_tests::error::JoinError;
use loom_tests::memory::{Cells, Ring, admitted, send, take, try_send, try_take};
use loom_tests::model::{Model, Start, is_long, race};
use loom_tests::ring::Receiver;
use loom_tests::seat::State;
use std::mem::forget;

/// Reads all that is published, in place, without giving anything back: values must follow each other.
fn read_all(receiver: &mut Receiver<Ring<Cells>>) -> Option<u32> {
    let run = receiver.try_read().ok()?;
    let first = run.item(0).get();
    for i in 1..run.len() {
        assert_eq!(run.item(i).get(), first + i, "skipped or repeated");
    }
    Some(first)
}

/// The fence in `admit` or in `notify` removed, or the sender passing an `Admitting` seat: the admitter starts the
/// receiver at an old tail whose slots the sender has claimed again.
#[test]
fn an_applicant_for_now_starts_within_a_lap() {
    Model::new("admission: now, against publish", 7290).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, membership, applicant) =
            (ring.sender(), ring.membership(), ring.request_seat(0, false));
        let admit = move || {
            membership.admit_all();
            let mut receiver = admitted(applicant);
            read_all(&mut receiver);
            forget(receiver);
        };
        race(admit, move || {
            (0..3).all(|value| try_send(&mut sender, value));
            forget(sender);
        });
    });
}

/// The same with a run of slots claimed before: what is claimed already may be published while a seat is `Admitting`.
#[test]
fn an_applicant_for_now_may_arrive_during_a_claim() {
    Model::new("admission: now, during a claim", 12192).check(|| {
        let ring = Ring::new(Cells::new(2), 1, u32::MAX);
        let (mut sender, membership, applicant) =
            (ring.sender(), ring.membership(), ring.request_seat(0, false));
        assert!(try_send(&mut sender, 0));
        let admit = move || {
            membership.admit_all();
            let mut receiver = admitted(applicant);
            read_all(&mut receiver);
            forget(receiver);
        };
        race(admit, move || {
            (1..4).all(|value| try_send(&mut sender, value));
            forget(sender);
        });
    });
}

/// The fence after `lapped` or the one in `admit` removed, `lapped` stored after the scan, no second scan: the applicant
/// is admitted at the first item while the sender writes over it. A cursor stored after `Active`, or `Active` without
/// Release: the sender takes the old cursor, which is within the lap, for the receiver's.
#[test]
fn an_applicant_for_the_first_item_gets_it_or_is_refused() {
    Model::new("admission: first, against the first lap", 1141).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, membership, applicant) =
            (ring.sender(), ring.membership(), ring.request_seat(0, true));
        assert!(try_send(&mut sender, 0));
        let admit = move || {
            membership.admit_all();
            match applicant.try_admitted() {
                Ok(mut receiver) => {
                    assert_eq!(read_all(&mut receiver), Some(0), "the first item was gone");
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

/// The same in a ring of two of which one is published: the limit is used up by the first claim of the race.
#[test]
fn the_first_lap_ends_in_the_middle_of_a_run() {
    Model::new("admission: first, two slots", 1239).check(|| {
        let ring = Ring::new(Cells::new(2), 1, u32::MAX);
        let (mut sender, membership, applicant) =
            (ring.sender(), ring.membership(), ring.request_seat(0, true));
        assert!(try_send(&mut sender, 0));
        let admit = move || {
            membership.admit_all();
            match applicant.try_admitted() {
                Ok(mut receiver) => {
                    assert_eq!(read_all(&mut receiver), Some(0), "the first item was gone");
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

/// The receiver acts in a thread of its own, so nothing of the admitter's is known to it but through its seat: looks at
/// the seat without Acquire, or steps without Release, give it a wrong start.
#[test]
fn the_start_reaches_the_receiver_with_its_admission() {
    Model::new("admission: the start cursor", 46).check(|| {
        let ring = Ring::new(Cells::new(2), 1, u32::MAX);
        let (mut sender, membership, applicant) =
            (ring.sender(), ring.membership(), ring.request_seat(0, false));
        let join = move || match applicant.try_admitted() {
            Ok(mut receiver) => {
                if let Ok(value) = try_take(&mut receiver) {
                    assert_eq!(value, 1, "it starts with the item after its admission");
                }
                forget(receiver);
            }
            Err((_, applicant)) => forget(applicant),
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

/// An admission that does not ring `data`: the applicant sleeps on. The bell Relaxed: it looks at the old seat.
#[test]
fn an_admission_wakes_its_applicant() {
    Model::new("admission: sleeping applicant", 11196).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, membership, applicant) =
            (ring.sender(), ring.membership(), ring.request_seat(0, true));
        let join = move || {
            let mut receiver = applicant.admitted(None).unwrap();
            assert_eq!(try_take(&mut receiver), Ok(7));
            forget(receiver);
        };
        assert!(try_send(&mut sender, 7));
        race(join, move || assert_eq!(membership.admit_all(), 1));
        forget(sender);
    });
}

/// An admission that does not ring `space`: the sender found the seat `Admitting`, and sleeps on although it may go on.
#[test]
fn an_admission_wakes_the_sender_that_waited_for_it() {
    Model::new("admission: sleeping sender", 7966).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, membership, applicant) =
            (ring.sender(), ring.membership(), ring.request_seat(0, false));
        assert!(try_send(&mut sender, 0));
        let write = move || {
            send(&mut sender, 1);
            forget(sender);
        };
        // The race is over in both orders: admitted behind the item, the receiver gates nothing yet.
        race(write, move || {
            membership.admit_all();
            forget(applicant);
        });
    });
}

/// An applicant that gives up at any moment: its seat is free afterwards, nobody is stuck, nobody admitted by mistake.
#[test]
fn an_applicant_may_give_up_while_it_is_admitted() {
    Model::new("admission: giving up", 28469).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, membership, applicant) =
            (ring.sender(), ring.membership(), ring.request_seat(0, true));
        assert!(try_send(&mut sender, 0));
        let admit = move || {
            membership.admit_all();
            send(&mut sender, 1);
            forget(sender);
        };
        race(admit, move || drop(applicant));
        assert_eq!(ring.occupancy(0).state, State::Free);
    });
}

/// The high-water mark of the seats is raised before a seat is asked for: raised after, the sender's scan ends before
/// the newcomer's seat and passes it.
#[test]
fn a_newcomer_in_a_new_seat_is_scanned() {
    Model::new("admission: a seat never used before", 6353).check(|| {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, membership) = (ring.sender(), ring.membership());
        assert!(try_send(&mut sender, 0));
        let newcomer = ring.clone();
        let join = move || {
            let applicant = newcomer.request_seat(0, true);
            membership.admit_all();
            if let Ok(mut receiver) = applicant.try_admitted() {
                assert_eq!(read_all(&mut receiver), Some(0), "the first item was gone");
                forget(receiver);
            }
        };
        race(join, move || {
            try_send(&mut sender, 1);
            forget(sender);
        });
    });
}

/// PendingReceiver, admitter and sender, each in its own thread and each asleep at times.
#[test]
fn joining_with_everybody_asleep_ends() {
    let items = if is_long() { 2 } else { 1 };
    Model::new("admission: three threads", 43667).bounded(3).check(move || {
        let ring = Ring::new(Cells::new(1), 1, u32::MAX);
        let (mut sender, membership, applicant) =
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
            match applicant.admitted(None) {
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
