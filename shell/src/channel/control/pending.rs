//! Connections that take no part yet: how many there may be, and which makes room.
//!
//! Each connection costs the sender a descriptor. A client that says nothing, or was granted a place and does not occupy it, would
//! keep that descriptor from others. So there may be a number of each kind, and the oldest makes room for the next.

use crate::shm::MAX_SEATS;
use std::collections::BTreeSet;

/// The most connections that were granted nothing.
const MAX_UNKNOWN: usize = 256;
/// The most connections that were granted a place and have not occupied it: one for each seat.
const MAX_GRANTED: usize = MAX_SEATS as usize;

/// More descriptors than one grant needs.
const ENOUGH: usize = 16;

/// Connections by their numbers, which grow.
#[derive(Debug, Default)]
pub(super) struct PendingPeers {
    unknown: BTreeSet<u64>,
    granted: BTreeSet<u64>,
}

impl PendingPeers {
    /// A client has connected.
    pub(super) fn connected(&mut self, id: u64) {
        self.unknown.insert(id);
    }

    /// A client was granted what it needs to join.
    pub(super) fn granted(&mut self, id: u64) {
        self.unknown.remove(&id);
        self.granted.insert(id);
    }

    /// A client has a place, or is gone.
    pub(super) fn remove(&mut self, id: u64) {
        self.unknown.remove(&id);
        self.granted.remove(&id);
    }

    /// Returns whether a client was granted a place; `None` once it has its place, or is gone.
    pub(super) fn is_granted(&self, id: u64) -> Option<bool> {
        let granted = self.granted.contains(&id);
        (granted || self.unknown.contains(&id)).then_some(granted)
    }

    /// Returns the oldest connection of a kind of which there are too many.
    pub(super) fn excess(&self) -> Option<u64> {
        let oldest = |all: &BTreeSet<u64>, most| all.first().copied().filter(|_| all.len() > most);
        oldest(&self.unknown, MAX_UNKNOWN).or_else(|| oldest(&self.granted, MAX_GRANTED))
    }

    /// Returns the oldest connections without a grant, except `id`: as many as hold the descriptors of one grant.
    pub(super) fn oldest_but(&self, id: u64) -> Vec<u64> {
        self.unknown.iter().copied().filter(|&other| other != id).take(ENOUGH).collect()
    }

    /// Returns the oldest connection. Connections without a grant come first.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.unknown.first().or_else(|| self.granted.first()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_too_many_makes_room() {
        let mut pending = PendingPeers::default();
        for id in 0..MAX_UNKNOWN as u64 {
            pending.connected(id);
        }
        assert_eq!(pending.excess(), None);
        pending.granted(0);
        pending.connected(1000);
        assert_eq!((pending.excess(), pending.oldest()), (None, Some(1)));
        pending.connected(1001);
        assert_eq!(pending.excess(), Some(1));
        pending.remove(1);
        assert_eq!(pending.excess(), None);
        for id in 2000..2000 + MAX_GRANTED as u64 {
            pending.connected(id);
            pending.granted(id);
        }
        assert_eq!(pending.excess(), Some(0));
        assert_eq!([0, 1, 2].map(|id| pending.is_granted(id)), [Some(true), None, Some(false)]);
        pending.remove(0);
        assert_eq!(pending.excess(), None);
    }
}
