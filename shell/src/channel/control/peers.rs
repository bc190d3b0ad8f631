//! The table of a sender's receivers: the control thread fills it, and the data thread waits for changes of it.

use crate::os::event_fd::EventFd;
use crate::os::fork::{Child, Ending};
use crate::os::signal::stop_signal;
use crate::os::thread::unpoisoned;
use crate::registry::protocol::{DisconnectReason, Token};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Signal;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A receiver.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The number of its connection, or of the forked child, from 0.
    pub id: u64,
    /// Its process id; 0 if unknown.
    pub pid: u32,
    /// The run of a program that it belongs to.
    pub token: Token,
    /// Its place in the transport.
    pub place: Option<u32>,
    /// Whether it takes part.
    pub joined: bool,
    /// Whether it was evicted for being too slow.
    pub evicted: bool,
    /// The reason that it gave before it disconnected.
    pub disconnected: Option<DisconnectReason>,
    /// Its process, if this process forked it.
    pub process: Option<ForkedProcess>,
}

/// A forked receiver's process.
#[derive(Debug)]
pub(crate) struct ForkedProcess {
    pub child: Child,
    /// What it reported about itself.
    pub report: Option<Vec<u8>>,
    /// How it ended, once it is reaped.
    pub ended: Option<Ending>,
}

impl Peer {
    /// Returns a receiver that was admitted to join under this number.
    pub(crate) fn new(id: u64, pid: u32, token: Token, place: Option<u32>) -> Self {
        let joined = place.is_some();
        Self { id, pid, token, place, joined, evicted: false, disconnected: None, process: None }
    }

    /// Returns a receiver that this process forked.
    pub(crate) fn forked(id: u64, child: Child, place: Option<u32>) -> Self {
        let process = Some(ForkedProcess { child, report: None, ended: None });
        let pid = process.as_ref().map_or(0, |process| process.child.pid().as_raw_pid() as u32);
        Self { process, ..Self::new(id, pid, Token::default(), place) }
    }

    /// Returns whether it is a forked process that was reaped.
    pub(crate) fn has_ended(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.ended.is_some())
    }

    /// Returns whether the sender sends to it.
    fn takes_part(&self) -> bool {
        self.joined && !self.evicted && !self.has_ended()
    }
}

/// How the receivers that took part have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerSummary {
    /// Receivers that have the whole stream.
    pub done: u64,
    /// Receivers that left before the end.
    pub left: u64,
    /// The process ids of receivers that failed on their own side.
    pub failed: Vec<u32>,
    /// The process ids of receivers that disconnected without a reason.
    pub lost: Vec<u32>,
    /// The process ids of receivers that were evicted for being too slow.
    pub evicted: Vec<u32>,
}

impl PeerSummary {
    /// Counts a receiver. `gone` means that it is gone.
    fn count(&mut self, peer: &Peer, gone: bool) {
        match peer.disconnected {
            _ if !peer.joined => {}
            // Even if it was evicted later, because it had everything.
            Some(DisconnectReason::Done) => self.done += 1,
            _ if peer.evicted => remember(&mut self.evicted, peer.pid),
            Some(DisconnectReason::Left) => self.left += 1,
            Some(DisconnectReason::Failed) => remember(&mut self.failed, peer.pid),
            None if gone => remember(&mut self.lost, peer.pid),
            None => {}
        }
    }
}

#[derive(Default)]
struct State {
    peers: Vec<Peer>,
    summary: PeerSummary,
    /// No receiver may join any more.
    over: bool,
}

/// The receivers of one sender.
pub(crate) struct PeerTable {
    state: Mutex<State>,
    changed: Condvar,
    asked_to_stop: AtomicBool,
    /// It becomes readable when the data thread should stop its wait for the source.
    cancel: EventFd,
    clients: Option<Arc<ClientCounter>>,
}

/// Counts the runs of a client, each of which may connect several times.
#[derive(Default)]
pub(crate) struct ClientCounter {
    /// For each run: its open connections, and whether it took something.
    open: Mutex<HashMap<Token, (u32, bool)>>,
    served: AtomicU64,
}

impl ClientCounter {
    /// Counts a connection that a run has opened.
    pub(crate) fn connected(&self, run: Token) {
        self.lock().entry(run).or_default().0 += 1;
    }

    /// Counts a connection that a run has closed. `took`: the run took something through it. A run is served when it
    /// has closed its last connection.
    pub(crate) fn disconnected(&self, run: Token, took: bool) {
        let mut open = self.lock();
        let Some(client) = open.get_mut(&run) else { return };
        *client = (client.0.saturating_sub(1), client.1 | took);
        if client.0 == 0 {
            let took = client.1;
            open.remove(&run);
            self.served.fetch_add(took.into(), Ordering::Relaxed); // Relaxed: a count, which callers read repeatedly
        }
    }

    /// Returns how many runs took something and have closed all their connections.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, (u32, bool)>> {
        unpoisoned(&self.open)
    }
}

/// Why a wait for receivers ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitEnd {
    TimedOut,
    Interrupted,
    Stopped,
}

/// The most process ids of one kind in a [`PeerSummary`].
const MAX_PIDS: usize = 1024;
/// How long a forked receiver may take to end after SIGTERM, before it is killed.
const TERM_GRACE: Duration = Duration::from_secs(1);

impl PeerTable {
    /// Returns a table without receivers. `clients` counts the runs that they belong to.
    pub(crate) fn new(clients: Option<Arc<ClientCounter>>) -> Result<Self, Errno> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok(Self { state, changed, asked_to_stop: AtomicBool::new(false), cancel: EventFd::new()?, clients })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        unpoisoned(&self.state)
    }

    /// Adds a receiver. Returns false if no receiver may join any more.
    pub(crate) fn add(&self, peer: Peer) -> bool {
        let mut state = self.lock();
        if state.over {
            return false;
        }
        if let Some(clients) = &self.clients {
            clients.connected(peer.token);
        }
        state.peers.push(peer);
        true
    }

    /// Changes the entry of a receiver.
    pub(crate) fn update(&self, id: u64, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.lock().peers.iter_mut().find(|peer| peer.id == id) {
            change(peer);
        }
        self.changed.notify_all();
    }

    /// Records that the forked receivers at these places take part. `places` ascends.
    pub(crate) fn join_forked(&self, places: &[u32]) {
        for peer in &mut self.lock().peers {
            let place = peer.id as u32;
            if !peer.joined && places.binary_search(&place).is_ok() {
                (peer.place, peer.joined) = (Some(place), true);
            }
        }
        self.changed.notify_all();
    }

    /// Returns a descriptor for each forked receiver, which becomes readable when it ends.
    pub(crate) fn end_events(&self) -> Result<Vec<OwnedFd>, Errno> {
        let mut state = self.lock();
        state
            .peers
            .iter_mut()
            .filter_map(|peer| peer.process.as_mut())
            .map(|it| it.child.end_event())
            .collect()
    }

    /// Stores the report of a forked receiver.
    pub(crate) fn set_report(&self, id: u64, report: Vec<u8>) {
        let mut state = self.lock();
        let peer = usize::try_from(id).ok().and_then(|id| state.peers.get_mut(id));
        if let Some(process) = peer.and_then(|peer| peer.process.as_mut()) {
            process.report = Some(report);
        }
    }

    /// Reaps a forked receiver if it has ended. Returns whether it had reported, or `None` if it has not ended.
    pub(crate) fn reap(&self, id: u64) -> Option<bool> {
        let mut state = self.lock();
        let process = state.peers.get_mut(id as usize)?.process.as_mut()?;
        process.ended = Some(process.child.try_reap()?);
        let has_reported = process.report.is_some();
        drop(state);
        self.changed.notify_all();
        Some(has_reported)
    }

    /// Removes a receiver that is gone.
    pub(crate) fn remove(&self, id: u64) -> Option<Peer> {
        let mut state = self.lock();
        let at = state.peers.iter().position(|peer| peer.id == id)?;
        let peer = state.peers.swap_remove(at);
        state.summary.count(&peer, true);
        drop(state);
        if let Some(clients) = &self.clients {
            clients.disconnected(peer.token, peer.disconnected == Some(DisconnectReason::Done));
        }
        self.changed.notify_all();
        Some(peer)
    }

    /// Calls `read` for every receiver, in the order of the table.
    pub(crate) fn map<T>(&self, read: impl FnMut(&Peer) -> T) -> Vec<T> {
        self.lock().peers.iter().map(read).collect()
    }

    /// Returns how many receivers take part.
    pub(crate) fn joined(&self) -> usize {
        self.lock().peers.iter().filter(|peer| peer.takes_part()).count()
    }

    /// Returns whether any receiver takes part.
    pub(crate) fn has_receivers(&self) -> bool {
        self.lock().peers.iter().any(Peer::takes_part)
    }

    /// Returns how the receivers have ended that are gone, or that have announced it.
    pub(crate) fn summary(&self) -> PeerSummary {
        let state = self.lock();
        let mut summary = state.summary.clone();
        state.peers.iter().for_each(|peer| summary.count(peer, false));
        summary
    }

    /// Waits until `count` receivers take part.
    pub(crate) fn wait_joined(&self, count: usize, deadline: Option<Instant>) -> Result<(), WaitEnd> {
        self.wait(deadline, |state| state.peers.iter().filter(|peer| peer.takes_part()).count() >= count)
    }

    /// Waits until no receiver takes part.
    pub(crate) fn wait_alone(&self, deadline: Option<Instant>) -> Result<(), WaitEnd> {
        self.wait(deadline, |state| !state.peers.iter().any(Peer::takes_part))
    }

    /// Waits until every receiver that takes part has disconnected or announced that. No receiver may join from then
    /// on. A receiver that was granted a place and has not occupied it may still read everything, but this does not
    /// wait for it.
    pub(crate) fn wait_parted(&self, deadline: Option<Instant>) -> Result<(), WaitEnd> {
        self.wait(deadline, |state| {
            state.over = state.peers.iter().all(|peer| peer.disconnected.is_some() || !peer.takes_part());
            state.over
        })
    }

    /// Waits until every forked receiver takes part or has ended.
    pub(crate) fn wait_forked(&self) -> Result<(), WaitEnd> {
        self.wait(None, |state| state.peers.iter().all(|peer| peer.joined || peer.has_ended()))
    }

    /// Waits until every forked receiver has ended.
    pub(crate) fn wait_ended(&self) -> Result<(), WaitEnd> {
        self.wait(None, |state| state.peers.iter().all(Peer::has_ended))
    }

    /// Waits until `enough` returns true. It is called after each change, and at least every 50 ms.
    pub(crate) fn wait_until(
        &self,
        deadline: Option<Instant>,
        mut enough: impl FnMut() -> bool,
    ) -> Result<(), WaitEnd> {
        self.wait(deadline, |_| enough())
    }

    fn wait(&self, deadline: Option<Instant>, enough: impl FnMut(&mut State) -> bool) -> Result<(), WaitEnd> {
        let is_stopped = || match stop_signal() {
            _ if self.is_asked_to_stop() => Some(WaitEnd::Stopped),
            Some(_) => Some(WaitEnd::Interrupted),
            None => None,
        };
        self.wait_unless(deadline, is_stopped, enough)
    }

    fn wait_unless(
        &self,
        deadline: Option<Instant>,
        is_stopped: impl Fn() -> Option<WaitEnd>,
        mut enough: impl FnMut(&mut State) -> bool,
    ) -> Result<(), WaitEnd> {
        let mut state = self.lock();
        loop {
            if enough(&mut state) {
                return Ok(());
            }
            if let Some(end) = is_stopped() {
                return Err(end);
            }
            // The control thread notifies of every change; the limit is for signals, which notify nothing.
            let nap = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Err(WaitEnd::TimedOut),
                Some(left) => left.min(crate::os::futex::POLL_INTERVAL),
                None => crate::os::futex::POLL_INTERVAL,
            };
            state = self.changed.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn signal_forked(&self, signal: Signal) {
        let state = self.lock();
        let processes = state.peers.iter().filter_map(|peer| peer.process.as_ref());
        processes.filter(|process| process.ended.is_none()).for_each(|process| process.child.kill(signal));
    }

    /// Ends every forked receiver: asks with SIGTERM, and kills after a second, because a stopped process does not react.
    /// The control thread reaps.
    pub(crate) fn end_forked(&self) {
        self.signal_forked(Signal::TERM);
        let all_ended = |state: &mut State| state.peers.iter().all(Peer::has_ended);
        let deadline = Some(Instant::now() + TERM_GRACE);
        if self.wait_unless(deadline, || None, all_ended).is_err() {
            self.signal_forked(Signal::KILL);
            let _ = self.wait_unless(None, || None, all_ended);
        }
    }

    /// Kills and reaps every forked receiver, where there is no control thread that would reap.
    pub(crate) fn kill_forked(&self) {
        self.signal_forked(Signal::KILL);
        for process in self.lock().peers.iter_mut().filter_map(|peer| peer.process.as_mut()) {
            process.ended = Some(process.child.reap());
        }
    }

    /// Notes that another process asked the sender to end.
    pub(crate) fn ask_to_stop(&self) {
        self.asked_to_stop.store(true, Ordering::Relaxed);
        self.cancel();
        self.changed.notify_all();
    }

    /// Returns whether another process asked the sender to end. Relaxed: each waiter checks again, notified or not.
    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.asked_to_stop.load(Ordering::Relaxed)
    }

    /// Ends the data thread's wait for its source.
    pub(crate) fn cancel(&self) {
        self.cancel.signal();
    }

    /// The event of [`cancel`](Self::cancel). The data thread drains it before it checks the reason, because a new receiver
    /// may have joined since the last one left.
    pub(crate) fn cancel_event(&self) -> &EventFd {
        &self.cancel
    }

    /// Readable after [`cancel`](Self::cancel).
    pub(crate) fn cancelled(&self) -> BorrowedFd<'_> {
        self.cancel.as_fd()
    }
}

fn remember(pids: &mut Vec<u32>, pid: u32) {
    if pids.len() < MAX_PIDS {
        pids.push(pid);
    }
}

#[cfg(test)]
mod tests {
    use super::ClientCounter;

    #[test]
    fn a_run_that_connects_twice_is_one_client_and_one_that_takes_nothing_is_none() {
        let (clients, [a, b, c]) = (ClientCounter::default(), [1, 2, 3].map(|run| [run; 16]));
        clients.connected(a);
        clients.connected(b);
        clients.connected(a);
        clients.disconnected(a, true);
        assert_eq!(clients.served(), 0);
        clients.disconnected(a, false);
        clients.disconnected(b, false);
        assert_eq!(clients.served(), 1);
        clients.connected(c);
        clients.disconnected(c, true);
        clients.disconnected(c, true);
        assert_eq!(clients.served(), 2);
    }
}
