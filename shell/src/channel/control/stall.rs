//! Detects stalled receivers: those that block the sender and have made no progress for some time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The position of each receiver when it last moved, and the time of that, by place.
pub(crate) struct StallDetector<M> {
    seen: HashMap<u32, (M, Instant)>,
}

impl<M: PartialEq> StallDetector<M> {
    pub(crate) fn new() -> Self {
        Self { seen: HashMap::new() }
    }

    /// Updates the positions of the receivers that block the sender now, by place. Returns the places of those that
    /// have not moved for `limit`.
    pub(crate) fn overdue(&mut self, limit: Duration, blocking: impl Iterator<Item = (u32, M)>) -> Vec<u32> {
        let mut now = HashMap::new();
        for (place, mark) in blocking {
            let since = match self.seen.remove(&place) {
                Some((before, since)) if before == mark => since,
                _ => Instant::now(),
            };
            now.insert(place, (mark, since));
        }
        self.seen = now;
        let overdue = self.seen.iter().filter(|(_, (_, since))| since.elapsed() >= limit);
        overdue.map(|(place, _)| *place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::StallDetector;
    use std::time::Duration;

    #[test]
    fn a_receiver_that_moves_or_leaves_or_is_replaced_begins_anew() {
        let mut stalls = StallDetector::new();
        let ever = Duration::from_secs(3600);
        assert!(stalls.overdue(ever, [(1, 'a'), (2, 'a')].into_iter()).is_empty());
        let began = stalls.seen[&1].1;
        std::thread::sleep(Duration::from_millis(2));
        assert!(stalls.overdue(ever, [(1, 'a'), (2, 'b')].into_iter()).is_empty());
        assert_eq!(stalls.seen[&1].1, began);
        assert!(stalls.seen[&2].1 > began);
        assert_eq!(stalls.overdue(began.elapsed(), [(1, 'a'), (2, 'c')].into_iter()), [1]);
        assert!(stalls.overdue(ever, [].into_iter()).is_empty());
        stalls.overdue(ever, [(1, 'a')].into_iter());
        assert!(stalls.seen[&1].1 > began);
    }
}
