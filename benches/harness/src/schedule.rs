//! A fixed schedule for a sender, and what receivers record by it.
//!
//! Message number n is due at `start + n * period`, whether or not the sender is late with earlier ones. A message's
//! latency counts from the time at which it was due. So a sender that was held up makes every message late that was due
//! meanwhile, as it is for a user of the stream. Otherwise a stall would count only once.

use crate::clock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

/// The number of intervals in a [`Timeline`]. What comes later counts in the last one.
pub const BUCKETS: usize = 128;
/// The length of an interval.
pub const BUCKET: Duration = Duration::from_millis(10);

/// When each message is due. Zeroed memory is a valid value.
pub struct Schedule {
    start_ns: AtomicU64,
    period_ns: AtomicU64,
    count: AtomicU64,
}

impl Schedule {
    /// Sets a schedule of `count` messages, `rate` per second. Call it before the fork.
    pub fn set(&self, rate: u64, count: u64) {
        self.start_ns.store(0, Relaxed);
        self.period_ns.store(1_000_000_000 / rate.max(1), Relaxed);
        self.count.store(count, Relaxed);
    }

    /// Returns how many messages there are in all.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Starts the schedule. The sender calls it; the first message is due in a moment.
    pub fn begin(&self) {
        // Release: a receiver of a message must know when it was due. (The message itself orders this already.)
        self.start_ns.store(clock::nanoseconds() + 1_000_000, Release);
    }

    /// Waits until a message is due. The sender keeps its core busy, because the delay of its own sleep would not be
    /// the channel's.
    pub fn wait_for(&self, number: u64) {
        let due = self.due(number);
        while clock::nanoseconds() < due {
            std::thread::yield_now();
        }
    }

    /// Returns how long after its due time a message has arrived just now, in nanoseconds.
    pub fn late(&self, number: u64) -> u64 {
        clock::nanoseconds().saturating_sub(self.due(number))
    }

    /// Returns the time since the first message was due.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.late(0))
    }

    fn due(&self, number: u64) -> u64 {
        self.start_ns.load(Acquire) + number * self.period_ns.load(Relaxed)
    }
}

/// How many messages one party has sent or received in each interval. Zeroed memory is a valid value.
pub struct Timeline([AtomicU32; BUCKETS]);

impl Timeline {
    pub fn reset(&self) {
        self.0.iter().for_each(|bucket| bucket.store(0, Relaxed));
    }

    /// Counts one more message, `elapsed` after the start.
    pub fn count(&self, elapsed: Duration) {
        let bucket = (elapsed.as_nanos() / BUCKET.as_nanos()) as usize;
        self.0[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// Returns the counts, without the empty intervals at the end.
    pub fn counts(&self) -> Vec<u32> {
        let mut counts: Vec<u32> = self.0.iter().map(|bucket| bucket.load(Relaxed)).collect();
        counts.truncate(counts.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1));
        counts
    }
}
