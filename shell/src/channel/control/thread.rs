//! The control thread of a sender. It answers the channel's socket: it admits receivers, reclaims the seats of dead ones, reports
//! the state, and wakes the data thread. So a kill is noticed within a millisecond, also while the data thread waits in `read`.

use crate::channel::control::peers::{Peer, PeerTable};
use crate::channel::control::pending::PendingPeers;
use crate::channel::control::progress::Progress;
use crate::channel::control::rate::{Messages, Rate};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::{OsError, cannot};
use crate::os::event_fd::{EventFd, new_epoll};
use crate::os::socket::{receive, send_with_descriptors};
use crate::os::thread::start_thread;
use crate::os::timeout::timespec;
use crate::registry::Listener;
use crate::registry::protocol::{ControlMessage, DisconnectReason, RECORD, Record, Refusal, Start};
use crate::registry::status::{Kind, Participant, PeerState, Phase, Report, TransportKind};
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// What is handed to somebody who joins.
pub(crate) struct JoinGrant {
    pub saying: ControlMessage,
    pub descriptors: Vec<CloseOnForkFd>,
    /// Its place, where the owner chooses it; then it takes part at once.
    pub place: Option<u32>,
}

/// How far somebody is behind.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lag {
    pub bytes: u64,
    /// Thousandths of what the channel can hold.
    pub fill: u32,
}

impl Lag {
    /// So many bytes, which take `part` of `whole`.
    pub fn new(bytes: u64, part: u64, whole: u64) -> Self {
        Self { bytes, fill: (part.saturating_mul(1000) / whole.max(1)).min(1000) as u32 }
    }
}

/// What a transport does for those who come. Places are seats of a ring, or numbers of streams.
pub(crate) trait Transport: Send + Sync + 'static {
    fn kind(&self) -> Kind;
    fn way(&self) -> TransportKind;
    /// Bytes of memory.
    fn memory(&self) -> u64;
    /// Somebody wants to join.
    fn hand_over(&self, from: Start) -> Result<JoinGrant, Refusal>;
    /// Somebody sits down. Whether it takes part now.
    fn admit(&self, place: u32) -> bool;
    /// How somebody is doing, and how far behind.
    fn standing(&self, place: u32) -> (PeerState, Lag);
    /// How many messages were published, counting over at 32 bits; 0 where bytes travel without.
    fn messages(&self) -> u32;
    /// Somebody hung up. Whether everything of it is cleared away; if not, this is called again.
    fn clear(&self, place: u32) -> bool;
    /// Somebody sleeps elsewhere and is to be told of news over this socket.
    fn will_tell(&self, place: u32, socket: &Arc<CloseOnForkFd>);
    /// No longer over this socket.
    fn tells_no_more(&self, place: u32, socket: &Arc<CloseOnForkFd>);
    /// Ten times a second; returns who is to be thrown out.
    fn look(&self, pulse: &SendStatus) -> Vec<u32>;
    /// Throws somebody out.
    fn evict(&self, place: u32);
    /// The data thread is to stop waiting.
    fn interrupt(&self);
}

/// What the data thread tells the control thread: plain counters, which order nothing.
#[derive(Default)]
pub(crate) struct SendStatus {
    /// How the bytes flow.
    pub flow: Progress,
    wanted: AtomicU32,
    started: AtomicBool,
    /// Being alone is a reason to stop.
    needs_company: AtomicBool,
}

impl SendStatus {
    pub fn want(&self, count: u32) {
        self.wanted.store(count, Ordering::Relaxed);
    }

    pub fn start(&self, needs_company: bool) {
        self.started.store(true, Ordering::Relaxed);
        self.needs_company.store(needs_company, Ordering::Relaxed);
    }

    fn stage(&self) -> Phase {
        if self.started.load(Ordering::Relaxed) { Phase::Live } else { Phase::Waiting }
    }
}

/// How things stand, for whoever watches.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Bytes sent.
    pub sent: u64,
    /// Whether the sender waits for its peers.
    pub waiting: bool,
    /// How many peers it wants before it begins; `None` once it has begun.
    pub wanted: Option<u32>,
    /// Those who take part.
    pub participants: Vec<Participant>,
}

/// Hears how things stand, ten times a second, in a thread of its own.
pub type ProgressObserver = Box<dyn FnMut(&Snapshot) + Send>;

/// The handle of the control thread. Dropping it ends the thread and gives the name back.
pub(crate) struct ControlThread {
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

const LISTENER: u64 = u64::MAX;
const END: u64 = u64::MAX - 1;

/// How often to look around.
const TICK: Duration = Duration::from_millis(100);
/// Every so many ticks the name is looked after.
const KEEPING: u32 = 10;
/// How often to look whether the kernel has cleared away somebody who hung up.
const CLEARING: Duration = Duration::from_millis(1);
/// So often; then the ticks will find it.
const CLEARINGS: u32 = 200;
/// Connections that never said anything.
const SILENCE: Duration = Duration::from_secs(10);
/// So many packets of one client, then the others have their turn.
const PACKETS: u32 = 16;

impl ControlThread {
    /// Starts the thread. It belongs to this process, so forks come before it.
    ///
    /// # Errors
    /// A system call that failed.
    pub fn open(
        listener: Listener,
        party: Arc<dyn Transport>,
        guests: Arc<PeerTable>,
        pulse: Arc<SendStatus>,
        watcher: Option<ProgressObserver>,
    ) -> Result<Self, OsError> {
        let end = Arc::new(EventFd::new().map_err(cannot("make an event"))?);
        let epoll = new_epoll().map_err(cannot("wait for events"))?;
        watch(&epoll, listener.as_fd(), LISTENER).map_err(cannot("wait for events"))?;
        watch(&epoll, end.as_fd(), END).map_err(cannot("wait for events"))?;
        let clerk = ControlLoop {
            epoll,
            listener: Some(listener),
            party,
            guests,
            pulse,
            watcher,
            clients: HashMap::new(),
            newcomers: PendingPeers::default(),
            next: 0,
            clearing: Vec::new(),
            resting: false,
            ticks: 0,
            is_missed: false,
            rate: Rate::default(),
            messages: Messages::default(),
        };
        let thread = start_thread(Builder::new().name("control".into()), move || clerk.run())
            .map_err(|error| OsError::io("start a thread", &error))?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        self.end.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(epoll: &OwnedFd, fd: BorrowedFd<'_>, data: u64) -> Result<(), Errno> {
    epoll::add(epoll, fd, epoll::EventData::new_u64(data), epoll::EventFlags::IN)
}

struct Client {
    socket: Arc<CloseOnForkFd>,
    pid: u32,
    since: Instant,
    /// Let in.
    guest: bool,
    place: Option<u32>,
}

struct ControlLoop {
    epoll: OwnedFd,
    listener: Option<Listener>,
    party: Arc<dyn Transport>,
    guests: Arc<PeerTable>,
    pulse: Arc<SendStatus>,
    watcher: Option<ProgressObserver>,
    clients: HashMap<u64, Client>,
    newcomers: PendingPeers,
    next: u64,
    /// Places of those who hung up, with how often they were looked at.
    clearing: Vec<(u64, u32, u32)>,
    /// There were no descriptors: the listener rests until the next tick.
    resting: bool,
    ticks: u32,
    /// The name is gone, and this was logged.
    is_missed: bool,
    rate: Rate,
    messages: Messages,
}

impl ControlLoop {
    fn run(mut self) {
        let mut last_tick = Instant::now();
        loop {
            let mut events =
                [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
            let nap = if self.clearing.is_empty() { TICK } else { CLEARING };
            let count = epoll::wait(&self.epoll, &mut events, Some(&timespec(nap))).unwrap_or(0); // EINTR: look around
            for event in &events[..count] {
                let data = event.data;
                match data.u64() {
                    LISTENER => _ = self.accept(),
                    END => return,
                    id => self.hear(id),
                }
            }
            self.clear();
            if last_tick.elapsed() >= TICK {
                last_tick = Instant::now();
                self.tick();
            }
        }
    }

    /// Takes in one that waits. False: there is none that can be taken in.
    fn accept(&mut self) -> bool {
        let Some(listener) = &self.listener else { return false };
        let (socket, peer) = match listener.accept() {
            Ok(Some(accepted)) => accepted,
            Ok(None) => return false,
            Err(_) => {
                // No descriptors, most likely: the queue stays readable, so do not spin on it.
                match self.newcomers.oldest() {
                    Some(id) => self.make_room(id),
                    None => {
                        self.resting = epoll::delete(&self.epoll, listener).is_ok();
                        return false;
                    }
                }
                return true;
            }
        };
        let id = self.next;
        self.next += 1;
        if watch(&self.epoll, socket.as_fd(), id).is_ok() {
            let (socket, since) = (Arc::new(socket), Instant::now());
            self.clients.insert(id, Client { socket, pid: peer.pid, since, guest: false, place: None });
            self.newcomers.come(id);
        }
        while let Some(id) = self.newcomers.excess() {
            self.make_room(id);
        }
        true
    }

    /// Puts the name back if somebody has removed it, a program that cleans up for instance.
    fn keep_name(&mut self) {
        if !self.listener.as_ref().is_some_and(Listener::is_gone) {
            return;
        }
        // Whoever found the old socket is still served.
        while self.accept() {}
        let Some(listener) = &mut self.listener else { return };
        let _ = epoll::delete(&self.epoll, &*listener);
        match listener.put_back() {
            Ok(()) => {
                tracing::warn!("the name '{}' was removed, and is back", listener.name());
                self.is_missed = false;
            }
            // Once: it is tried again and again.
            Err(error) if !self.is_missed => {
                tracing::warn!("the name '{}' was removed: {error}", listener.name());
                self.is_missed = true;
            }
            Err(_) => {}
        }
        self.resting = watch(&self.epoll, listener.as_fd(), LISTENER).is_err();
    }

    /// Sends somebody away who takes no part yet, unless it has said meanwhile what brings it further.
    fn make_room(&mut self, id: u64) {
        let before = self.newcomers.stage(id);
        self.hear(id);
        if self.newcomers.stage(id) == before {
            self.send_away(id);
        }
    }

    fn send_away(&mut self, id: u64) {
        self.say(id, ControlMessage::Refused(Refusal::Unable));
        self.hang_up(id);
    }

    /// Takes in what a client says, up to its hanging up, but not for ever: what is left, epoll tells again.
    fn hear(&mut self, id: u64) {
        let mut packet = [0; RECORD];
        for _ in 0..PACKETS {
            let Some(client) = self.clients.get(&id) else { return };
            match receive(&client.socket, &mut packet) {
                Err(Errno::AGAIN) => return,
                Ok(count) if count > 0 => match Record::decode(&packet[..count]) {
                    Ok(record) => self.answer(id, record),
                    Err(_) => {
                        // Another version perhaps: it reads ours in the answer.
                        self.say(id, ControlMessage::Refused(Refusal::Unable));
                        return self.hang_up(id);
                    }
                },
                _ => return self.hang_up(id),
            }
        }
    }

    fn answer(&mut self, id: u64, record: Record) {
        match record.saying {
            ControlMessage::Join(from) => self.join(id, record, from),
            ControlMessage::Seated(place) => self.seat(id, place),
            ControlMessage::Armed => {
                if let Some(Client { place: Some(place), socket, .. }) = self.clients.get(&id) {
                    self.party.will_tell(*place, socket);
                    // Whatever came between its arming and now.
                    self.say(id, ControlMessage::Told);
                }
            }
            ControlMessage::Bye(how) => self.guests.update(id, |guest| guest.bye = Some(how)),
            ControlMessage::Status => {
                let mut packet = Record::plain(ControlMessage::Report).encode().to_vec();
                packet.extend(self.report().encode());
                if let Some(client) = self.clients.get(&id) {
                    let _ = send_with_descriptors(&client.socket, &packet, &[]);
                }
            }
            ControlMessage::Stop => {
                self.say(id, ControlMessage::Stopping);
                self.guests.ask_to_stop();
                self.party.interrupt();
            }
            _ => self.hang_up(id), // an owner's words from a client
        }
    }

    fn join(&mut self, id: u64, record: Record, from: Start) {
        if self.clients.get(&id).is_none_or(|client| client.guest) {
            return;
        }
        let mut handed = self.party.hand_over(from);
        // What it takes is perhaps in the hands of others, who take no part.
        for other in self.newcomers.oldest_but(id) {
            if matches!(handed, Err(Refusal::Unable)) {
                self.send_away(other);
                handed = self.party.hand_over(from);
            }
        }
        let handed = match handed {
            Ok(handed) => handed,
            Err(why) => return self.say(id, ControlMessage::Refused(why)),
        };
        let Some(client) = self.clients.get(&id) else { return };
        let guest = Peer {
            id,
            pid: client.pid,
            token: record.token,
            place: handed.place,
            joined: handed.place.is_some(),
            evicted: false,
            bye: None,
        };
        if !self.guests.enter(guest) {
            handed.place.map(|place| self.party.clear(place));
            return self.say(id, ControlMessage::Refused(Refusal::Over));
        }
        let words = Record::plain(handed.saying).encode();
        let objects: Vec<_> = handed.descriptors.iter().map(AsFd::as_fd).collect();
        let sent = send_with_descriptors(&client.socket, &words, &objects).is_ok();
        if let Some(client) = self.clients.get_mut(&id) {
            (client.guest, client.place) = (true, handed.place);
            self.newcomers.enter(id);
            handed.place.inspect(|_| self.newcomers.leave(id));
        }
        match sent {
            true => self.guests.update(id, |_| {}),
            false => self.hang_up(id),
        }
    }

    fn seat(&mut self, id: u64, place: u32) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| client.guest && client.place.is_none())
        else {
            return;
        };
        client.place = Some(place);
        self.newcomers.leave(id);
        // In one step for whoever counts the guests: it may read everything the moment it is admitted.
        self.guests.update(id, |guest| (guest.place, guest.joined) = (Some(place), self.party.admit(place)));
    }

    fn say(&self, id: u64, saying: ControlMessage) {
        if let Some(client) = self.clients.get(&id) {
            let _ = send_with_descriptors(&client.socket, &Record::plain(saying).encode(), &[]);
        }
    }

    fn hang_up(&mut self, id: u64) {
        let Some(client) = self.clients.remove(&id) else { return };
        self.newcomers.leave(id);
        let _ = epoll::delete(&self.epoll, &client.socket);
        match client.place {
            Some(place) => {
                // Its own alone: its seat may be another's by now.
                self.party.tells_no_more(place, &client.socket);
                self.clearing.push((id, place, 0));
            }
            None => self.gone(id),
        }
    }

    /// Clears away those who hung up. The kernel closes a dead one's socket a moment before it drops its lock.
    fn clear(&mut self) {
        for (id, place, looks) in std::mem::take(&mut self.clearing) {
            if self.party.clear(place) || looks >= CLEARINGS {
                self.gone(id);
            } else {
                self.clearing.push((id, place, looks + 1));
            }
        }
    }

    fn gone(&self, id: u64) {
        if self.guests.leave(id).is_some_and(|guest| guest.joined) {
            self.look_for_company();
        }
    }

    /// Somebody takes part no longer.
    fn look_for_company(&self) {
        if self.pulse.needs_company.load(Ordering::Relaxed) && self.guests.joined() == 0 {
            self.guests.cancel();
        }
    }

    /// Tells somebody that it is thrown out, and then does it, so that whoever finds its stream cut knows why.
    fn evict(&mut self, place: u32) {
        let sits_there = |client: &Client| client.guest && client.place == Some(place);
        let ids: Vec<_> =
            self.clients.iter().filter(|(_, client)| sits_there(client)).map(|(id, _)| *id).collect();
        for id in ids {
            self.say(id, ControlMessage::Evicted);
            self.guests.update(id, |guest| guest.evicted = true);
        }
        self.party.evict(place);
        self.look_for_company();
    }

    fn tick(&mut self) {
        if self.resting
            && let Some(listener) = &self.listener
            && watch(&self.epoll, listener.as_fd(), LISTENER).is_ok()
        {
            self.resting = false;
        }
        let silent = |client: &Client| !client.guest && client.since.elapsed() > SILENCE;
        let silent: Vec<_> =
            self.clients.iter().filter(|(_, client)| silent(client)).map(|(id, _)| *id).collect();
        silent.into_iter().for_each(|id| self.hang_up(id));
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(KEEPING) {
            self.keep_name();
        }
        for place in self.party.look(&self.pulse) {
            self.evict(place);
        }
        self.rate.look(self.pulse.flow.sent());
        self.messages.look(self.party.messages());
        if self.watcher.is_some() {
            let view = self.view();
            if let Some(watcher) = &mut self.watcher {
                watcher(&view);
            }
        }
    }

    fn view(&self) -> Snapshot {
        Snapshot {
            sent: self.pulse.flow.sent(),
            waiting: self.pulse.flow.is_waiting(),
            wanted: (self.pulse.stage() == Phase::Waiting).then(|| self.pulse.wanted.load(Ordering::Relaxed)),
            participants: self.participants(),
        }
    }

    fn participants(&self) -> Vec<Participant> {
        let standing = |guest: &Peer| match (guest.bye, guest.place) {
            (Some(DisconnectReason::Done), _) => (PeerState::Done, Lag::default()),
            _ if guest.evicted => (PeerState::Evicted, Lag::default()),
            (_, Some(place)) => self.party.standing(place),
            (_, None) => (PeerState::Joining, Lag::default()),
        };
        let all = self.guests.all();
        let participant = |guest: &Peer| {
            let (standing, lag) = standing(guest);
            Participant { pid: guest.pid, standing, behind: lag.bytes, fill: lag.fill }
        };
        all.iter().map(participant).collect()
    }

    fn report(&self) -> Report {
        let messages = self.messages.with(self.party.messages());
        Report {
            kind: self.party.kind(),
            stage: self.pulse.stage(),
            way: self.party.way(),
            wanted: self.pulse.wanted.load(Ordering::Relaxed),
            memory: self.party.memory(),
            sent: self.pulse.flow.sent(),
            rate: self.rate.of(self.pulse.flow.sent()),
            messages,
            message_rate: self.messages.rate(messages),
            waits: self.pulse.flow.is_waiting(),
            connections: 0,
            participants: self.participants(),
        }
    }
}

impl Drop for ControlLoop {
    fn drop(&mut self) {
        // The name first: whoever comes now finds nobody, and waits for the next owner.
        self.listener = None;
    }
}
