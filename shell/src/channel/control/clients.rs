//! The connections to a named channel: processes that join it, ask for its state, or ask it to end.

use crate::channel::control::peers::Peer;
use crate::channel::control::pending::PendingPeers;
use crate::channel::control::state::ChannelState;
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::event_fd::watch;
use crate::os::socket::{receive, send_with_descriptors};
use crate::registry::Listener;
use crate::registry::protocol::{ControlMessage, RECORD, Record, Refusal, Start};
use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LISTENER: u64 = u64::MAX - 1;

/// The name is checked at every tenth tick.
const TICKS_PER_CHECK: u32 = 10;
/// How often to try to reclaim a place before the ticks take over.
const MAX_RECLAIMS: u32 = 200;
/// The control thread closes a connection that sends nothing for this long.
const MAX_SILENCE: Duration = Duration::from_secs(10);
/// The most packets of one client in a row.
const MAX_PACKETS: u32 = 16;

struct Client {
    socket: Arc<CloseOnForkFd>,
    pid: u32,
    since: Instant,
    /// The channel has granted it what it needs to join.
    granted: bool,
    place: Option<u32>,
}

/// The place of a receiver that disconnected.
struct Reclaim {
    id: u64,
    place: u32,
    attempts: u32,
}

/// The name of a channel, and the connections to it.
pub(super) struct Clients {
    epoll: Arc<OwnedFd>,
    listener: Listener,
    clients: HashMap<u64, Client>,
    pending: PendingPeers,
    next_id: u64,
    reclaims: Vec<Reclaim>,
    /// There were no descriptors, so the listener is not watched until the next tick.
    is_paused: bool,
    ticks: u32,
    /// The name is gone, and this was logged.
    is_missed: bool,
}

impl Clients {
    pub(super) fn new(listener: Listener, epoll: &Arc<OwnedFd>) -> Result<Self, Errno> {
        watch(epoll, listener.as_fd(), LISTENER)?;
        Ok(Self {
            epoll: epoll.clone(),
            listener,
            clients: HashMap::new(),
            pending: PendingPeers::default(),
            next_id: 0,
            reclaims: Vec::new(),
            is_paused: false,
            ticks: 0,
            is_missed: false,
        })
    }

    pub(super) fn on_event(&mut self, state: &ChannelState, event: u64) {
        match event {
            LISTENER => _ = self.accept(state),
            id => self.on_readable(state, id),
        }
    }

    /// Returns whether there are places to reclaim.
    pub(super) fn is_reclaiming(&self) -> bool {
        !self.reclaims.is_empty()
    }

    /// Reclaims what disconnected receivers held. The kernel closes a dead one's socket a moment before it drops its lock.
    pub(super) fn reclaim(&mut self, state: &ChannelState) {
        for Reclaim { id, place, attempts } in std::mem::take(&mut self.reclaims) {
            if state.transport.reclaim(place) || attempts >= MAX_RECLAIMS {
                Self::remove(state, id);
            } else {
                self.reclaims.push(Reclaim { id, place, attempts: attempts + 1 });
            }
        }
    }

    pub(super) fn on_tick(&mut self, state: &ChannelState) {
        if self.is_paused && watch(&self.epoll, self.listener.as_fd(), LISTENER).is_ok() {
            self.is_paused = false;
        }
        let is_silent = |client: &Client| !client.granted && client.since.elapsed() > MAX_SILENCE;
        let silent: Vec<_> =
            self.clients.iter().filter(|(_, client)| is_silent(client)).map(|(id, _)| *id).collect();
        silent.into_iter().for_each(|id| self.disconnect(state, id));
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_CHECK) {
            self.keep_name(state);
        }
        for place in state.transport.sweep(&state.status) {
            self.evict(state, place);
        }
    }

    /// Accepts one connection. Returns `false` if no connection can be accepted.
    fn accept(&mut self, state: &ChannelState) -> bool {
        let (socket, peer) = match self.listener.accept() {
            Ok(Some(accepted)) => accepted,
            Ok(None) => return false,
            Err(_) => {
                // No descriptors, most likely: the queue stays readable, so do not spin on it.
                match self.pending.oldest() {
                    Some(id) => self.make_room(state, id),
                    None => {
                        self.is_paused = epoll::delete(&self.epoll, &self.listener).is_ok();
                        return false;
                    }
                }
                return true;
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        if watch(&self.epoll, socket.as_fd(), id).is_ok() {
            let (socket, since) = (Arc::new(socket), Instant::now());
            self.clients.insert(id, Client { socket, pid: peer.pid, since, granted: false, place: None });
            self.pending.connected(id);
        }
        while let Some(id) = self.pending.excess() {
            self.make_room(state, id);
        }
        true
    }

    /// Puts the name back if another program has removed it.
    fn keep_name(&mut self, state: &ChannelState) {
        if !self.listener.is_gone() {
            return;
        }
        // Processes that found the old socket are still served.
        while self.accept(state) {}
        let _ = epoll::delete(&self.epoll, &self.listener);
        match self.listener.put_back() {
            Ok(()) => {
                tracing::warn!("the name '{}' was removed, and is back", self.listener.name());
                self.is_missed = false;
            }
            // Logged once, because the loop tries again and again.
            Err(error) if !self.is_missed => {
                tracing::warn!("the name '{}' was removed: {error}", self.listener.name());
                self.is_missed = true;
            }
            Err(_) => {}
        }
        self.is_paused = watch(&self.epoll, self.listener.as_fd(), LISTENER).is_err();
    }

    /// Closes the connection of a client that does not take part yet, unless it has sent something that brings it
    /// further.
    fn make_room(&mut self, state: &ChannelState, id: u64) {
        let before = self.pending.is_granted(id);
        self.on_readable(state, id);
        if self.pending.is_granted(id) == before {
            self.refuse(state, id);
        }
    }

    fn refuse(&mut self, state: &ChannelState, id: u64) {
        self.send(id, ControlMessage::Refused(Refusal::Unable));
        self.disconnect(state, id);
    }

    /// Reads a client's packets, and notices if it closed its connection. Epoll reports again what is left after
    /// [`MAX_PACKETS`].
    fn on_readable(&mut self, state: &ChannelState, id: u64) {
        let mut packet = [0; RECORD];
        for _ in 0..MAX_PACKETS {
            let Some(client) = self.clients.get(&id) else { return };
            match receive(&client.socket, &mut packet) {
                Err(Errno::AGAIN) => return,
                Ok(count) if count > 0 => match Record::decode(&packet[..count]) {
                    Ok(record) => self.on_record(state, id, record),
                    // Perhaps another version, which reads this side's version in the answer.
                    Err(_) => return self.refuse(state, id),
                },
                _ => return self.disconnect(state, id),
            }
        }
    }

    fn on_record(&mut self, state: &ChannelState, id: u64, record: Record) {
        match record.message {
            ControlMessage::Join(start) => self.join(state, id, record, start),
            ControlMessage::Seated(place) => self.admit(state, id, place),
            ControlMessage::Armed => {
                if let Some(Client { place: Some(place), socket, .. }) = self.clients.get(&id) {
                    state.transport.add_poll_waiter(*place, socket);
                    // Because of messages that were published between its arming and now.
                    self.send(id, ControlMessage::Changed);
                }
            }
            ControlMessage::Disconnect(how) => state.peers.update(id, |peer| peer.disconnected = Some(how)),
            ControlMessage::Status => {
                let mut packet = Record::plain(ControlMessage::Report).encode().to_vec();
                packet.extend(state.report().encode());
                if let Some(client) = self.clients.get(&id) {
                    let _ = send_with_descriptors(&client.socket, &packet, &[]);
                }
            }
            ControlMessage::Stop => {
                self.send(id, ControlMessage::Stopping);
                state.peers.ask_to_stop();
                state.transport.interrupt();
            }
            _ => self.disconnect(state, id), // a sender's message from a client
        }
    }

    fn join(&mut self, state: &ChannelState, id: u64, record: Record, start: Start) {
        if self.clients.get(&id).is_none_or(|client| client.granted) {
            return;
        }
        let mut grant = state.transport.grant(start);
        // Clients that do not take part may hold the descriptors that this one needs.
        for other in self.pending.oldest_but(id) {
            if matches!(grant, Err(Refusal::Unable)) {
                self.refuse(state, other);
                grant = state.transport.grant(start);
            }
        }
        let grant = match grant {
            Ok(grant) => grant,
            Err(reason) => return self.send(id, ControlMessage::Refused(reason)),
        };
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !state.peers.add(Peer::new(id, client.pid, record.token, grant.place)) {
            grant.place.map(|place| state.transport.reclaim(place));
            return self.send(id, ControlMessage::Refused(Refusal::Over));
        }
        let answer = Record::plain(grant.message).encode();
        let descriptors: Vec<_> = grant.descriptors.iter().map(AsFd::as_fd).collect();
        let is_sent = send_with_descriptors(&client.socket, &answer, &descriptors).is_ok();
        (client.granted, client.place) = (true, grant.place);
        self.pending.granted(id);
        grant.place.inspect(|_| self.pending.remove(id));
        match is_sent {
            true => state.peers.update(id, |_| {}),
            false => self.disconnect(state, id),
        }
    }

    fn admit(&mut self, state: &ChannelState, id: u64, place: u32) {
        let client = self.clients.get_mut(&id);
        let Some(client) = client.filter(|client| client.granted && client.place.is_none()) else { return };
        client.place = Some(place);
        self.pending.remove(id);
        // In one step, for threads that count receivers. The receiver may read everything as soon as it is admitted.
        let admit = |peer: &mut Peer| (peer.place, peer.joined) = (Some(place), state.transport.admit(place));
        state.peers.update(id, admit);
    }

    fn send(&self, id: u64, message: ControlMessage) {
        if let Some(client) = self.clients.get(&id) {
            let _ = send_with_descriptors(&client.socket, &Record::plain(message).encode(), &[]);
        }
    }

    fn disconnect(&mut self, state: &ChannelState, id: u64) {
        let Some(client) = self.clients.remove(&id) else { return };
        self.pending.remove(id);
        let _ = epoll::delete(&self.epoll, &client.socket);
        match client.place {
            Some(place) => {
                // Only its own socket, because another receiver may have its seat by now.
                state.transport.remove_poll_waiter(place, &client.socket);
                self.reclaims.push(Reclaim { id, place, attempts: 0 });
            }
            None => Self::remove(state, id),
        }
    }

    fn remove(state: &ChannelState, id: u64) {
        if state.peers.remove(id).is_some_and(|peer| peer.joined) {
            state.cancel_if_alone();
        }
    }

    /// Sends a receiver the eviction message and then evicts it, so that a receiver whose stream is cut knows why.
    fn evict(&mut self, state: &ChannelState, place: u32) {
        let has_place = |client: &Client| client.granted && client.place == Some(place);
        for (id, _) in self.clients.iter().filter(|(_, client)| has_place(client)) {
            self.send(*id, ControlMessage::Evicted);
            state.peers.update(*id, |peer| peer.evicted = true);
        }
        state.transport.evict(place);
        state.cancel_if_alone();
    }
}
