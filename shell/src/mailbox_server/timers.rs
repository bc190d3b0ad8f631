//! The deadlines of many connections: a heap, in which an entry may be out of date.
//!
//! Most deadlines move away before they come, such as the idle limit with each request. So the worker adds an entry
//! only if a connection's deadline comes nearer than its entry. When the time of an entry comes, the worker checks the
//! connection.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::session::Millis;
use super::worker_queue::Key;

/// The nearest entry of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Armed(Option<Millis>);

/// Deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Millis, Key)>>,
}

impl Timers {
    /// Ensures that the worker checks `key` by `deadline`.
    pub(crate) fn arm(&mut self, armed: &mut Armed, deadline: Option<Millis>, key: Key) {
        if let Some(at) = deadline
            && armed.0.is_none_or(|before| at < before)
        {
            armed.0 = Some(at);
            self.heap.push(Reverse((at, key)));
        }
    }

    /// Returns the time of the nearest entry.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Removes and returns an entry whose time has come.
    pub(crate) fn pop(&mut self, now: Millis) -> Option<(Millis, Key)> {
        let Reverse((at, _)) = *self.heap.peek()?;
        (at <= now).then(|| self.heap.pop()).flatten().map(|Reverse(entry)| entry)
    }

    /// Returns how many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops the entries that `keep` does not want, if there are far more entries than connections.
    pub(crate) fn prune(&mut self, mut keep: impl FnMut(Millis, Key) -> bool) {
        self.heap.retain(|Reverse((at, key))| keep(*at, *key));
    }
}

impl Armed {
    /// Returns whether the entry of time `at` is this connection's nearest. If so, the connection has no entry any
    /// more.
    pub(crate) fn fired(&mut self, at: Millis) -> bool {
        let mine = self.0 == Some(at);
        if mine {
            self.0 = None;
        }
        mine
    }

    /// Returns whether an entry of time `at` is in use.
    pub(crate) fn is(&self, at: Millis) -> bool {
        self.0 == Some(at)
    }
}
