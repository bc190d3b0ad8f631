//! The mailbox: a message is whole, old or new, even if a writer dies. A new message wakes the participants that wait
//! for it.

use loom_tests::error::{LockError, MailReadError, MailWriteError, WaitError};
use loom_tests::lock::Lock;
use loom_tests::mailbox::{self, Mailbox, Parts as _};
use loom_tests::model::{Model, Start, race};
use loom_tests::rwlock::Parts as _;

/// A version just before the lower half wraps.
const NEAR: u64 = (7 << 32) - 1;

/// Reads the message, and checks it against its version: `NEAR` is empty, and each later one is [n, n].
fn read(mailbox: &mut Mailbox<Lock>) -> u64 {
    let mut buffer = [0; 2];
    let message = mailbox.read(&mut buffer, None).unwrap();
    check(message, buffer)
}

fn check(message: mailbox::Message, buffer: [u8; 2]) -> u64 {
    let number = message.version - NEAR;
    let expected = [number as u8; 2];
    assert_eq!(&buffer[..message.length], if number == 0 { &[][..] } else { &expected });
    number
}

fn write(mailbox: &mut Mailbox<Lock>, number: u8) {
    assert_eq!(mailbox.write(&[number; 2], None), Ok(NEAR + u64::from(number)));
}

/// Catches a broken lock: the reader meets the writer in a buffer, or takes the new version with the old length.
#[test]
fn a_reader_gets_the_old_message_or_the_new_one_whole() {
    Model::new("mailbox: reader, writer", 46215).check(|| {
        let lock = Lock::with_version(2, NEAR);
        let (mut a, mut b) = (lock.mailbox(0), lock.mailbox(1));
        race(
            || {
                read(&mut a);
            },
            move || write(&mut b, 1),
        );
        assert_eq!(read(&mut a), 1);
    });
}

/// Catches a missing lock: the second of two quick writes goes to the buffer that a reader is in.
#[test]
fn writers_do_not_touch_the_buffer_of_a_reader() {
    Model::new("mailbox: reader, two writes", 7468).bounded(4).check(|| {
        let lock = Lock::with_version(2, NEAR);
        let (mut a, mut b) = (lock.mailbox(0), lock.mailbox(1));
        let write_twice = move || {
            write(&mut b, 1);
            write(&mut b, 2);
        };
        race(
            || {
                read(&mut a);
            },
            write_twice,
        );
        assert_eq!(read(&mut a), 2);
    });
}

/// Each message has a version of its own, and the last one stays.
#[test]
fn two_writers_continue_each_others_versions() {
    Model::new("mailbox: two writers", 76805).check(|| {
        let lock = Lock::with_version(2, NEAR);
        let (mut a, mut b) = (lock.mailbox(0), lock.mailbox(1));
        let (mine, other) = race(|| a.write(b"a", None).unwrap(), move || b.write(b"b", None).unwrap());
        let mut buffer = [0; 2];
        let last = a.read(&mut buffer, None).unwrap();
        assert_eq!((mine.min(other), last.version), (NEAR + 1, NEAR + 2));
        assert_eq!(&buffer[..last.length], if mine > other { b"a" } else { b"b" });
    });
}

/// Catches a Relaxed commit, and a Relaxed load in a peek: the lower half of one version with the upper half of
/// another.
#[test]
fn a_peek_never_mixes_two_versions() {
    Model::new("mailbox: peek, write across the wrap", 17).check(|| {
        let lock = Lock::with_version(2, NEAR);
        let (a, mut b) = (lock.mailbox(0), lock.mailbox(1));
        race(|| assert!((NEAR..=NEAR + 1).contains(&a.version())), move || write(&mut b, 1));
    });
}

/// Catches a Relaxed load of *high*, and a missing second look at `latest`: a writer fills a buffer again during the
/// peek, which does not notice.
#[test]
fn a_peek_notices_that_a_buffer_is_filled_again() {
    Model::new("mailbox: peek, two writes across the wrap", 341).check(|| {
        let lock = Lock::with_version(2, NEAR - 1);
        let (a, mut b) = (lock.mailbox(0), lock.mailbox(1));
        let write_twice = move || {
            b.write(b"1", None).unwrap();
            b.write(b"2", None).unwrap();
        };
        race(|| assert!((NEAR - 1..=NEAR + 1).contains(&a.version())), write_twice);
    });
}

/// Catches a notification before the commit, or without its fence: the waiter sleeps forever.
#[test]
fn a_message_wakes_its_waiter() {
    Model::new("mailbox: wait for a message", 254).check(|| {
        let lock = Lock::with_version(2, NEAR);
        let (a, mut b) = (lock.mailbox(0), lock.mailbox(1));
        race(|| assert_eq!(a.wait_newer(NEAR, None), Ok(NEAR + 1)), move || write(&mut b, 1));
    });
}

/// A participant waits for the second of two messages. The first one does not end the wait, and its notification does
/// not clear the announcement.
#[test]
fn an_older_message_does_not_end_a_wait() {
    Model::new("mailbox: wait for the second message", 55898).check(|| {
        let lock = Lock::with_version(2, NEAR);
        let (a, mut b) = (lock.mailbox(0), lock.mailbox(1));
        let write_twice = move || {
            write(&mut b, 1);
            write(&mut b, 2);
        };
        race(|| assert_eq!(a.wait_newer(NEAR + 1, None), Ok(NEAR + 2)), write_twice);
    });
}

/// A message just before the deadline counts, and the read then returns that message.
#[test]
fn a_wait_that_times_out_saw_no_newer_message() {
    Model::new("mailbox: wait until a deadline", 147969).check(|| {
        let lock = Lock::with_version(2, NEAR);
        let (mut a, mut b) = (lock.mailbox(0), lock.mailbox(1));
        let wait = || match a.wait_newer(NEAR, Some(())) {
            Ok(version) => assert_eq!((version, read(&mut a)), (NEAR + 1, 1)),
            Err(why) => assert_eq!(why, WaitError::TimedOut),
        };
        race(wait, move || write(&mut b, 1));
    });
}

/// A participant that may not wait gets in or gets an error. Nothing is half done.
#[test]
fn trying_is_whole_or_nothing() {
    Model::new("mailbox: try to read, try to write", 7768).check(|| {
        let lock = Lock::with_version(2, NEAR);
        let (mut a, mut b) = (lock.mailbox(0), lock.mailbox(1));
        let try_read = || {
            let mut buffer = [0; 2];
            match a.try_read(&mut buffer) {
                Ok(message) => assert!(check(message, buffer) <= 1),
                Err(why) => assert_eq!(why, MailReadError::Lock(LockError::Busy)),
            }
        };
        let ((), wrote) = race(try_read, move || b.try_write(&[1; 2]));
        match wrote {
            Ok(version) => assert_eq!((version, read(&mut a)), (NEAR + 1, 1)),
            Err(why) => assert_eq!((why, read(&mut a)), (MailWriteError::Lock(LockError::Busy), 0)),
        }
    });
}

/// How much of a write a dying writer does.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
enum Done {
    Owned,
    Filled,
    Flipped,
    Left,
}

/// A writer is killed with the lock taken, with the other buffer filled, after the commit, or after leaving but before
/// its notification. It is reclaimed while a reader waits for the lock. The reader gets the old message whole, or the
/// new one.
#[test]
fn a_killed_writer_leaves_a_whole_message() {
    for done in [Done::Owned, Done::Filled, Done::Flipped, Done::Left] {
        Model::new("mailbox: a writer dies, a reader comes", 1296).bounded(4).check(move || {
            let lock = Lock::with_version(2, NEAR);
            let mut b = lock.mailbox(1);
            let (lived, there) = (lock.clone(), lock.clone());
            race(|| die(&lived, done), move || assert!(read(&mut b) <= 1));
            let mut next = there.mailbox(1);
            let seen = read(&mut next);
            assert_eq!(seen, u64::from(done >= Done::Flipped));
            // The next writer fills either buffer. What is left in it does not matter.
            write(&mut next, seen as u8 + 1);
            assert_eq!(read(&mut there.mailbox(0)), seen + 1);
        });
    }
}

/// A participant waits for a new message. The reclamation notifies, because the dead writer may have committed without
/// notifying.
#[test]
fn the_reclamation_of_a_writer_notifies_its_waiters() {
    for done in [Done::Flipped, Done::Left] {
        Model::new("mailbox: a writer dies before it notified", 360).check(move || {
            let lock = Lock::with_version(2, NEAR);
            let b = lock.mailbox(1);
            race(|| die(&lock, done), move || assert_eq!(b.wait_newer(NEAR, None), Ok(NEAR + 1)));
        });
    }
}

/// Seat 0 writes as far as `done`, dies, and is reclaimed as a segment of mailboxes does it.
fn die(lock: &Lock, done: Done) {
    let mut me = lock.occupy(0);
    let guard = me.write(None).unwrap();
    if done >= Done::Filled {
        // SAFETY: this participant owns the lock, and two bytes fit.
        let version = unsafe { mailbox::fill(lock, &[1; 2]) };
        if done >= Done::Flipped {
            // SAFETY: this participant owns the lock, and has filled that version.
            unsafe { mailbox::commit(lock, version) };
        }
    }
    if done >= Done::Left {
        drop(guard);
    } else {
        std::mem::forget(guard);
    }
    lock.reclaim(0);
    lock.header().notify_all(lock.host());
}

/// Two readers and a writer.
#[test]
fn two_readers_and_a_writer_of_one_mailbox() {
    Model::new("mailbox: two readers, a writer", 9689).bounded(2).check(|| {
        let lock = Lock::with_version(3, NEAR);
        let (mut a, mut b, mut c) = (lock.mailbox(0), lock.mailbox(1), lock.mailbox(2));
        let start = Start::new();
        let (second_start, third_start) = (start.clone(), start.clone());
        let other = loom::thread::spawn(move || {
            third_start.step();
            read(&mut b)
        });
        let here = || {
            start.step();
            write(&mut a, 1)
        };
        let there = move || {
            second_start.step();
            read(&mut c)
        };
        race(here, there);
        other.join().unwrap();
        assert_eq!(read(&mut a), 1);
    });
}

/// A writer, a reader, and a participant that waits for a new message.
#[test]
fn a_writer_a_reader_and_a_waiter() {
    Model::new("mailbox: a writer, a reader, a wait for a message", 22320).bounded(3).check(|| {
        let lock = Lock::with_version(3, NEAR);
        let (mut a, mut b, c) = (lock.mailbox(0), lock.mailbox(1), lock.mailbox(2));
        let start = Start::new();
        let (second_start, third_start) = (start.clone(), start.clone());
        let other = loom::thread::spawn(move || {
            third_start.step();
            assert_eq!(c.wait_newer(NEAR, None), Ok(NEAR + 1))
        });
        let here = || {
            start.step();
            write(&mut a, 1)
        };
        let there = move || {
            second_start.step();
            read(&mut b)
        };
        race(here, there);
        other.join().unwrap();
    });
}
