//! Who does not move, and since when: whom an owner that throws out the slow is to throw out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How far each place was when it was last seen to move, and when that was.
pub(crate) struct StallDetector<M> {
    seen: HashMap<u32, (M, Instant)>,
}

impl<M: PartialEq> StallDetector<M> {
    pub fn new() -> Self {
        Self { seen: HashMap::new() }
    }

    /// Takes in how far those are that hold others up just now, by place; returns those that have not moved for `patience`.
    pub fn overdue(&mut self, patience: Duration, holding_up: impl Iterator<Item = (u32, M)>) -> Vec<u32> {
        let mut now = HashMap::new();
        for (place, mark) in holding_up {
            let since = match self.seen.remove(&place) {
                Some((before, since)) if before == mark => since,
                _ => Instant::now(),
            };
            now.insert(place, (mark, since));
        }
        self.seen = now;
        let overdue = self.seen.iter().filter(|(_, (_, since))| since.elapsed() >= patience);
        overdue.map(|(place, _)| *place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::StallDetector;
    use std::time::Duration;

    #[test]
    fn who_moves_goes_away_or_gives_its_place_to_another_begins_anew() {
        let mut stuck = StallDetector::new();
        let ever = Duration::from_secs(3600);
        assert!(stuck.overdue(ever, [(1, 'a'), (2, 'a')].into_iter()).is_empty());
        let began = stuck.seen[&1].1;
        std::thread::sleep(Duration::from_millis(2));
        assert!(stuck.overdue(ever, [(1, 'a'), (2, 'b')].into_iter()).is_empty());
        assert_eq!(stuck.seen[&1].1, began);
        assert!(stuck.seen[&2].1 > began);
        assert_eq!(stuck.overdue(began.elapsed(), [(1, 'a'), (2, 'c')].into_iter()), [1]);
        assert!(stuck.overdue(ever, [].into_iter()).is_empty());
        stuck.overdue(ever, [(1, 'a')].into_iter());
        assert!(stuck.seen[&1].1 > began);
    }
}
