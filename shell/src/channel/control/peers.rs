//! Who came to an owner: what its control thread learns of them, and what its data thread waits for.

use crate::os::event_fd::EventFd;
use crate::os::signal::stop_signal;
use crate::registry::protocol::{DisconnectReason, Token};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Somebody who was let in.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Tells it from others.
    pub id: u64,
    /// Its process id; 0 when unknown.
    pub pid: u32,
    /// The run it belongs to.
    pub token: Token,
    /// Its seat, or whatever its transport calls its place.
    pub place: Option<u32>,
    /// Whether it takes part.
    pub joined: bool,
    /// Whether it was thrown out, for being too slow.
    pub evicted: bool,
    /// What it said in parting.
    pub bye: Option<DisconnectReason>,
}

impl Peer {
    /// Whether it is one of those who are sent to.
    fn takes_part(&self) -> bool {
        self.joined && !self.evicted
    }
}

/// What became of those who took part and are no longer here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSummary {
    /// Have everything.
    pub done: u64,
    /// Had enough before the end.
    pub left: u64,
    /// Failed on their own side: their process ids.
    pub failed: Vec<u32>,
    /// Went without a word: their process ids.
    pub lost: Vec<u32>,
    /// Were thrown out for being too slow: their process ids.
    pub evicted: Vec<u32>,
}

impl PeerSummary {
    /// Counts somebody who took part, and went if `gone`.
    fn count(&mut self, guest: &Peer, gone: bool) {
        match guest.bye {
            _ if !guest.joined => {}
            // Even if it was thrown out meanwhile: everything had reached it.
            Some(DisconnectReason::Done) => self.done += 1,
            _ if guest.evicted => remember(&mut self.evicted, guest.pid),
            Some(DisconnectReason::Left) => self.left += 1,
            Some(DisconnectReason::Failed) => remember(&mut self.failed, guest.pid),
            None if gone => remember(&mut self.lost, guest.pid),
            None => {}
        }
    }
}

#[derive(Default)]
struct State {
    guests: Vec<Peer>,
    tally: PeerSummary,
    /// Nobody is let in any more.
    over: bool,
}

/// The guests of one owner.
pub(crate) struct PeerTable {
    state: Mutex<State>,
    changed: Condvar,
    asked_to_stop: AtomicBool,
    /// Readable once the data thread should stop waiting for whatever it waits for.
    cancel: EventFd,
    visits: Option<Arc<ClientCounter>>,
}

/// How many runs of a client were here, whatever ways each of them came.
#[derive(Default)]
pub(crate) struct ClientCounter {
    /// By run: its open connections, and whether it took something.
    open: Mutex<HashMap<Token, (u32, bool)>>,
    over: AtomicU64,
}

impl ClientCounter {
    /// A run has come one more way.
    pub fn come(&self, run: Token) {
        self.lock().entry(run).or_default().0 += 1;
    }

    /// A run has left one of its ways, and has taken something there or not. With its last one its visit is over.
    pub fn go(&self, run: Token, took: bool) {
        let mut open = self.lock();
        let Some(visit) = open.get_mut(&run) else { return };
        *visit = (visit.0.saturating_sub(1), visit.1 | took);
        if visit.0 == 0 {
            let took = visit.1;
            open.remove(&run);
            self.over.fetch_add(took.into(), Ordering::Relaxed); // Relaxed: a count, looked at again and again
        }
    }

    /// How many runs took something and are through.
    pub fn over(&self) -> u64 {
        self.over.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, (u32, bool)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a wait for guests ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitEnd {
    TimedOut,
    Interrupted,
    Stopped,
}

/// As many process ids are remembered, for telling.
const REMEMBERED: usize = 1024;

impl PeerTable {
    pub fn new() -> Result<Self, Errno> {
        Self::counted(None)
    }

    /// The same, with their visits counted.
    pub fn counted(visits: Option<Arc<ClientCounter>>) -> Result<Self, Errno> {
        let cancel = EventFd::new()?;
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok(Self { state, changed, asked_to_stop: AtomicBool::new(false), cancel, visits })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets somebody in; false if it is over.
    pub fn enter(&self, guest: Peer) -> bool {
        let mut state = self.lock();
        if state.over {
            return false;
        }
        if let Some(visits) = &self.visits {
            visits.come(guest.token);
        }
        state.guests.push(guest);
        true
    }

    /// Changes what is known of a guest.
    pub fn update(&self, id: u64, change: impl FnOnce(&mut Peer)) {
        if let Some(guest) = self.lock().guests.iter_mut().find(|guest| guest.id == id) {
            change(guest);
        }
        self.changed.notify_all();
    }

    /// Somebody is gone.
    pub fn leave(&self, id: u64) -> Option<Peer> {
        let mut state = self.lock();
        let at = state.guests.iter().position(|guest| guest.id == id)?;
        let guest = state.guests.swap_remove(at);
        state.tally.count(&guest, true);
        drop(state);
        if let Some(visits) = &self.visits {
            visits.go(guest.token, guest.bye == Some(DisconnectReason::Done));
        }
        self.changed.notify_all();
        Some(guest)
    }

    /// Everybody who is here.
    pub fn all(&self) -> Vec<Peer> {
        self.lock().guests.clone()
    }

    /// How many take part.
    pub fn joined(&self) -> usize {
        self.lock().guests.iter().filter(|guest| guest.takes_part()).count()
    }

    /// What became of those who are no longer here, those who have said goodbye or were thrown out included.
    pub fn tally(&self) -> PeerSummary {
        let state = self.lock();
        let mut tally = state.tally.clone();
        state.guests.iter().for_each(|guest| tally.count(guest, false));
        tally
    }

    /// Waits until so many take part.
    pub fn wait_joined(&self, count: usize, deadline: Option<Instant>) -> Result<(), WaitEnd> {
        let taking_part = |state: &State| state.guests.iter().filter(|guest| guest.takes_part()).count();
        self.wait(deadline, |state| taking_part(state) >= count)
    }

    /// Waits until nobody takes part.
    pub fn wait_alone(&self, deadline: Option<Instant>) -> Result<(), WaitEnd> {
        self.wait(deadline, |state| !state.guests.iter().any(Peer::takes_part))
    }

    /// Waits until everybody who takes part has gone or said goodbye, and lets nobody in from then on. Who was let in and has
    /// not sat down yet may still read everything; nobody waits for it.
    pub fn wait_parted(&self, deadline: Option<Instant>) -> Result<(), WaitEnd> {
        self.wait(deadline, |state| {
            state.over = state.guests.iter().all(|guest| guest.bye.is_some() || !guest.takes_part());
            state.over
        })
    }

    /// Waits until `enough` says so, asking whenever something changed, and now and then.
    pub fn wait_until(
        &self,
        deadline: Option<Instant>,
        mut enough: impl FnMut() -> bool,
    ) -> Result<(), WaitEnd> {
        self.wait(deadline, |_| enough())
    }

    fn wait(
        &self,
        deadline: Option<Instant>,
        mut enough: impl FnMut(&mut State) -> bool,
    ) -> Result<(), WaitEnd> {
        let mut state = self.lock();
        loop {
            if enough(&mut state) {
                return Ok(());
            }
            if self.is_asked_to_stop() {
                return Err(WaitEnd::Stopped);
            }
            if stop_signal().is_some() {
                return Err(WaitEnd::Interrupted);
            }
            // The control thread tells of every change; the bound is for signals, which tell nobody.
            let nap = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Err(WaitEnd::TimedOut),
                Some(left) => left.min(crate::os::futex::POLL_INTERVAL),
                None => crate::os::futex::POLL_INTERVAL,
            };
            state = self.changed.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Somebody asks the owner to end.
    pub fn ask_to_stop(&self) {
        self.asked_to_stop.store(true, Ordering::Relaxed);
        self.cancel();
        self.changed.notify_all();
    }

    /// Whether somebody did. Relaxed: whoever waits looks again, told or not.
    pub fn is_asked_to_stop(&self) -> bool {
        self.asked_to_stop.load(Ordering::Relaxed)
    }

    /// Ends the data thread's wait for its source.
    pub fn cancel(&self) {
        self.cancel.signal();
    }

    /// What that rings. A data thread that looks for the reason now hushes it: that may be gone, when somebody came after the
    /// last one went.
    pub fn cancel_bell(&self) -> &EventFd {
        &self.cancel
    }

    /// Readable once that happened.
    pub fn cancelled(&self) -> BorrowedFd<'_> {
        self.cancel.as_fd()
    }
}

fn remember(pids: &mut Vec<u32>, pid: u32) {
    if pids.len() < REMEMBERED {
        pids.push(pid);
    }
}

#[cfg(test)]
mod tests {
    use super::ClientCounter;

    #[test]
    fn a_run_that_comes_two_ways_is_one_visit_and_one_that_takes_nothing_is_none() {
        let (visits, [a, b, c]) = (ClientCounter::default(), [1, 2, 3].map(|run| [run; 16]));
        visits.come(a);
        visits.come(b);
        visits.come(a);
        visits.go(a, true);
        assert_eq!(visits.over(), 0);
        visits.go(a, false);
        visits.go(b, false);
        assert_eq!(visits.over(), 1);
        visits.come(c);
        visits.go(c, true);
        visits.go(c, true);
        assert_eq!(visits.over(), 2);
    }
}
