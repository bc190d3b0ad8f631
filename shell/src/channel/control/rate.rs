//! The rate at which a number grows, from regular updates.

use std::time::{Duration, Instant};

/// The growth in about the last second.
pub(in crate::channel) struct Rate {
    since: Instant,
    then: u64,
    last: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { since: Instant::now(), then: 0, last: 0 }
    }
}

impl Rate {
    pub(super) fn update(&mut self, sent: u64) {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Self { last: self.of(sent), since: Instant::now(), then: sent };
        }
    }

    /// Returns the current rate: of the current second when it is long enough, and of the last whole second before
    /// that.
    pub(super) fn of(&self, sent: u64) -> u64 {
        let elapsed = self.since.elapsed();
        if elapsed < Duration::from_millis(500) && self.last > 0 {
            return self.last;
        }
        let bytes = sent.saturating_sub(self.then);
        (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64
    }
}

/// The total of messages, from a count that wraps. With ten updates a second, no wrap is missed.
#[derive(Default)]
pub(in crate::channel) struct Messages {
    seen: u32,
    total: u64,
    rate: Rate,
}

impl Messages {
    pub(super) fn update(&mut self, count: u32) {
        self.total = self.with(count);
        self.seen = count;
        self.rate.update(self.total);
    }

    /// Returns the total, at this value of the count.
    pub(super) fn with(&self, count: u32) -> u64 {
        self.total + u64::from(count.wrapping_sub(self.seen))
    }

    /// Returns how many messages there were in the last second, at this total.
    pub(super) fn rate(&self, total: u64) -> u64 {
        self.rate.of(total)
    }
}

#[cfg(test)]
mod tests {
    use super::Messages;

    #[test]
    fn a_count_that_wraps_is_a_total_that_does_not() {
        let mut messages = Messages::default();
        for (count, total) in
            [(0, 0), (7, 7), (u32::MAX, u64::from(u32::MAX)), (4, (1 << 32) + 4), (4, (1 << 32) + 4)]
        {
            assert_eq!(messages.with(count), total);
            messages.update(count);
        }
    }
}
