//! The seat lock: who is in, what they see, and that no wake is lost. No model has a slice unless it says so, so a lost
//! wake is a deadlock. What no model can show, that nobody starves, is for `core/tests/rwlock_search.rs`.

use loom_tests::error::LockError;
use loom_tests::lock::Lock;
use loom_tests::model::{Model, Start, is_long, race};
use loom_tests::rwlock::{Participant, Parts, Step};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

fn write(lock: &Lock, me: &mut Participant<Lock>) {
    let guard = me.write(None).unwrap();
    lock.add();
    drop(guard);
}

fn read(lock: &Lock, me: &mut Participant<Lock>) -> u32 {
    let guard = me.read(None).unwrap();
    let value = lock.get();
    drop(guard);
    value
}

/// The fence in `LookRead` or the one in `Claim` removed, or the look after the announcement Relaxed: reader and writer
/// overlap. The reader's leaving, the owner's passing or its freeing Relaxed: what one did is not seen by the other.
#[test]
fn a_reader_and_a_writer_exclude_each_other() {
    Model::new("rwlock: reader, writer", 46215).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let there = lock.clone();
        race(
            || {
                assert!(read(&lock, &mut a) <= 1);
            },
            move || write(&there, &mut b),
        );
        lock.assert_idle();
    });
}

/// The same with the other seat order.
#[test]
fn a_writer_and_a_reader_exclude_each_other() {
    Model::new("rwlock: writer, reader", 95040).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let there = lock.clone();
        race(|| write(&lock, &mut a), move || read(&there, &mut b));
        lock.assert_idle();
        assert_eq!(lock.get(), 1);
    });
}

/// The claim is not an exchange, or freeing is Relaxed: an increment is lost. The fence in `LookWrite` or in `Free`
/// removed, or the notify left out: the second sleeps for ever.
#[test]
fn two_writers_exclude_each_other() {
    Model::new("rwlock: two writers", 88771).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let there = lock.clone();
        race(|| write(&lock, &mut a), move || write(&there, &mut b));
        lock.assert_idle();
        assert_eq!(lock.get(), 2);
    });
}

/// `AnnounceRead` Relaxed: a writer that waits for the first section finds the second announcement instead, goes on, and
/// has not seen the end of the first.
#[test]
fn a_reader_that_comes_back_has_left() {
    Model::new("rwlock: reader twice, writer", 7780).bounded(4).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let there = lock.clone();
        let read_twice = || {
            read(&lock, &mut a);
            read(&lock, &mut a);
        };
        race(read_twice, move || write(&there, &mut b));
        lock.assert_idle();
    });
}

/// `AnnounceWrite` Relaxed: the same, for a reader that comes back as a writer.
#[test]
fn a_reader_that_comes_back_to_write_has_left() {
    Model::new("rwlock: reader then writer, writer", 9933).bounded(4).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let there = lock.clone();
        let read_and_write = || {
            read(&lock, &mut a);
            write(&lock, &mut a);
        };
        race(read_and_write, move || write(&there, &mut b));
        assert_eq!(lock.get(), 2);
    });
}

/// `AnnounceWrite` Relaxed: the same, for a reader that wanted to write and gave up.
#[test]
fn a_reader_that_gives_up_writing_has_left() {
    Model::new("rwlock: reader that gives up writing, writer", 5812).bounded(4).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let there = lock.clone();
        let read_and_give_up = || {
            read(&lock, &mut a);
            let at = lock.take(0, Step::AnnounceWrite, 1);
            assert_eq!(at, Step::LookWrite);
            assert_eq!(lock.take(0, Step::Withdraw, u32::MAX), Step::Idle);
        };
        race(read_and_give_up, move || write(&there, &mut b));
        lock.assert_idle();
    });
}

/// The reader's failed exchange in `QueueRead` Relaxed: it is in and does not see what the
/// first section wrote.
#[test]
fn a_reader_flagged_by_the_next_pass_sees_the_last_section() {
    Model::new("rwlock: writer twice, reader", 17938).bounded(4).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let there = lock.clone();
        let write_twice = || {
            write(&lock, &mut a);
            write(&lock, &mut a);
        };
        race(write_twice, move || read(&there, &mut b));
        lock.assert_idle();
    });
}

/// A reader between its announcement and its look, or asleep, when the owner leaves: granted, it sees the section. The
/// grant Relaxed on either side: it does not. The fence in `LookAgain` removed: it sleeps for ever.
#[test]
fn a_granted_reader_sees_the_section_of_who_granted_it() {
    Model::new("rwlock: owner leaves, reader comes", 4678).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let guard = a.write(None).unwrap();
        let there = lock.clone();
        let leave = || {
            lock.add();
            drop(guard);
        };
        let (_, seen) = race(leave, move || read(&there, &mut b));
        assert_eq!(seen, 1);
        lock.assert_idle();
    });
}

/// A writer that is before another one gives up. The fence in `LookWithdraw` removed: it looks past the other's claim to
/// being asleep, the other past its going, and nobody wakes it.
#[test]
fn who_gives_up_in_front_wakes_who_waits_behind() {
    Model::new("rwlock: the first of two writers gives up", 7087).check(|| {
        let lock = Lock::new(3);
        let mut behind = lock.occupy(2);
        let there = lock.clone();
        let give_up = || {
            assert_eq!(lock.take(1, Step::AnnounceWrite, 1), Step::LookWrite);
            assert_eq!(lock.take(1, Step::Withdraw, u32::MAX), Step::Idle);
        };
        race(give_up, move || write(&there, &mut behind));
        lock.assert_idle();
    });
}

/// A reader whose time is over while the owner leaves: granted or not, it leaves nothing behind.
#[test]
fn a_reader_gives_up_against_a_leaving_owner() {
    Model::new("rwlock: reader gives up, owner leaves", 7134).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let guard = a.write(None).unwrap();
        lock.add();
        let there = lock.clone();
        let read = move || match b.read(Some(())) {
            Ok(_guard) => assert_eq!(there.get(), 1),
            Err(why) => assert_eq!(why, LockError::TimedOut),
        };
        race(|| drop(guard), read);
        drop(a.try_write().unwrap());
    });
}

/// A writer whose time is over, queued or passing, against a reader and the next writer: both get in.
#[test]
fn a_writer_gives_up_against_a_reader() {
    Model::new("rwlock: writer gives up, reader", 103381).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let there = lock.clone();
        let give_up = || match a.write(Some(())) {
            Ok(_guard) => lock.add(),
            Err(why) => assert_eq!(why, LockError::TimedOut),
        };
        race(give_up, move || read(&there, &mut b));
        lock.assert_idle();
    });
}

/// The same against a writer.
#[test]
fn a_writer_gives_up_against_a_writer() {
    Model::new("rwlock: writer gives up, writer", 99348).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let there = lock.clone();
        let give_up = || match a.write(Some(())) {
            Ok(_guard) => lock.add(),
            Err(why) => assert_eq!(why, LockError::TimedOut),
        };
        race(give_up, move || write(&there, &mut b));
        lock.assert_idle();
    });
}

/// Runs a model once for each of the first `most` steps at which the occupant of seat 0 can die, from `begin` through its
/// section to its last step, and is then reclaimed, while the occupant of seat 1 does what it wants.
fn at_each_step(name: &'static str, most: u32, begin: Step, survivor: fn(&Lock, &mut Participant<Lock>)) {
    let finished = Arc::new(AtomicBool::new(false));
    for steps in 0..most {
        let report = finished.clone();
        Model::new(name, 22).bounded(if is_long() { 5 } else { 3 }).check(move || {
            let lock = Lock::new(2);
            let mut b = lock.occupy(1);
            let (there, report) = (lock.clone(), report.clone());
            let die_and_be_reclaimed = || {
                let mut at = begin;
                for _ in 0..steps {
                    // As the waiting loop would; its sleeps end at once.
                    at = lock.take(0, at, 1).woken();
                    match at {
                        Step::Writing => lock.add(),
                        Step::Reading => assert!(lock.get() <= 1),
                        Step::Idle => {
                            report.store(true, SeqCst);
                            break;
                        }
                        _ => {}
                    }
                }
                lock.reclaim(0);
            };
            race(die_and_be_reclaimed, move || survivor(&there, &mut b));
            lock.assert_idle();
        });
    }
    assert!(finished.load(SeqCst), "nobody comes to its last step in {most}");
}

/// A writer dies before each of its steps and is reclaimed while a reader comes: the reader gets in, and sees no section
/// in the middle. Reclamation without its fence, without a release in the dead one's name, or without rousing: asleep for ever.
#[test]
fn a_reader_gets_in_whichever_step_a_writer_dies_at() {
    at_each_step("rwlock: a writer dies, a reader comes", 20, Step::AnnounceWrite, |lock, me| {
        assert!(read(lock, me) <= 1)
    });
}

/// The same, a writer comes.
#[test]
fn a_writer_gets_in_whichever_step_a_writer_dies_at() {
    at_each_step("rwlock: a writer dies, a writer comes", 20, Step::AnnounceWrite, write);
}

/// A reader dies before each of its steps and is reclaimed while a writer comes. `Reclaim` Relaxed: the writer has not seen the
/// end of the reading.
#[test]
fn a_writer_gets_in_whichever_step_a_reader_dies_at() {
    at_each_step("rwlock: a reader dies, a writer comes", 9, Step::AnnounceRead, write);
}

/// The reclaimer dies too, at each of its steps, and the next one repeats it.
#[test]
fn a_reclamation_may_be_begun_by_one_and_ended_by_another() {
    for steps in 0..16 {
        Model::new("rwlock: a reclaimer dies", 27).bounded(2).check(move || {
            let lock = Lock::new(2);
            let mut b = lock.occupy(1);
            std::mem::forget(lock.occupy(0).write(None).unwrap());
            lock.add();
            let there = lock.clone();
            let reclaim_twice = || {
                lock.reclaim_for(0, steps);
                lock.reclaim(0);
            };
            race(reclaim_twice, move || assert_eq!(read(&there, &mut b), 1));
            lock.assert_idle();
        });
    }
}

/// Two reclaim a dead owner at once, and one of them goes on to use the lock: whichever is stopped wherever, the lock is freed
/// once, and no step of the slower one harms the faster one's section.
#[test]
fn two_may_reclaim_at_once() {
    for writes in [false, true] {
        Model::new("rwlock: two reclaim at once", 137).bounded(3).check(move || {
            let lock = Lock::new(2);
            let mut b = lock.occupy(1);
            std::mem::forget(lock.occupy(0).write(None).unwrap());
            lock.add();
            let there = lock.clone();
            let reclaim_and_enter = move || {
                there.reclaim(0);
                match writes {
                    true => write(&there, &mut b),
                    false => assert_eq!(read(&there, &mut b), 1),
                }
            };
            race(|| lock.reclaim(0), reclaim_and_enter);
            lock.assert_idle();
            assert_eq!(lock.get(), 1 + u32::from(writes));
        });
    }
}

/// One of two reclaimers dies at each of its steps, also between the freeing and the rousing: the other one notifies a reader that
/// announced itself meanwhile, although it found the lock freed already.
#[test]
fn one_of_two_buriers_may_die() {
    for steps in 0..6 {
        Model::new("rwlock: one of two reclaimers dies", 186).bounded(3).check(move || {
            let lock = Lock::new(2);
            let mut b = lock.occupy(1);
            std::mem::forget(lock.occupy(0).write(None).unwrap());
            lock.add();
            let (first, second) = (lock.clone(), lock.clone());
            let other = loom::thread::spawn(move || first.reclaim_for(0, steps));
            let there = lock.clone();
            race(move || second.reclaim(0), move || assert_eq!(read(&there, &mut b), 1));
            other.join().unwrap();
            lock.assert_idle();
        });
    }
}

/// A writer in front of another dies asleep. The fence in `ReclaimLook` removed, or `NotifyAll` left out: the one behind sleeps
/// for ever.
#[test]
fn who_is_reclaimed_in_front_no_longer_holds_up_who_waits_behind() {
    Model::new("rwlock: the first of two writers is reclaimed", 2909).check(|| {
        let lock = Lock::new(3);
        let mut behind = lock.occupy(2);
        assert_eq!(lock.take(1, Step::AnnounceWrite, 1), Step::LookWrite);
        let there = lock.clone();
        race(|| lock.reclaim(1), move || write(&there, &mut behind));
        lock.assert_idle();
    });
}

/// Nobody tells: the survivor finds out when its slice ends, reclaims, and goes on.
#[test]
fn a_waiter_reclaims_the_dead_itself_when_its_slice_ends() {
    for steps in 0..14 {
        Model::new("rwlock: a waiter reclaims", 3).bounded(2).check(move || {
            let lock = Lock::new(2);
            let (mut b, there) = (lock.occupy(1), lock.clone());
            let die = || {
                let mut at = Step::AnnounceWrite;
                for _ in 0..steps {
                    at = lock.take(0, at, 1);
                    if at == Step::Writing {
                        lock.add();
                    }
                }
                lock.host().kill_seat(0);
                lock.host().end_slices();
            };
            race(die, move || {
                write(&there, &mut b);
            });
        });
    }
}

/// An owner that is reclaimed by mistake leaves late: the one that owns the lock by then goes on owning it.
#[test]
fn a_late_leaving_does_not_free_the_successor_s_lock() {
    Model::new("rwlock: late leaving", 1970).bounded(4).check(|| {
        let lock = Lock::new(2);
        let (mut a, mut b) = (lock.occupy(0), lock.occupy(1));
        let late = a.write(None).unwrap();
        let there = lock.clone();
        let succeed = move || {
            there.reclaim(0);
            let guard = b.write(None).unwrap();
            let owner = there.owner_word().ownership();
            assert!(owner.is_busy() && owner.seat() == 1);
            there.add();
            drop(guard);
        };
        race(|| drop(late), succeed);
        lock.assert_idle();
    });
}

/// Two writers and a reader: nobody overlaps, nobody sleeps for ever, nothing is lost.
#[test]
fn two_writers_and_a_reader() {
    Model::new("rwlock: two writers, a reader", 744824).bounded(3).check(|| {
        let lock = Lock::new(3);
        let (mut a, mut b, mut c) = (lock.occupy(0), lock.occupy(1), lock.occupy(2));
        let (first, second) = (lock.clone(), lock.clone());
        let start = Start::new();
        let (second_start, third_start) = (start.clone(), start.clone());
        let other = loom::thread::spawn(move || {
            third_start.step();
            write(&first, &mut b)
        });
        let here = || {
            start.step();
            write(&lock, &mut a)
        };
        let there = move || {
            second_start.step();
            read(&second, &mut c)
        };
        race(here, there);
        other.join().unwrap();
        lock.assert_idle();
        assert_eq!(lock.get(), 2);
    });
}

/// Two readers and a writer.
#[test]
fn two_readers_and_a_writer() {
    Model::new("rwlock: two readers, a writer", 152409).bounded(3).check(|| {
        let lock = Lock::new(3);
        let (mut a, mut b, mut c) = (lock.occupy(0), lock.occupy(1), lock.occupy(2));
        let (first, second) = (lock.clone(), lock.clone());
        let start = Start::new();
        let (second_start, third_start) = (start.clone(), start.clone());
        let other = loom::thread::spawn(move || {
            third_start.step();
            read(&first, &mut b)
        });
        let here = || {
            start.step();
            write(&lock, &mut a)
        };
        let there = move || {
            second_start.step();
            read(&second, &mut c)
        };
        race(here, there);
        other.join().unwrap();
        lock.assert_idle();
        assert_eq!(lock.get(), 1);
    });
}
