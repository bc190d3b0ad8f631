//! The seat lock: which participants are in, what they see, and that no wake is lost. No model has a poll interval
//! unless it says so, so a lost wake is a deadlock. No model can show that no participant starves;
//! `core/tests/rwlock_search` does that.

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

/// Catches a missing fence in `LookRead` or in `Claim`, and a Relaxed look after the announcement: a reader and a
/// writer overlap. Also catches a Relaxed leaving of the reader, and a Relaxed draining or freeing of the owner: one
/// does not see what the other did.
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

/// The two participants have each other's seats.
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

/// Catches a claim that is not an exchange, and a Relaxed freeing: an increment is lost. Also catches a missing fence
/// in `LookWrite` or in `Free`, and a missing notification: the second writer sleeps forever.
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

/// Catches a Relaxed `AnnounceRead`: a writer that waits for the first section finds the second announcement instead,
/// continues, and has not seen the end of the first section.
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

/// Catches a Relaxed `AnnounceWrite` of a reader that comes back as a writer.
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

/// Catches a Relaxed `AnnounceWrite` of a reader that wanted to write and gave up.
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

/// Catches a Relaxed failure of the reader's exchange in `QueueRead`: the reader is in and does not see what the first
/// section wrote.
#[test]
fn a_reader_flagged_by_the_next_owner_sees_the_last_section() {
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

/// The reader is between its announcement and its look, or asleep, when the owner leaves. A granted reader sees the
/// section. Catches a Relaxed grant on either side: the reader does not see it. Also catches a missing fence in
/// `LookAgain`: the reader sleeps forever.
#[test]
fn a_granted_reader_sees_the_section_of_the_granting_owner() {
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

/// A writer gives up in front of another one. Catches a missing fence in `LookWithdraw`: each of the two looks before
/// the other's change, and no participant wakes the second.
#[test]
fn a_writer_that_gives_up_wakes_the_writer_behind_it() {
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

/// A reader's deadline passes while the owner leaves. Granted or not, the reader leaves nothing behind.
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

/// A writer's deadline passes while it queues or drains, against a reader and the next writer. Both get in.
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

/// A writer's deadline passes against another writer.
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

/// Runs a model once for each of the first `most` steps at which the occupant of seat 0 dies: from `begin` through
/// its section to its last step. The occupant is then reclaimed, while the occupant of seat 1 runs `survivor`.
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
                    // As the waiting loop does; its sleeps end at once here.
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
    assert!(finished.load(SeqCst), "the occupant does not reach its last step in {most} steps");
}

/// A writer dies before each of its steps, and is reclaimed while a reader comes. The reader gets in, and sees no
/// half-done section. Catches a reclamation without its fence, without freeing for the dead writer, or without
/// notifying: the reader sleeps forever.
#[test]
fn a_reader_gets_in_whichever_step_a_writer_dies_at() {
    at_each_step("rwlock: a writer dies, a reader comes", 20, Step::AnnounceWrite, |lock, me| {
        assert!(read(lock, me) <= 1)
    });
}

/// A writer dies before each of its steps, and is reclaimed while another writer comes.
#[test]
fn a_writer_gets_in_whichever_step_a_writer_dies_at() {
    at_each_step("rwlock: a writer dies, a writer comes", 20, Step::AnnounceWrite, write);
}

/// A reader dies before each of its steps, and is reclaimed while a writer comes. Catches a Relaxed `Reclaim`: the
/// writer has not seen the end of the reader's section.
#[test]
fn a_writer_gets_in_whichever_step_a_reader_dies_at() {
    at_each_step("rwlock: a reader dies, a writer comes", 9, Step::AnnounceRead, write);
}

/// A reclaimer also dies, at each of its steps, and the next one repeats its work.
#[test]
fn one_reclaimer_may_complete_the_work_of_another() {
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

/// Two reclaimers reclaim a dead owner at once, and one of them continues to use the lock. Wherever each is stopped,
/// the lock is freed once, and no step of the slower one harms the faster one's section.
#[test]
fn two_reclaimers_may_act_at_once() {
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

/// One of two reclaimers dies at each of its steps, also between the freeing and the notification. The other one
/// notifies a reader that announced itself meanwhile, although it found the lock free already.
#[test]
fn one_of_two_reclaimers_may_die() {
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

/// A writer in front of another one dies asleep. Catches a missing fence in `ReclaimLook`, and a missing `NotifyAll`:
/// the writer behind sleeps forever.
#[test]
fn a_reclaimed_writer_no_longer_holds_up_the_writer_behind_it() {
    Model::new("rwlock: the first of two writers is reclaimed", 2909).check(|| {
        let lock = Lock::new(3);
        let mut behind = lock.occupy(2);
        assert_eq!(lock.take(1, Step::AnnounceWrite, 1), Step::LookWrite);
        let there = lock.clone();
        race(|| lock.reclaim(1), move || write(&there, &mut behind));
        lock.assert_idle();
    });
}

/// No participant notifies. The survivor learns of the death when its poll interval ends, reclaims, and continues.
#[test]
fn a_waiter_reclaims_the_dead_when_its_poll_interval_ends() {
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

/// An owner that was reclaimed by mistake leaves late. The participant that owns the lock by then keeps it.
#[test]
fn a_late_leaving_does_not_free_the_successors_lock() {
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

/// Two writers and a reader: no two overlap, none sleeps forever, and no write is lost.
#[test]
fn a_reader_and_two_writers_exclude_each_other() {
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
fn a_writer_and_two_readers_exclude_each_other() {
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
