//! The block of shared memory through which the parent steers a run and the parties report.
//!
//! Made once, before the first fork, and reset for every run. All fields are atomics: zeroed memory is a valid value.

use crate::schedule::{Schedule, Timeline};
use crate::waiting::{futex_wait, futex_wake};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

/// In a run that notes when what came.
pub const MOST_RECEIVERS: usize = 64;
/// In any other.
pub const MOST_IN_A_CROWD: usize = 1000;
pub const MOST_SAMPLES: usize = 1 << 20;

/// Where a run stands. Only the parent moves it on.
pub mod phase {
    /// Parties set themselves up.
    pub const SETUP: u32 = 0;
    /// They work, and nothing is counted yet.
    pub const WARM: u32 = 1;
    /// What is done now counts.
    pub const MEASURE: u32 = 2;
    /// The sender sends its last message.
    pub const STOP: u32 = 3;
}

/// What parties do besides their work. Set before the fork.
pub mod task {
    pub const NONE: u32 = 0;
    /// The sender notes its longest pause.
    pub const WATCH: u32 = 1;
    /// After some messages the sender stops sending until the end: its receivers are blocked.
    pub const HOLD_SENDER: u32 = 2;
    /// After some messages receivers stop receiving until the end: the sender is blocked.
    pub const HOLD_RECEIVERS: u32 = 3;
    /// The sender keeps to the schedule, receivers note how late each message is.
    pub const SCHEDULE: u32 = 4;
    /// The sender keeps to the schedule, everybody notes when it did what, and the first receiver pauses once.
    pub const TIMELINE: u32 = 5;
}

/// Keeps its content off its neighbours' cache lines.
#[repr(align(128))]
pub struct Line<T>(pub T);

#[repr(C)]
pub struct Control {
    pub ready: Line<AtomicU32>,
    pub phase: Line<AtomicU32>,
    pub task: Line<AtomicU32>,
    pub killed_at: Line<AtomicU64>,
    pub sender: Line<SenderRecord>,
    pub receivers: [Line<ReceiverRecord>; MOST_IN_A_CROWD],
    pub failure: Failure,
    pub schedule: Line<Schedule>,
    /// The sender's, then the receivers'.
    pub timelines: [Timeline; MOST_RECEIVERS + 1],
    /// Round trips in ticks; or how late messages were in nanoseconds, each receiver's after the other's.
    pub samples: [AtomicU32; MOST_SAMPLES],
}

pub struct SenderRecord {
    pub start_ns: AtomicU64,
    pub end_ns: AtomicU64,
    pub start_ticks: AtomicU64,
    pub end_ticks: AtomicU64,
    /// The number of the first message that counts.
    pub first: AtomicU64,
    /// How many messages were sent in all; for latency, how many round trips counted.
    pub sent: AtomicU64,
    /// Longest pause between two messages before and after the kill, ns.
    pub pause_before: AtomicU64,
    pub pause_after: AtomicU64,
    /// CPU time of its process from the start on, ns.
    pub cpu_ns: AtomicU64,
}

pub struct ReceiverRecord {
    pub end_ns: AtomicU64,
    pub received: AtomicU64,
    pub wrong: AtomicU64,
    /// CPU time of its process from the start on, ns.
    pub cpu_ns: AtomicU64,
}

/// The first failure of a run, as text.
pub struct Failure {
    len: AtomicU32,
    text: [AtomicU8; 400],
}

impl Control {
    /// Maps the block. It stays for the life of the bench.
    pub fn map() -> &'static Control {
        let block = map_shared(size_of::<Control>());
        // SAFETY: the mapping is zeroed, page-aligned, large enough, never unmapped, and zeroed atomics are valid.
        unsafe { &*block.cast::<Control>() }
    }

    /// Makes the block fit for the next run. No party is alive.
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

    /// A party is set up: it says so and waits for the start.
    pub fn arrive(&self) {
        self.ready.0.fetch_add(1, Release);
        while self.phase.0.load(Acquire) == phase::SETUP {
            futex_wait(&self.phase.0, phase::SETUP, Some(Duration::from_millis(100)));
        }
    }

    /// The parent moves the run on.
    pub fn advance(&self, phase: u32) {
        self.phase.0.store(phase, Release);
        futex_wake(&self.phase.0, i32::MAX as u32);
    }
}

impl Failure {
    pub fn report(&self, text: &str) {
        let len = text.len().min(self.text.len());
        // Only the first is kept: what follows is mostly its consequence.
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

/// Zeroed anonymous memory that children share, never unmapped.
///
/// # Panics
/// When there is no memory.
pub fn map_shared(bytes: usize) -> *mut u8 {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping at a place of the kernel's choice.
    let block =
        unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(block, libc::MAP_FAILED, "no memory for {bytes} shared bytes");
    block.cast()
}
