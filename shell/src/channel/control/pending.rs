//! Connections at an owner's control thread that take no part yet: how many there may be, and which makes room.
//!
//! Whoever connects costs the owner a descriptor. One that says nothing, or is let in and does not sit down, would keep that
//! from the others. So there may be a number of each, and the oldest makes room for the next.

use crate::shm::MAX_SEATS;
use std::collections::BTreeSet;

/// So many may not have been let in.
const STRANGERS: usize = 256;
/// So many may be let in and not have sat down: all seats may be waited for at once.
const UNSEATED: usize = MAX_SEATS as usize;

/// More descriptors than anybody needs who is let in.
const ENOUGH: usize = 16;

/// Connections by their numbers, which grow.
#[derive(Debug, Default)]
pub(crate) struct PendingPeers {
    strangers: BTreeSet<u64>,
    unseated: BTreeSet<u64>,
}

impl PendingPeers {
    /// Somebody has connected.
    pub fn come(&mut self, id: u64) {
        self.strangers.insert(id);
    }

    /// Somebody was let in.
    pub fn enter(&mut self, id: u64) {
        self.strangers.remove(&id);
        self.unseated.insert(id);
    }

    /// Somebody has a place, or is gone.
    pub fn leave(&mut self, id: u64) {
        self.strangers.remove(&id);
        self.unseated.remove(&id);
    }

    /// Whether it was let in; nothing once it has a place, or is gone.
    pub fn stage(&self, id: u64) -> Option<bool> {
        let unseated = self.unseated.contains(&id);
        (unseated || self.strangers.contains(&id)).then_some(unseated)
    }

    /// The oldest of those of whom there are too many.
    pub fn excess(&self) -> Option<u64> {
        let oldest = |all: &BTreeSet<u64>, most| all.first().copied().filter(|_| all.len() > most);
        oldest(&self.strangers, STRANGERS).or_else(|| oldest(&self.unseated, UNSEATED))
    }

    /// The oldest of those who were not let in, but for one: as many as have the descriptors that one needs.
    pub fn oldest_but(&self, id: u64) -> Vec<u64> {
        self.strangers.iter().copied().filter(|&other| other != id).take(ENOUGH).collect()
    }

    /// The oldest of all, those first who were not let in.
    pub fn oldest(&self) -> Option<u64> {
        self.strangers.first().or_else(|| self.unseated.first()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_too_many_makes_room() {
        let mut newcomers = PendingPeers::default();
        for id in 0..STRANGERS as u64 {
            newcomers.come(id);
        }
        assert_eq!(newcomers.excess(), None);
        newcomers.enter(0);
        newcomers.come(1000);
        assert_eq!((newcomers.excess(), newcomers.oldest()), (None, Some(1)));
        newcomers.come(1001);
        assert_eq!(newcomers.excess(), Some(1));
        newcomers.leave(1);
        assert_eq!(newcomers.excess(), None);
        for id in 2000..2000 + UNSEATED as u64 {
            newcomers.come(id);
            newcomers.enter(id);
        }
        assert_eq!(newcomers.excess(), Some(0));
        assert_eq!([0, 1, 2].map(|id| newcomers.stage(id)), [Some(true), None, Some(false)]);
        newcomers.leave(0);
        assert_eq!(newcomers.excess(), None);
    }
}
