//! One thread flips words of a live segment at full speed, while others use it. Every call must return, and no access
//! may leave the segment. Some million flips; `WHORL_HOSTILE_LONG=1` makes 10^8 of each.

#![expect(clippy::disallowed_types, reason = "counters of the test, not shared words")]

mod common;
mod hostile;
mod threads;

use common::Random;
use hostile::peer::Words;
use hostile::{boxes, ring};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::{scope, sleep, yield_now};
use std::time::{Duration, Instant};
use threads::{Yielding, yielding};
use whorl_core::layout::{Geometry, MailGeometry, Mailboxes, Ring};
use whorl_core::ring::{ClaimSize, PendingReceiver};

/// The operations of each thread in one segment. The next round starts in clean memory, because few words are still
/// valid after that.
const OPERATIONS: u32 = 200;

fn wanted() -> u64 {
    let long = std::env::var_os("WHORL_HOSTILE_LONG").is_some_and(|value| value == "1");
    if long { 100_000_000 } else { 4_000_000 }
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_micros(50))
}

/// Counts of what has happened.
#[derive(Default)]
struct Count {
    flips: AtomicU64,
    calls: AtomicU64,
    went: AtomicU64,
}

impl Count {
    fn note(&self, went: bool) {
        self.calls.fetch_add(1, Relaxed);
        self.went.fetch_add(u64::from(went), Relaxed);
    }

    /// Ends the process if no call has returned for a minute. It counts its own sleeps instead of reading a clock, so
    /// that a suspended machine is not taken for a hang.
    fn watch(&self, over: &AtomicBool) {
        let (mut seen, mut still) = (0, 0);
        while !over.load(Relaxed) {
            sleep(Duration::from_millis(100));
            let now = self.calls.load(Relaxed);
            still = if now == seen { still + 1 } else { 0 };
            seen = now;
            if still == 600 {
                eprintln!("no call has returned for a minute, after {now} calls");
                std::process::abort();
            }
        }
    }

    /// Runs rounds until there were enough flips.
    fn fill(&self, what: &str, round: impl Fn(u64)) {
        let over = AtomicBool::new(false);
        scope(|threads| {
            threads.spawn(|| self.watch(&over));
            for number in 0.. {
                if self.flips.load(Relaxed) >= wanted() {
                    break;
                }
                round(number);
            }
            over.store(true, Relaxed);
        });
        let [flips, calls, went] = [&self.flips, &self.calls, &self.went].map(|count| count.load(Relaxed));
        println!("{what}: {flips} flips during {calls} calls, of which {went} succeeded");
        assert!(went > 1000 && went < calls, "{went} of {calls} calls succeeded, so the test tried nothing");
    }

    /// Flips words until no thread is busy. In some rounds it flips a few words per call, so that calls get far; in
    /// others, thousands.
    fn flip(&self, words: &Words<'_>, busy: &AtomicU32, number: u64) {
        let mut random = Random::new(number);
        let each_call = [4, 40, 400, 2000][(number / 4 % 4) as usize];
        let before = self.calls.load(Relaxed);
        let mut flips = 0;
        while busy.load(Relaxed) > 0 {
            if flips > (self.calls.load(Relaxed) - before + 1) * each_call {
                yield_now();
                continue;
            }
            for _ in 0..8 {
                let choice = random.word();
                let word = words[(choice >> 40) as usize % words.len()];
                let old = word.load(Relaxed);
                let new = match choice & 15 {
                    0..6 => old ^ 1 << (choice >> 8 & 31),
                    6 => 0,
                    7 => 1,
                    8 => u32::MAX,
                    9 => old.wrapping_add(1),
                    10 => old.wrapping_sub(1),
                    11..13 => (choice >> 8 & 7) as u32,
                    13 => 1 << 31 | (choice >> 8 & 3) as u32,
                    _ => (choice >> 8) as u32,
                };
                word.store(new, Relaxed);
            }
            flips += 8;
        }
        self.flips.fetch_add(flips, Relaxed);
    }
}

/// Counts a thread as busy until this value is dropped.
struct Busy<'a>(&'a AtomicU32);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[test]
fn a_ring_survives_flipped_words() {
    let count = Count::default();
    count.fill("ring", |number| {
        let geometry = Geometry::new([128, 1024][(number & 1) as usize], 3).unwrap();
        ring_round(if number & 2 == 0 { geometry } else { geometry.evictable() }, &count, number);
    });
}

fn ring_round(geometry: Geometry, count: &Count, number: u64) {
    let memory = ring::memory(geometry);
    let words = ring::words(&memory, geometry);
    let [data, control] = memory.each_ref().map(|memory| memory.region());
    // SAFETY: fresh memory of the right lengths; this host reclaims no participant.
    let owned = unsafe { Ring::create(data, control, geometry, 7, yielding()) }.unwrap();
    let ring = owned.ring();
    let (mut sender, membership) = owned.into_sender();
    let busy = AtomicU32::new(geometry.seats() + 1);
    scope(|threads| {
        let busy = &busy;
        for seat in 0..geometry.seats() {
            let ring = &ring;
            threads.spawn(move || {
                let _busy = Busy(busy);
                let mut buffer = [0; 1024];
                let mut receiver = None;
                for turn in 0..OPERATIONS {
                    let Some(joined) = &mut receiver else {
                        let asked = PendingReceiver::request_seat(ring.clone(), seat, turn == 0, 1);
                        receiver = asked.and_then(|pending| pending.admitted(soon())).ok();
                        count.note(receiver.is_some());
                        continue;
                    };
                    let Ok(mut batch) = joined.read(soon()) else {
                        count.note(false);
                        if turn % 4 == 0 {
                            receiver = None;
                        }
                        continue;
                    };
                    while let Ok(Some(frame)) = batch.next_frame() {
                        let copied = frame.payload().copy_to(&mut buffer);
                        assert!(!matches!(copied, Ok(length) if length as u64 > geometry.capacity()));
                        count.note(copied.is_ok() && batch.validate());
                    }
                    batch.release();
                }
            });
        }
        threads.spawn(move || {
            let _busy = Busy(busy);
            for turn in 0..OPERATIONS {
                membership.admit_all();
                if turn % 16 == 0 {
                    membership.reclaim_dead();
                    assert!(membership.status().all(|status| status.behind <= geometry.capacity()));
                    membership.evict(turn % 3);
                }
                for _ in 0..2 {
                    let length = turn % 50;
                    let Ok(mut claim) = sender.claim(ClaimSize::exactly(length), soon()) else {
                        count.note(false);
                        continue;
                    };
                    claim.writer().write(&vec![turn as u8; length as usize]);
                    claim.stage(length);
                    count.note(true);
                }
                sender.publish();
            }
            count.note(sender.drain(soon()).is_ok());
        });
        count.flip(&words, busy, number);
    });
}

#[test]
fn mailboxes_survive_flipped_words() {
    let count = Count::default();
    count.fill("mailboxes", |number| {
        let geometry = MailGeometry::new(2, [64, 300][(number & 1) as usize], 4).unwrap();
        let memory = boxes::memory(geometry);
        let words = boxes::words(&memory, geometry);
        // SAFETY: fresh memory of the right length; this host reclaims no participant.
        let made = unsafe { Mailboxes::create(memory.region(), geometry, 7, yielding()) }.unwrap();
        let busy = AtomicU32::new(geometry.seats());
        scope(|threads| {
            for seat in 0..geometry.seats() {
                let (made, busy, count) = (&made, &busy, &count);
                threads.spawn(move || use_boxes(made, seat, Busy(busy), count));
            }
            count.flip(&words, &busy, number);
        });
    });
}

fn use_boxes(boxes: &Mailboxes<'_, Yielding>, seat: u32, _busy: Busy<'_>, count: &Count) {
    let mut buffer = [0; 300];
    let mut user = None;
    for turn in 0..OPERATIONS {
        let index = turn / 3 % 2;
        let Some(sitting) = &mut user else {
            user = boxes.occupy(seat, 1).ok();
            count.note(user.is_some());
            yield_now();
            continue;
        };
        let went = match (turn + seat) % 8 {
            0 => sitting.write(index, &[turn as u8; 60], soon()).is_ok(),
            1 => sitting.try_write(index, &[turn as u8; 10]).is_ok(),
            2 => sitting.wait_newer(index, u64::from(turn), soon()).is_ok(),
            3 => boxes.users().count() <= 4,
            4 => sitting.try_read(index, &mut buffer).is_ok(),
            _ => match sitting.read(index, &mut buffer, soon()) {
                Ok(message) => message.length <= buffer.len(),
                Err(_) => false,
            },
        };
        count.note(went);
        if turn % 32 == 31 {
            user = None;
        }
    }
}
