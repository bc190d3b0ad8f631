//! A worker: a thread with an epoll set and a share of the connections.

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::budget::{Budget, Share};
use super::connection::{Connection, IoContext, Next};
use super::lobby::{Lobby, Ticket};
use super::out_buffer::OutBuffer;
use super::reply::{CloseReason, Fault};
use super::session::{Config, MailboxStore, Millis};
use super::timers::{Armed, Timers};
use super::wait_list::WaitList;
use super::waiters::{Entry, Waiters};
use super::worker_queue::{Key, WorkerMessage, WorkerQueue};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::futex::{Backoff, MAX_YIELDS};
use crate::os::timeout::{NOW, timespec};

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;
/// The most clients of each kind in a turn: clients to notify, clients that continue their work, and clients whose
/// deadline has passed.
pub const SHARE: usize = 64;
/// The key of the queue; no connection has it.
const QUEUE: Key = Key::MAX;
/// The receiving buffer holds eight packets, within these bounds.
const INPUT: (usize, usize) = (64 << 10, 1 << 20);
/// A line's length, for the buffer's size.
const LINE: usize = super::wire::LINE_MAX;
/// The most reply memory that is kept between calls.
const OUTPUT_KEPT: usize = 1 << 20;

/// What all workers of a server share.
#[derive(Debug)]
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// Which workers have clients that wait for messages.
    pub wait_list: WaitList,
    /// Memory for data in flight.
    pub budget: Arc<Budget>,
    /// Clients that have not sent their token yet.
    pub lobby: Lobby,
    /// The most clients at a time.
    pub most: usize,
    /// When the server's clock began.
    pub epoch: Instant,
    /// How many connections each worker has.
    pub loads: Vec<AtomicUsize>,
}

impl Shared {
    /// Returns the current time.
    pub fn now(&self) -> Millis {
        Millis::try_from(self.epoch.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }
}

/// A connection and what its worker knows about it.
#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Box<Client>>,
}
#[derive(Debug)]
struct Client {
    connection: Connection,
    interest: EventFlags,
    armed: Armed,
    /// The mailbox and version that it waits for, and its entry in the list.
    waiting: Option<(u32, u64, Entry)>,
    /// It is among the connections that stopped to let others be served.
    is_unfinished: bool,
    /// It is in the lobby.
    ticket: Option<Ticket>,
}

/// Mailboxes whose writes notify the clients that wait.
struct NotifyingStore<'a, B> {
    boxes: &'a mut B,
    wait_list: &'a WaitList,
}

impl<B: MailboxStore> MailboxStore for NotifyingStore<'_, B> {
    fn version(&mut self, mailbox: u32) -> Result<u64, Fault> {
        self.boxes.version(mailbox)
    }

    fn read(
        &mut self,
        mailbox: u32,
        out: &mut OutBuffer,
        head: impl FnMut(&mut OutBuffer, u64, usize),
    ) -> Result<(), Fault> {
        self.boxes.read(mailbox, out, head)
    }

    fn write(&mut self, mailbox: u32, message: &[u8]) -> Result<u64, Fault> {
        let version = self.boxes.write(mailbox, message)?;
        self.wait_list.stored(mailbox, version);
        Ok(version)
    }
}

/// A worker.
#[derive(Debug)]
pub struct Worker<B> {
    number: usize,
    shared: Arc<Shared>,
    boxes: B,
    queue: Arc<WorkerQueue>,
    epoll: OwnedFd,
    slots: Vec<Slot>,
    free: Vec<u32>,
    timers: Timers,
    input: Vec<u8>,
    output: OutBuffer,
    stopping: Option<Stopping>,
    /// The connections that stopped to let others be served.
    unfinished: VecDeque<Key>,
    /// The clients that wait for a message.
    waiters: Waiters,
    /// More timers have expired than one turn handles.
    is_late: bool,
    /// The turns without an event since the last event.
    attempts: u32,
    /// Memory for messages. Empty between turns.
    messages: Vec<WorkerMessage>,
    /// Its clients in the lobby.
    lobby_keys: HashMap<Ticket, Key>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stopping {
    Gently,
    Now,
    End,
}

/// The reason for a call to a connection.
#[derive(Clone, Copy)]
enum Call {
    Ready(EventFlags),
    Notified,
    Resume,
    Time,
    MakeRoom,
    Stop,
}

impl<B: MailboxStore> Worker<B> {
    /// Returns worker `number`, which does not run yet.
    ///
    /// # Errors
    /// There is no descriptor or memory left.
    pub fn new(number: usize, shared: Arc<Shared>, queue: Arc<WorkerQueue>, boxes: B) -> Result<Self, Errno> {
        let epoll = crate::os::event_fd::new_epoll()?;
        epoll::add(&epoll, &*queue, EventData::new_u64(QUEUE), EventFlags::IN)?;
        let size =
            (shared.config.limits.packet.saturating_add(LINE)).saturating_mul(8).clamp(INPUT.0, INPUT.1);
        Ok(Self {
            number,
            shared,
            boxes,
            queue,
            epoll,
            slots: Vec::new(),
            free: Vec::new(),
            timers: Timers::default(),
            input: vec![0; size],
            output: OutBuffer::default(),
            stopping: None,
            unfinished: VecDeque::new(),
            waiters: Waiters::new(number),
            is_late: false,
            attempts: 0,
            messages: Vec::new(),
            lobby_keys: HashMap::new(),
        })
    }

    /// Serves until the message [`End`](WorkerMessage::End), or until no client is left after [`Stop`](WorkerMessage::Stop).
    ///
    /// # Errors
    /// The epoll set does not work, so the worker cannot continue.
    pub fn run(mut self) -> Result<(), Errno> {
        let mut events = Vec::with_capacity(EVENTS);
        while self.turn(&mut events)? {}
        Ok(())
    }

    /// Runs one turn: waits for events, and does a bounded part of the work. Returns `false` when the worker must end.
    /// The next turns do the rest, and ask the kernel for more events in between. So no client waits for all of another
    /// one's work. `events` is memory for the kernel's events, as many as it has capacity for.
    ///
    /// # Errors
    /// The epoll set does not work, so the worker cannot continue.
    pub fn turn(&mut self, events: &mut Vec<Event>) -> Result<bool, Errno> {
        events.clear();
        // Clients on the same processor answer soon, and waking up takes longer than this.
        let lingers = !self.is_behind() && Backoff { max_yields: MAX_YIELDS }.spin(self.attempts, None);
        let timeout = if lingers { Some(NOW) } else { self.timeout() };
        let count = epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref());
        match count {
            Ok(0) if lingers => self.attempts += 1,
            Ok(_) | Err(Errno::INTR) => self.attempts = 0,
            Err(error) => return Err(error),
        }
        if self.attempts == 0 {
            self.work(events);
        }
        let connections = self.slots.len() - self.free.len();
        Ok(match self.stopping {
            None => true,
            Some(Stopping::End) => false,
            Some(_) => connections > 0,
        })
    }

    /// Returns whether there is work left from the last turn.
    fn is_behind(&self) -> bool {
        self.is_late || !self.unfinished.is_empty() || self.waiters.has_fresh()
    }

    fn work(&mut self, events: &[Event]) {
        let now = self.shared.now();
        for event in events {
            match event.data.u64() {
                QUEUE => self.open(now),
                key => self.call(key, Call::Ready(event.flags), now),
            }
        }
        for _ in 0..self.unfinished.len().min(SHARE) {
            let Some(key) = self.unfinished.pop_front() else { break };
            if let Some(client) = self.client(key) {
                client.is_unfinished = false;
                self.call(key, Call::Resume, now);
            }
        }
        for _ in 0..SHARE {
            let Some(key) = self.waiters.pop(&self.shared.wait_list) else { break };
            if let Some(client) = self.client(key) {
                // If it still waits, it gets a new entry.
                client.waiting = None;
                self.call(key, Call::Notified, now);
            }
        }
        let mut fired = 0;
        while fired < SHARE
            && let Some((at, key)) = self.timers.pop(now)
        {
            if self.client(key).is_some_and(|client| client.armed.fired(at)) {
                fired += 1;
                self.call(key, Call::Time, now);
            }
        }
        self.is_late = fired == SHARE;
        let connections = self.slots.len() - self.free.len();
        if self.timers.len() > 4 * connections + 1024 {
            let slots = &self.slots;
            self.timers.prune(|at, key| find(slots, key).is_some_and(|client| client.armed.is(at)));
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        if self.is_behind() {
            return Some(NOW);
        }
        let left = self.timers.next()?.saturating_sub(self.shared.now());
        Some(timespec(Duration::from_millis(left)))
    }

    fn client(&mut self, key: Key) -> Option<&mut Client> {
        let slot = self.slots.get_mut(index(key))?;
        if slot.generation != generation(key) {
            return None;
        }
        slot.connection.as_deref_mut()
    }

    /// Acts on the messages in the queue.
    fn open(&mut self, now: Millis) {
        let mut messages = std::mem::take(&mut self.messages);
        self.queue.collect(&mut messages);
        for message in messages.drain(..) {
            match message {
                WorkerMessage::Serve { socket, ticket, share } => self.serve(socket, ticket, share, now),
                WorkerMessage::MakeRoom(ticket) => {
                    // It may have sent its token, or gone, since then.
                    if let Some(key) = self.lobby_keys.get(&ticket).copied() {
                        self.call(key, Call::MakeRoom, now);
                    }
                    self.shared.lobby.left();
                }
                WorkerMessage::Changed(mailbox) => self.waiters.mark_changed(mailbox),
                WorkerMessage::Stop => self.stop(Stopping::Gently, now),
                WorkerMessage::StopNow => self.stop(Stopping::Now, now),
                WorkerMessage::End => self.stopping = Some(Stopping::End),
            }
        }
        self.messages = messages;
    }

    fn serve(
        &mut self,
        socket: CloseOnForkFd,
        ticket: Option<Ticket>,
        share: Option<Arc<Share>>,
        now: Millis,
    ) {
        let account = self.shared.budget.account(self.shared.config.limits.reserve(), share);
        let connection = Connection::new(socket, ticket.is_none(), &account, now);
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[at as usize];
        let key = u64::from(slot.generation) << 32 | u64::from(at);
        let interest = connection.interest(self.input.len() / 2);
        let added = epoll::add(&self.epoll, &connection, EventData::new_u64(key), interest);
        let client = Client {
            connection,
            interest,
            armed: Armed::default(),
            waiting: None,
            is_unfinished: false,
            ticket,
        };
        if let Some(ticket) = ticket {
            self.lobby_keys.insert(ticket, key);
        }
        slot.connection = Some(Box::new(client));
        match added {
            Ok(()) if self.stopping.is_some() => self.call(key, Call::Stop, now),
            Ok(()) => self.settle(key),
            Err(_) => self.close(key), // no memory in the kernel: only this client is closed
        }
    }

    fn stop(&mut self, how: Stopping, now: Millis) {
        self.stopping = Some(how);
        for at in 0..self.slots.len() {
            let key = u64::from(self.slots[at].generation) << 32 | at as u64;
            self.call(key, Call::Stop, now);
        }
    }

    /// Lets a connection act, and then provides for what it waits for.
    fn call(&mut self, key: Key, call: Call, now: Millis) {
        let late = matches!(self.stopping, Some(Stopping::Now | Stopping::End));
        let stopping = self.stopping.is_some();
        let Some(slot) = self.slots.get_mut(index(key)) else { return };
        let Some(client) = slot.connection.as_deref_mut() else { return };
        if slot.generation != generation(key) {
            return;
        }
        let mut boxes = NotifyingStore { boxes: &mut self.boxes, wait_list: &self.shared.wait_list };
        let mut io = IoContext {
            now,
            config: &self.shared.config,
            boxes: &mut boxes,
            input: &mut self.input,
            output: &mut self.output,
        };
        let connection = &mut client.connection;
        let mut next = match call {
            Call::Ready(events) => connection.ready(events, &mut io),
            Call::Notified => connection.notify(&mut io),
            Call::Resume => connection.resume(&mut io),
            Call::Time => match connection.deadline(io.config) {
                Some(deadline) if deadline <= now => connection.expire(&mut io),
                _ => Next::Stay, // its deadline has moved since
            },
            Call::MakeRoom => connection.make_room(CloseReason::Busy(self.shared.most), &mut io),
            Call::Stop => Next::Stay,
        };
        if stopping && next == Next::Stay {
            next = connection.stop(late, &mut io);
        }
        // Registers first and then checks again. Later stores notify the worker.
        let wait_list = &self.shared.wait_list;
        while next == Next::Stay
            && client.waiting.map(|(mailbox, since, _)| (mailbox, since)) != client.connection.waits_for()
        {
            if let Some((mailbox, _, entry)) = client.waiting.take() {
                self.waiters.remove(mailbox, entry, wait_list);
            }
            if let Some((mailbox, since)) = client.connection.waits_for() {
                client.waiting = Some((mailbox, since, self.waiters.add(mailbox, since, key, wait_list)));
                next = client.connection.notify(&mut io);
            }
        }
        if let Some(ticket) = client.ticket {
            if client.connection.is_known() {
                client.ticket = None;
                self.lobby_keys.remove(&ticket);
                self.shared.lobby.leave(ticket);
            } else if client.connection.is_leaving() {
                self.shared.lobby.cancel(ticket);
            }
        }
        if self.output.memory() > OUTPUT_KEPT {
            self.output = OutBuffer::default();
        }
        match next {
            Next::Stay => self.settle(key),
            Next::Close => self.close(key),
        }
    }

    /// Sets the events and the timer of a connection.
    fn settle(&mut self, key: Key) {
        let most = self.input.len() / 2;
        let slot = &mut self.slots[index(key)];
        let Some(client) = slot.connection.as_deref_mut() else { return };
        let interest = client.connection.interest(most);
        if interest != client.interest {
            client.interest = interest;
            if epoll::modify(&self.epoll, &client.connection, EventData::new_u64(key), interest).is_err() {
                return self.close(key);
            }
        }
        if !client.is_unfinished && client.connection.is_unfinished(&self.shared.config) {
            client.is_unfinished = true;
            self.unfinished.push_back(key);
        }
        let deadline = client.connection.deadline(&self.shared.config);
        self.timers.arm(&mut client.armed, deadline, key);
    }

    fn close(&mut self, key: Key) {
        let slot = &mut self.slots[index(key)];
        let Some(client) = slot.connection.take() else { return };
        slot.generation = slot.generation.wrapping_add(1) & (u32::MAX >> 1);
        self.free.push(index(key) as u32);
        if let Some((mailbox, _, entry)) = client.waiting {
            self.waiters.remove(mailbox, entry, &self.shared.wait_list);
        }
        if let Some(ticket) = client.ticket {
            self.lobby_keys.remove(&ticket);
            self.shared.lobby.leave(ticket);
        }
        // Closing the only descriptor of a socket removes it from the epoll set.
        drop(client);
        if let Some(load) = self.shared.loads.get(self.number) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn find(slots: &[Slot], key: Key) -> Option<&Client> {
    let slot = slots.get(index(key))?;
    (slot.generation == generation(key)).then_some(slot.connection.as_deref()).flatten()
}

fn index(key: Key) -> usize {
    (key & u64::from(u32::MAX)) as usize
}

fn generation(key: Key) -> u32 {
    (key >> 32) as u32
}
