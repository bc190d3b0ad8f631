//! Deadlines of many connections: a heap of the nearest, in which an entry may be out of date.
//!
//! Most deadlines move away before they come: with each request, the idle one. So an entry is only ever added when a
//! connection's deadline comes nearer than the entry it has; an entry whose time has come makes the worker look.

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
    /// Sees to it that `key` is looked at by `deadline`.
    pub(crate) fn arm(&mut self, armed: &mut Armed, deadline: Option<Millis>, key: Key) {
        if let Some(at) = deadline
            && armed.0.is_none_or(|before| at < before)
        {
            armed.0 = Some(at);
            self.heap.push(Reverse((at, key)));
        }
    }

    /// The nearest entry's time.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes an entry whose time has come.
    pub(crate) fn pop(&mut self, now: Millis) -> Option<(Millis, Key)> {
        let Reverse((at, _)) = *self.heap.peek()?;
        (at <= now).then(|| self.heap.pop()).flatten().map(|Reverse(entry)| entry)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops entries that `keep` does not want: when there are far more of them than connections.
    pub(crate) fn prune(&mut self, mut keep: impl FnMut(Millis, Key) -> bool) {
        self.heap.retain(|Reverse((at, key))| keep(*at, *key));
    }
}

impl Armed {
    /// Whether the entry of time `at` is this connection's nearest; if so, it has none any more.
    pub(crate) fn fired(&mut self, at: Millis) -> bool {
        let mine = self.0 == Some(at);
        if mine {
            self.0 = None;
        }
        mine
    }

    /// Whether an entry of time `at` is in use.
    pub(crate) fn is(&self, at: Millis) -> bool {
        self.0 == Some(at)
    }
}
