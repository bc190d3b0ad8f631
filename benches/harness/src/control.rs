//! The block of shared memory through which the parent steers a run and the parties report.
//!
//! The parent makes it once, before the first fork, and resets it for every run. All fields are atomics, so zeroed
//! memory is valid.

use crate::schedule::{Schedule, Timeline};
use crate::waiting::{futex_wait, futex_wake};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

/// The most receivers in a run that records when each message came.
pub const MOST_RECEIVERS: usize = 64;
/// The most receivers in any other run.
pub const MOST_UNTIMED_RECEIVERS: usize = 1000;
pub const MOST_SAMPLES: usize = 1 << 20;

/// The phase of a run. Only the parent changes it.
pub mod phase {
    /// The parties set themselves up.
    pub const SETUP: u32 = 0;
    /// The parties work, but nothing counts yet.
    pub const WARM: u32 = 1;
    /// The work counts.
    pub const MEASURE: u32 = 2;
    /// The sender sends its last message.
    pub const STOP: u32 = 3;
}

/// What parties do besides their work. The parent sets it before the fork.
pub mod task {
    pub const NONE: u32 = 0;
    /// The sender records its longest pause.
    pub const WATCH: u32 = 1;
    /// After some messages the sender stops sending until the end, so its receivers block.
    pub const HOLD_SENDER: u32 = 2;
    /// After some messages the receivers stop receiving until the end, so the sender blocks.
    pub const HOLD_RECEIVERS: u32 = 3;
    /// The sender follows the schedule, and receivers record how late each message is.
    pub const SCHEDULE: u32 = 4;
    /// The sender follows the schedule, every party records when it did what, and the first receiver pauses once.
    pub const TIMELINE: u32 = 5;
}

/// Keeps its content on cache lines of its own.
#[repr(align(128))]
pub struct Line<T>(pub T);

#[repr(C)]
pub struct Control {
    pub ready: Line<AtomicU32>,
    pub phase: Line<AtomicU32>,
    pub task: Line<AtomicU32>,
    pub killed_at: Line<AtomicU64>,
    pub sender: Line<SenderRecord>,
    pub receivers: [Line<ReceiverRecord>; MOST_UNTIMED_RECEIVERS],
    pub failure: Failure,
    pub schedule: Line<Schedule>,
    /// The sender's timeline, then the receivers'.
    pub timelines: [Timeline; MOST_RECEIVERS + 1],
    /// Round trips in ticks. Or how late messages were, in nanoseconds: first all of one receiver, then all of the
    /// next.
    pub samples: [AtomicU32; MOST_SAMPLES],
}

pub struct SenderRecord {
    pub start_ns: AtomicU64,
    pub end_ns: AtomicU64,
    pub start_ticks: AtomicU64,
    pub end_ticks: AtomicU64,
    /// The number of the first message that counts.
    pub first: AtomicU64,
    /// How many messages were sent in all. For latency: how many round trips counted.
    pub sent: AtomicU64,
    /// The longest pause between two messages before the kill and after it, in ns.
    pub pause_before: AtomicU64,
    pub pause_after: AtomicU64,
    /// CPU time of the sender's process since its start, in ns.
    pub cpu_ns: AtomicU64,
}

pub struct ReceiverRecord {
    pub end_ns: AtomicU64,
    pub received: AtomicU64,
    pub wrong: AtomicU64,
    /// CPU time of the receiver's process since its start, in ns.
    pub cpu_ns: AtomicU64,
}

/// The first failure of a run, as text.
pub struct Failure {
    len: AtomicU32,
    text: [AtomicU8; 400],
}

impl Control {
    /// Maps the block, which stays for the life of the bench.
    pub fn map() -> &'static Control {
        let block = map_shared(size_of::<Control>());
        // SAFETY: the mapping is zeroed, page-aligned, large enough, never unmapped, and zeroed atomics are valid.
        unsafe { &*block.cast::<Control>() }
    }

    /// Prepares the block for the next run. Call it only while no party is alive.
    pub fn reset(&self, task: u32) {
        self.ready.0.store(0, Relaxed);
        self.phase.0.store(phase::SETUP, Relaxed);
        self.task.0.store(task, Relaxed);
        self.killed_at.0.store(0, Relaxed);
        let s = &self.sender.0;
        let words =
            [&s.start_ns, &s.end_ns, &s.start_ticks, &s.end_ticks, &s.first, &s.sent, &s.pause_before];
        words.into_iter().chain([&s.pause_after, &s.cpu_ns]).for_each(|word| word.store(0, Relaxed));
        for r in &self.receivers {
            let words = [&r.0.end_ns, &r.0.received, &r.0.wrong, &r.0.cpu_ns];
            words.into_iter().for_each(|word| word.store(0, Relaxed));
        }
        self.failure.len.store(0, Relaxed);
        self.timelines.iter().for_each(Timeline::reset);
    }

    /// Reports that a party is set up, and waits for the start.
    pub fn arrive(&self) {
        self.ready.0.fetch_add(1, Release);
        while self.phase.0.load(Acquire) == phase::SETUP {
            futex_wait(&self.phase.0, phase::SETUP, Some(Duration::from_millis(100)));
        }
    }

    /// Moves the run to the next phase. Only the parent calls it.
    pub fn advance(&self, phase: u32) {
        self.phase.0.store(phase, Release);
        futex_wake(&self.phase.0, i32::MAX as u32);
    }
}

impl Failure {
    pub fn report(&self, text: &str) {
        let len = text.len().min(self.text.len());
        // Only the first failure is kept, because later ones are mostly its consequences.
        if self.len.compare_exchange(0, len as u32, AcqRel, Relaxed).is_ok() {
            text.bytes().zip(&self.text).for_each(|(byte, place)| place.store(byte, Relaxed));
        }
    }

    pub fn text(&self) -> Option<String> {
        let len = self.len.load(Acquire) as usize;
        let bytes: Vec<u8> = self.text[..len].iter().map(|b| b.load(Relaxed)).collect();
        (len > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Maps zeroed anonymous memory that children share. It is never unmapped.
///
/// # Panics
/// If there is no memory left.
pub fn map_shared(bytes: usize) -> *mut u8 {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping, at an address that the kernel chooses.
    let block =
        unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(block, libc::MAP_FAILED, "no memory for {bytes} shared bytes");
    block.cast()
}
