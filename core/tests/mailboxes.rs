//! Mailboxes in memory: what they hold, which processes may use them, and the effect of damaged and hostile words.

mod threads;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use threads::{Yielding, bytes, memory, yielding};
use whorl_core::error::{JoinError, MailReadError, MailWriteError, WaitError};
use whorl_core::layout::{LayoutError, MailGeometry, Mailboxes, Region};

fn with_mailboxes(boxes: u32, capacity: u32, seats: u32, test: impl FnOnce(Mailboxes<'_, Yielding>)) {
    let geometry = MailGeometry::new(boxes, capacity, seats).unwrap();
    let mut pages = memory(geometry.length());
    let region = Region::from_buffer(bytes(&mut pages));
    // SAFETY: the buffer is lent to the region, and used through the result alone.
    test(unsafe { Mailboxes::create(region, geometry, 7, yielding()) }.unwrap());
}

#[test]
fn a_mailbox_holds_the_latest_message_and_counts_versions() {
    with_mailboxes(3, 100, 4, |boxes| {
        let (mut a, mut b) = (boxes.occupy(0, 1).unwrap(), boxes.occupy(3, 2).unwrap());
        let mut buffer = [0; 100];
        assert_eq!(b.read(1, &mut buffer, None).map(|m| (m.version, m.length)), Ok((0, 0)));
        for length in [0, 1, 3, 4, 5, 63, 64, 99, 100] {
            let message: Vec<u8> = (0..length).map(|i| i as u8 ^ length as u8).collect();
            let version = a.write(1, &message, None).unwrap();
            let read = b.read(1, &mut buffer, None).unwrap();
            assert_eq!((read.version, &buffer[..read.length]), (version, &message[..]));
            assert_eq!(b.try_read(1, &mut buffer), Ok(read));
        }
        assert_eq!(boxes.version(1), Some(9));
        assert_eq!((boxes.version(0), boxes.version(2), boxes.version(3)), (Some(0), Some(0), None));
        assert_eq!(b.read(1, &mut buffer[..99], None), Err(MailReadError::TooShort(100)));
        assert_eq!(a.write(1, &[0; 101], None), Err(MailWriteError::TooLong));
        assert_eq!(a.write(3, &[], None), Err(MailWriteError::NoSuchBox));
        assert_eq!(b.read(3, &mut buffer, None), Err(MailReadError::NoSuchBox));
        assert_eq!(a.try_write(2, b"x"), Ok(1));
    });
}

#[test]
fn a_seat_has_one_user_and_is_free_after_it_leaves_or_is_reclaimed() {
    with_mailboxes(2, 8, 2, |boxes| {
        let a = boxes.occupy(0, 11).unwrap();
        assert!(matches!(boxes.occupy(0, 12), Err(JoinError::Taken)));
        assert!(matches!(boxes.occupy(2, 12), Err(JoinError::Taken)));
        let b = boxes.occupy_any(12).unwrap();
        assert_eq!(b.seat(), 1);
        assert_eq!(boxes.users().collect::<Vec<_>>(), [(0, 11), (1, 12)]);
        drop(a);
        let mut c = boxes.occupy(0, 13).unwrap();
        std::mem::forget(b);
        assert!(boxes.reclaim(1));
        assert!(!boxes.reclaim(1) && !boxes.reclaim(2));
        c.write(0, b"ok", None).unwrap();
        assert_eq!(boxes.occupy(1, 14).unwrap().read(0, &mut [0; 8], None).unwrap().length, 2);
    });
}

#[test]
fn a_message_or_a_deadline_ends_a_wait() {
    with_mailboxes(1, 8, 2, |boxes| {
        let soon = || Some(Instant::now() + Duration::from_millis(5));
        assert_eq!(boxes.wait_newer(0, 0, soon()), Err(WaitError::TimedOut));
        assert_eq!(boxes.wait_newer(1, 0, soon()), Err(WaitError::NoSuchBox));
        std::thread::scope(|scope| {
            let news = scope.spawn(|| boxes.wait_newer(0, 0, None));
            boxes.occupy(0, 1).unwrap().write(0, b"news", None).unwrap();
            assert_eq!(news.join().unwrap(), Ok(1));
        });
    });
}

#[test]
fn a_header_with_any_damaged_byte_is_refused() {
    let geometry = MailGeometry::new(2, 10, 2).unwrap();
    let mut pages = memory(geometry.length());
    let whole = |pages: &mut Vec<threads::Page>, length: usize| {
        let region = Region::from_buffer(&mut bytes(pages)[..length]);
        // SAFETY: the buffer is lent to the region.
        unsafe { Mailboxes::attach(region, yielding()) }.map(|boxes| boxes.geometry())
    };
    let length = geometry.length() as usize;
    assert_eq!(whole(&mut pages, length), Err(LayoutError::Foreign));
    // SAFETY: the buffer is lent to the region.
    let made = unsafe { Mailboxes::create(Region::from_buffer(bytes(&mut pages)), geometry, 1, yielding()) };
    assert_eq!(made.unwrap().geometry(), geometry);
    assert_eq!(whole(&mut pages, length), Ok(geometry));
    assert_eq!(whole(&mut pages, length - 1), Err(LayoutError::TooShort));
    for at in 0..64 {
        bytes(&mut pages)[at] ^= 0x10;
        assert!(whole(&mut pages, length).is_err(), "byte {at}");
        bytes(&mut pages)[at] ^= 0x10;
    }
    for (boxes, capacity, seats, why) in [
        (0, 1, 1, LayoutError::Boxes),
        ((1 << 20) + 1, 1, 1, LayoutError::Boxes),
        (1, 0, 1, LayoutError::Capacity),
        (1, (1 << 31) + 1, 1, LayoutError::Capacity),
        (1, 1, 0, LayoutError::Seats),
        (1, 1, 1025, LayoutError::Seats),
    ] {
        assert_eq!(MailGeometry::new(boxes, capacity, seats), Err(why));
    }
}

/// Every word of the segment behind its header takes garbage. Each call still returns by its deadline, without a panic.
#[test]
fn hostile_words_cause_no_panic_and_no_wait_past_the_deadline() {
    let geometry = MailGeometry::new(1, 4, 3).unwrap();
    let length = geometry.length() as usize;
    for at in (64..length).step_by(4) {
        for garbage in [1, 2, 3, 4, 5, 7, 1 << 31, 1 << 31 | 1, 1 << 31 | 1023, 1023, u32::MAX] {
            if at >= 4096 + 64 + 192 + 3 * 64 && garbage != 7 {
                continue; // buffers: any bytes are valid
            }
            let mut pages = memory(geometry.length());
            let buffer = bytes(&mut pages);
            let word = buffer[at..].as_mut_ptr().cast::<u32>();
            // SAFETY: the buffer is lent to the region, and used only through the result, except one word.
            let boxes = unsafe { Mailboxes::create(Region::from_buffer(buffer), geometry, 1, yielding()) };
            let boxes = boxes.unwrap();
            // SAFETY: inside the buffer, aligned, and no participant looks yet.
            unsafe { word.write(garbage) };
            let deadline = Some(Instant::now() + Duration::from_micros(200));
            for seat in 0..3 {
                let Ok(mut user) = boxes.occupy(seat, 1) else { continue };
                let _ = user.read(0, &mut [0; 4], deadline);
                let _ = user.write(0, b"abc", deadline);
                let _ = user.try_read(0, &mut [0; 4]);
                let _ = user.try_write(0, b"abc");
                let _ = user.wait_newer(0, 5, deadline);
                std::mem::forget(user);
            }
            assert!(boxes.users().count() <= 3);
            for seat in 0..4 {
                boxes.reclaim(seat);
            }
        }
    }
}

/// A peer flips words at random while others use the mailboxes. Every call returns soon after its deadline.
#[test]
fn a_peer_that_always_writes_words_holds_up_no_user() {
    let geometry = MailGeometry::new(1, 64, 4).unwrap();
    let mut pages = memory(geometry.length());
    let buffer = bytes(&mut pages);
    let (first, words) = (buffer.as_mut_ptr().cast::<AtomicU32>(), buffer.len() / 4);
    // SAFETY: the buffer is lent to the region; only atomics reach it besides.
    let boxes = unsafe { Mailboxes::create(Region::from_buffer(buffer), geometry, 1, yielding()) }.unwrap();
    // SAFETY: the whole buffer, aligned, as atomics.
    let words = unsafe { std::slice::from_raw_parts(first, words) };
    let users: Vec<_> = (0..3).map(|seat| boxes.occupy(seat, 1).unwrap()).collect();
    let stop = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 88172645463325252u64;
            while stop.load(Ordering::Relaxed) == 0 {
                for _ in 0..64 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let at = 16 + random as usize % (words.len() - 16);
                    let value = [0, 1, 2, 3, 5, 6, 7, 1 << 31 | 2, random as u32];
                    words[at].store(value[(random >> 40) as usize % value.len()], Ordering::Relaxed);
                }
                std::thread::yield_now();
            }
        });
        let workers: Vec<_> = users
            .into_iter()
            .map(|mut user| {
                scope.spawn(move || {
                    let end = Instant::now() + Duration::from_millis(300);
                    while Instant::now() < end {
                        let deadline = Instant::now() + Duration::from_millis(2);
                        let _ = user.read(0, &mut [0; 64], Some(deadline));
                        let _ = user.write(0, &[1; 64], Some(deadline));
                        let _ = user.wait_newer(0, 1 << 40, Some(deadline));
                        let _ = user.try_write(0, &[2; 64]);
                        user.mailboxes().reclaim(3);
                        assert!(deadline.elapsed() < Duration::from_secs(5), "held past the deadline");
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        stop.store(1, Ordering::Relaxed);
    });
}

#[test]
fn a_waiter_for_any_mailbox_looks_after_announcing_and_wakes_at_a_write() {
    with_mailboxes(3, 8, 2, |boxes| {
        let mut user = boxes.occupy(0, 1).unwrap();
        let deadline = Some(Instant::now() + Duration::from_secs(30));
        assert_eq!(boxes.sleep_unless(|| true, deadline), whorl_core::host::WaitResult::Woken);
        // The write falls between the announcement and the sleep. The sequence has moved, so the sleep does not begin.
        let started = Instant::now();
        boxes.sleep_unless(
            || {
                user.write(2, b"news", None).unwrap();
                false
            },
            deadline,
        );
        assert!(started.elapsed() < Duration::from_secs(10));
    });
}

/// A seat whose word says that it is free may still own a lock, for example after a living occupant was taken for dead.
/// The next occupant clears that, so the mailbox does not stay locked while it lives.
#[test]
fn occupying_a_seat_clears_the_lock_that_it_still_owns() {
    let geometry = MailGeometry::new(2, 8, 2).unwrap();
    let mut pages = memory(geometry.length());
    let buffer = bytes(&mut pages);
    let words = buffer.as_mut_ptr().cast::<AtomicU32>();
    // SAFETY: the buffer is lent to the region; only atomics reach it besides.
    let boxes = unsafe { Mailboxes::create(Region::from_buffer(buffer), geometry, 1, yielding()) }.unwrap();
    let mut other = boxes.occupy(1, 2).unwrap();
    // The second mailbox: its owner word, and the cell of seat 0 (the layout is drawn in core/src/layout/mailboxes.rs).
    let at = (4096 + 2 * 8u32).next_multiple_of(64) as usize + 192 + 2 * 64;
    for (offset, value) in [(at, 1 << 31), (at + 192, 3)] {
        // SAFETY: inside the buffer.
        let word = unsafe { words.add(offset / 4) };
        // SAFETY: aligned, and an atomic for every participant.
        unsafe { &*word }.store(value, Ordering::Relaxed);
    }
    assert!(other.try_write(0, b"free").is_ok());
    assert!(other.try_write(1, b"held").is_err(), "seat 0 owns the lock");
    let _newcomer = boxes.occupy(0, 3).unwrap();
    assert_eq!(other.try_write(1, b"free"), Ok(1));
}
