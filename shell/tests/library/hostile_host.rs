//! A hostile peer changes every word of the shared memory all the time, against the host that programs use. Each call
//! returns soon after its deadline. (The tests of core do the same with hosts of their own.)

use crate::kit::LIMIT;
use memmap2::MmapOptions;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use whorl::MailSegment;
use whorl::internal::shm::liveness::Owner;
use whorl::internal::shm::ring::Segment;
use whorl_core::layout::{Geometry, MailGeometry};
use whorl_core::ring::{ClaimSize, PendingReceiver};

const HEADER: usize = 64;
const LINE: usize = 64;

/// What the hostile peer does.
#[derive(Clone, Copy)]
enum Scribble {
    /// Writes a random value into each word behind the header.
    Random,
    /// Adds to the words of one cache line, as fast as it can. A process that sleeps on one of them always finds it
    /// changed.
    Line(usize),
}

/// The hostile peer. It works until it is dropped.
struct Scribbler {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Scribbler {
    fn start(object: impl AsFd, scribble: Scribble) -> Self {
        let object = object.as_fd().try_clone_to_owned().expect("a descriptor");
        let map = MmapOptions::new().map_raw(&object).expect("a mapping");
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let thread = std::thread::spawn(move || {
            let mut state = 88_172_645_463_325_252u64;
            while !ends.load(Relaxed) {
                let words = match scribble {
                    Scribble::Random => HEADER..map.len(),
                    Scribble::Line(line) => line * LINE..(line + 1) * LINE,
                };
                for at in words.step_by(4) {
                    // SAFETY: inside the mapping.
                    let word = unsafe { map.as_mut_ptr().add(at) }.cast();
                    // SAFETY: aligned, mapped for as long as this thread runs, and used only as an atomic.
                    let word = unsafe { AtomicU32::from_ptr(word) };
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let small = [0, 1, 2, 3, 4, 5, 6, 7, 1 << 31, u32::MAX][state as usize % 10];
                    match (scribble, state >> 40 & 1) {
                        (Scribble::Line(_), _) => _ = word.fetch_add(1, Relaxed),
                        (Scribble::Random, 0) => word.store(small, Relaxed),
                        (Scribble::Random, _) => word.store((state >> 8) as u32, Relaxed),
                    }
                }
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Scribbler {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Runs `calls` in a thread of its own. It reports after each call that the call has returned.
fn all_return(calls: impl FnOnce(&mut dyn FnMut(&'static str)) + Send + 'static) {
    let (report, reports) = mpsc::channel();
    let thread = std::thread::spawn(move || calls(&mut |what| _ = report.send(what)));
    let mut last = "nothing";
    loop {
        match reports.recv_timeout(LIMIT) {
            Ok(what) => last = what,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the call after {last:?} does not return"),
        }
    }
    thread.join().expect("no panic");
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(3))
}

fn rounds() -> u32 {
    crate::kit::short_or_long(60, 20_000)
}

fn mailboxes_under_fire(scribble: Scribble, rounds: u32) {
    let segment = MailSegment::create(MailGeometry::new(2, 256, 4).unwrap()).unwrap();
    let (mut a, mut b) = (segment.sit().unwrap(), segment.sit().unwrap());
    let _scribbler = Scribbler::start(&segment, scribble);
    all_return(move |report| {
        for _ in 0..rounds {
            for user in [&mut a, &mut b] {
                let _ = user.read_into(0, &mut [0; 256], soon());
                report("read_into");
                let _ = user.read_with(1, soon(), |bytes, _| bytes.len());
                report("read_with");
                let _ = user.write_until(0, &[1; 256], soon());
                report("write_until");
                let _ = user.wait_newer(0, u64::MAX, soon());
                report("wait_newer");
                let _ = user.wait_newer(1, 0, soon());
                report("wait_newer, for any");
                let _ = user.wait_for_version(1, u64::MAX, soon());
                report("wait_for_version");
            }
            segment.reclaim_dead();
            report("reclaim_dead");
            drop(segment.sit());
            report("sit");
        }
    });
}

#[test]
fn mailboxes_of_random_words() {
    mailboxes_under_fire(Scribble::Random, rounds());
}

#[test]
fn mailboxes_of_which_one_line_counts_up() {
    // All words that a process can sleep on: those of the first page, and those beside the two mailboxes behind the
    // seats.
    for line in (1..8).chain(64..80) {
        mailboxes_under_fire(Scribble::Line(line), 1);
    }
}

/// A peer may write the control object: the receivers' cursors and seats, and the words that both sides sleep on.
fn a_ring_under_fire(scribble: Scribble, rounds: u32) {
    let (segment, ring) = Segment::create(Geometry::new(512, 4).unwrap()).unwrap();
    let (mut sender, membership) = ring.into_sender();
    let [_, control] = segment.objects();
    let scribbler = Scribbler::start(control, scribble);
    let reading = segment.attach(Owner::LockHolder).unwrap();
    let receive = move |report: &mut dyn FnMut(&'static str)| {
        for round in 0..rounds {
            let Ok(applicant) = PendingReceiver::request_seat(reading.clone(), round % 4, true, 1) else {
                continue;
            };
            report("ask");
            let Ok(mut receiver) = applicant.admitted(soon()) else { continue };
            report("admitted");
            for _ in 0..4 {
                if let Ok(mut batch) = receiver.read(soon()) {
                    while let Ok(Some(frame)) = batch.next_frame() {
                        let _ = frame.payload().copy_to(&mut [0; 64]);
                    }
                    batch.release();
                }
                report("read");
                let _ = receiver.arm();
                report("arm");
            }
        }
    };
    let send = move |report: &mut dyn FnMut(&'static str)| {
        for _ in 0..rounds {
            if let Ok(mut claim) = sender.claim(ClaimSize::exactly(64), soon()) {
                claim.writer().write(&[7; 64]);
                claim.publish(64);
            }
            report("claim");
            let _ = sender.drain(soon());
            report("drain");
            membership.admit_all();
            membership.reclaim_dead();
            membership.evict(1);
            report("membership");
        }
    };
    let receiving = std::thread::spawn(move || all_return(receive));
    all_return(send);
    receiving.join().expect("every call returned");
    drop(scribbler);
}

#[test]
fn a_ring_of_random_words() {
    a_ring_under_fire(Scribble::Random, rounds());
}

#[test]
fn a_ring_of_which_one_line_counts_up() {
    // All words that a process can sleep on are in front of the seats.
    for line in 1..64 {
        a_ring_under_fire(Scribble::Line(line), 1);
    }
}
