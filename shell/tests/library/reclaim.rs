//! Reclaiming dead processes: by several processes at once, by many threads of one process, and beside processes that
//! stop in the middle. A live process is never reclaimed, and a stopped reclaimer, sweeper or joiner delays no other
//! process.

use crate::kit::{LIMIT, own_test, signal, stat, until};
use rustix::process::Signal;
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use whorl::internal::os::ofd_lock::ByteLocks;
use whorl::internal::shm::liveness::{Owner, SharedHost};
use whorl::{MailSegment, MailboxError};
use whorl_core::host::{Futex, Host};
use whorl_core::layout::MailGeometry;
use whorl_core::sync::AtomicU32 as Word;

const SEAT: u32 = 3;

fn object() -> std::fs::File {
    tempfile::tempfile().expect("a file")
}

fn host(object: &std::fs::File) -> SharedHost {
    SharedHost::new(ByteLocks::open(object).expect("a description"), Owner::ThisProcess)
}

fn locks(object: &std::fs::File) -> ByteLocks {
    ByteLocks::open(object).expect("a description")
}

/// A reclamation that has begun and does not end, because its process was stopped. Other processes still reclaim the
/// same seat, and the seat stays taken until both have ended.
#[test]
fn a_stopped_reclaimer_delays_no_other_and_its_seat_stays_taken() {
    let object = object();
    let (stopped, other, joiner) = (host(&object), host(&object), locks(&object));
    let sit = || joiner.occupy(SEAT, || true, || Some(()));
    assert!(stopped.try_reclaim(SEAT, || {
        let reclaimed = Cell::new(false);
        assert!(other.try_reclaim(SEAT, || reclaimed.set(true)) && reclaimed.get());
        assert_eq!(sit(), Ok(None), "a reclaimer may still act");
    }));
    assert_eq!(sit(), Ok(Some(())));
    assert!(!other.try_reclaim(SEAT, || panic!("the living")));
    assert!(!stopped.try_reclaim(SEAT, || panic!("the living")));
}

/// A joining process looks at a seat while it holds no lock by which the last occupant would count as alive. So if it
/// is stopped there, the dead occupant is still reclaimed.
#[test]
fn a_stopped_joiner_does_not_make_a_dead_receiver_look_alive() {
    let object = object();
    let (joiner, reclaimer) = (locks(&object), host(&object));
    let looks = Cell::new(0);
    let is_free = || {
        looks.set(looks.get() + 1);
        // The seat is still taken by a dead process when the joiner looks again, and the joiner is stopped here.
        assert!(reclaimer.try_reclaim(SEAT, || ()), "at look {}", looks.get());
        looks.get() == 1
    };
    assert_eq!(joiner.occupy(SEAT, is_free, || Some(())), Ok(None));
    assert_eq!(looks.get(), 2);
    assert!(reclaimer.try_reclaim(SEAT, || ()), "it left nothing behind");
}

/// A sweep that does not end, because its process was stopped. Other processes sweep after a few wait slices.
#[test]
fn a_stopped_sweeper_keeps_no_process_from_sweeping() {
    let object = object();
    let (stopped, other) = (host(&object), host(&object));
    let rounds = Cell::new(0);
    stopped.try_sweep(|| {
        until(LIMIT, "another's round", || {
            other.try_sweep(|| rounds.set(rounds.get() + 1));
            rounds.get() > 0
        });
    });
    assert!(rounds.get() > 0);
}

/// The threads of one process ask through one file description, which the kernel counts as one holder of a byte. Each
/// reclamation here takes a while, and other threads take seats all the time. No live occupant is reclaimed.
#[test]
fn many_threads_of_one_process_never_reclaim_the_living() {
    const SEATS: u32 = 2;
    let object = object();
    let asking = host(&object);
    let living = [const { AtomicU32::new(0) }; SEATS as usize];
    let (reclamations, sat) = (AtomicU64::new(0), AtomicU64::new(0));
    let over = || reclamations.load(SeqCst) > 2000 && sat.load(SeqCst) > 2000;
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !over() {
                    for seat in 0..SEATS {
                        asking.try_reclaim(seat, || {
                            for _ in 0..20 {
                                assert_eq!(living[seat as usize].load(SeqCst), 0, "reclaimed alive");
                                thread::yield_now();
                            }
                            reclamations.fetch_add(1, SeqCst);
                        });
                    }
                    assert!(begun.elapsed() < LIMIT, "{reclamations:?} reclamations, {sat:?} seats taken");
                }
            });
        }
        for seat in 0..SEATS {
            let (living, object, over, sat) = (&living[seat as usize], &object, &over, &sat);
            scope.spawn(move || {
                while !over() {
                    let locks = locks(object);
                    // Takes the seat, lives for a while, and dies without leaving it.
                    let sit = || Some(living.swap(1, SeqCst));
                    if locks.occupy(seat, || true, sit) == Ok(Some(0)) {
                        thread::yield_now();
                        living.store(0, SeqCst);
                        sat.fetch_add(1, SeqCst);
                    }
                    assert!(begun.elapsed() < LIMIT);
                }
            });
        }
    });
}

/// Threads of one process wait for a mailbox whose writers die inside, while others take the dead writers' seats. No
/// two writers get the same version, and all threads continue.
#[test]
fn writers_die_under_many_threads_of_one_process() {
    let segment = MailSegment::create(MailGeometry::new(1, 1 << 16, 8).unwrap()).unwrap();
    let kills = crate::kit::short_or_long(40, 1000);
    let (versions, stop, written) = (mpsc::channel(), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for id in 0..4u8 {
            let (segment, stop, versions, written) = (&segment, &stop, versions.0.clone(), &written);
            scope.spawn(move || {
                let mut me = segment.sit().expect("a seat");
                while stop.load(SeqCst) == 0 {
                    let deadline = Instant::now() + LIMIT;
                    versions
                        .send(me.write_until(0, &[id; 1 << 16], Some(deadline)).expect("the lock"))
                        .unwrap();
                    let same = |bytes: &[u8], _| bytes.iter().all(|byte| *byte == bytes[0]);
                    assert!(me.read_with(0, Some(deadline), same).expect("the lock"), "torn");
                    let first = |bytes: &[u8], _| u32::from(bytes[0]);
                    written.store(me.read_with(0, Some(deadline), first).expect("the lock"), SeqCst);
                }
            });
        }
        for _ in 0..kills {
            let child = Writer::start(&segment);
            until(LIMIT, "it writes", || written.load(SeqCst) == 9);
            drop(child);
            // Another participant takes a dead writer's seat, and leaves.
            until(LIMIT, "a seat", || match segment.sit() {
                Ok(joiner) => joiner.version(0).is_ok(),
                Err(MailboxError::Seats(_)) => false,
                Err(error) => panic!("{error}"),
            });
        }
        stop.store(1, SeqCst);
    });
    drop(versions.0);
    let mut seen: Vec<u64> = versions.1.into_iter().collect();
    let written = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), written, "one version was given to two writers");
    segment.reclaim_dead();
    assert_eq!((0..9).map_while(|_| segment.sit().ok()).collect::<Vec<_>>().len(), 8, "all seats are free");
}

/// A child that writes without end: this program, running one test.
struct Writer(Child);

impl Writer {
    fn start(segment: &MailSegment) -> Self {
        let path = format!("/proc/{}/fd/{}", std::process::id(), segment.as_fd().as_raw_fd());
        let mut command = own_test(module_path!(), "write_if_asked");
        command.env(SEGMENT, path).stdout(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }
}

/// Where the child finds the segment.
const SEGMENT: &str = "WHORL_TEST_SEGMENT";

#[test]
fn write_if_asked() {
    let Some(path) = std::env::var_os(SEGMENT) else { return };
    let object = std::fs::File::options().read(true).write(true).open(path).expect("the segment");
    let segment = MailSegment::open(object.into()).expect("the segment");
    let message = vec![9; segment.geometry().capacity() as usize];
    let mut me = loop {
        match segment.sit() {
            Ok(me) => break me,
            Err(MailboxError::Seats(_)) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    loop {
        me.write(0, &message).expect("the lock");
    }
}

/// A writer is stopped in the middle of its message, and there is a newer message than the caller knows. The wait still
/// ends at its deadline, and a wait for the version alone ends at once.
#[test]
fn a_wait_for_a_newer_message_ends_at_its_deadline_although_a_writer_is_stopped() {
    const CAPACITY: u32 = 16 << 20;
    let segment = MailSegment::create(MailGeometry::new(1, CAPACITY, 4).unwrap()).unwrap();
    let mut me = segment.sit().unwrap();
    let writer = Writer::start(&segment);
    let pid = writer.0.id() as i32;
    until(LIMIT, "it writes", || segment.version(0) > Some(0));
    let mut buffer = vec![0; CAPACITY as usize];
    until(LIMIT, "it is stopped in the middle of a message", || {
        signal(pid, Signal::STOP);
        until(LIMIT, "it is stopped", || stat(pid).is_some_and(|fields| fields[0] == "T"));
        let soon = Some(Instant::now() + Duration::from_millis(50));
        let is_inside = me.read_into(0, &mut buffer, soon).is_err();
        if !is_inside {
            signal(pid, Signal::CONT);
            thread::sleep(Duration::from_millis(1)); // not always at the same place
        }
        is_inside
    });
    let (report, reports) = mpsc::channel();
    thread::spawn(move || {
        let soon = || Some(Instant::now() + Duration::from_millis(100));
        let version = me.wait_for_version(0, 0, soon()).map_err(|error| error.to_string());
        report.send((version, me.wait_newer(0, 0, soon()).map_err(|error| error.to_string())))
    });
    let (version, message) = reports.recv_timeout(LIMIT).expect("both waits end");
    assert!(version.is_ok_and(|version| version > Some(0)), "the version needs no lock");
    assert_eq!(message, Ok(None), "the message could not be read");
}

/// A passed deadline is reported although the word differs: a peer that changes the word all the time blocks no caller.
#[test]
fn a_passed_deadline_is_reported_whatever_the_word_holds() {
    let (word, past) = (Word::new(7), Instant::now());
    let shared = host(&object());
    for wake in [
        shared.wait(&word, 8, Some(past)),
        whorl::internal::os::futex::SharedFutex.wait(&word, 8, Some(past)),
        whorl::internal::os::futex::ThreadFutex.wait(&word, 8, Some(past)),
        whorl::internal::shm::heap::ThreadHost.wait(&word, 8, Some(past)),
    ] {
        assert_eq!(wake, whorl_core::host::WaitResult::TimedOut);
    }
    for looks in [0, 1, 50] {
        assert!(
            !shared.spin(looks, Some(past))
                && !whorl::internal::os::futex::ThreadFutex.spin(looks, Some(past))
        );
        assert!(!whorl::internal::os::futex::SharedFutex.spin(looks, Some(past)));
    }
    assert!(
        shared.spin(0, Some(Instant::now() + Duration::from_secs(60))),
        "before it, there is time to look"
    );
}
