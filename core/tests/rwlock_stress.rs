//! Threads against each other: mutual exclusion, and no torn message. The models check orderings; this test tries real
//! hardware, real preemption and many seats.

#![expect(clippy::disallowed_types, reason = "a payload that is not atomic shows a torn read")]

mod threads;

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use threads::{bytes, memory, yielding};
use whorl_core::layout::{MailGeometry, Mailboxes, Region};
use whorl_core::rwlock::{LockWords, Participant, SeatLock, SeatState};

/// Eight parts of one value. They are not atomic, so that only the lock keeps them together.
struct Guarded(UnsafeCell<[u64; 8]>);

// SAFETY: the value is reached only inside the lock.
unsafe impl Sync for Guarded {}

fn exclude<const SEATS: usize>(threads: u32, time: Duration) {
    let words = LockWords::<[SeatState; SEATS]>::new();
    // SAFETY: this host reports no death.
    let lock = unsafe { SeatLock::new(&words, yielding()) };
    let guarded = Guarded(UnsafeCell::new([0; 8]));
    let (wrote, read) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (lock, guarded, wrote, read) = (&lock, &guarded, &wrote, &read);
            // Spread over the table, first and last seat included.
            let seat = (SEATS - 1) as u32 * thread / (threads - 1);
            scope.spawn(move || {
                // SAFETY: each thread has a seat of its own.
                let mut me = unsafe { Participant::new(lock, seat) };
                let end = Instant::now() + time;
                for turn in 0u32.. {
                    if Instant::now() >= end {
                        break;
                    }
                    let soon = Some(Instant::now() + Duration::from_micros(u64::from(turn % 200)));
                    let deadline = if turn % 3 == 0 { soon } else { None };
                    if (turn + thread) % 4 == 0 {
                        let guard = if turn % 5 == 0 { me.try_write() } else { me.write(deadline) };
                        let Ok(_guard) = guard else { continue };
                        // SAFETY: the only writer, and no reader, inside the lock.
                        let value = unsafe { &mut *guarded.0.get() };
                        value.iter_mut().for_each(|part| *part += 1);
                        wrote.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let guard = if turn % 5 == 0 { me.try_read() } else { me.read(deadline) };
                        let Ok(_guard) = guard else { continue };
                        // SAFETY: no writer inside the lock.
                        let value = unsafe { &*guarded.0.get() };
                        assert!(value.iter().all(|part| *part == value[0]), "torn: {value:?}");
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (wrote, read) = (wrote.into_inner(), read.into_inner());
    assert!(wrote > 100 && read > 100, "{wrote} writes and {read} reads: readers or writers hardly got in");
    // SAFETY: the threads have ended.
    drop(unsafe { Participant::new(&lock, 0) }.try_write().expect("all participants have left"));
    assert_eq!(guarded.0.into_inner(), [u64::from(wrote); 8], "a write was lost");
}

#[test]
fn two_threads_exclude_each_other() {
    exclude::<2>(2, Duration::from_millis(500));
}

#[test]
fn six_threads_exclude_each_other_in_a_table_of_64_seats() {
    exclude::<64>(6, Duration::from_millis(800));
}

#[test]
fn eight_threads_exclude_each_other_in_a_table_of_1024_seats() {
    exclude::<1024>(8, Duration::from_millis(800));
}

#[test]
fn no_message_is_torn_and_versions_only_grow() {
    let geometry = MailGeometry::new(2, 1000, 8).unwrap();
    let mut pages = memory(geometry.length());
    // SAFETY: the buffer is lent to the region, and used only through the result.
    let boxes = unsafe { Mailboxes::create(Region::from_buffer(bytes(&mut pages)), geometry, 1, yielding()) };
    let boxes = boxes.unwrap();
    let end = Instant::now() + Duration::from_millis(800);
    let written: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6u32)
            .map(|seat| {
                let mut user = boxes.occupy(seat, seat).unwrap();
                scope.spawn(move || {
                    let (mut written, mut buffer, mut last) = (0, [0; 1000], [0, 0]);
                    for turn in 0u32.. {
                        if Instant::now() >= end {
                            break;
                        }
                        let index = turn % 2;
                        if turn % 3 == seat % 3 {
                            let length = (turn * 37 + seat) as usize % 1001;
                            let fill = (turn ^ seat) as u8;
                            user.write(index, &vec![fill; length], None).unwrap();
                            written += 1;
                        }
                        let message = user.read(index, &mut buffer, None).unwrap();
                        let bytes = &buffer[..message.length];
                        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn");
                        assert!(message.version >= last[index as usize], "versions went back");
                        last[index as usize] = message.version;
                    }
                    written
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(boxes.version(0).unwrap() + boxes.version(1).unwrap(), written);
}
