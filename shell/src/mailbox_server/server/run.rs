//! A running server: it accepts clients, answers on the control socket, and ends in order.

use crate::os::error::{OsError, cannot};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thiserror::Error;

use super::reclaim::ReclaimThread;
use super::{CALLER, CONTROL, ENDED, LISTENER, REJECTED, STOP, Server, keep, spawn, watch};
use crate::mailbox_server::callers::{CallerEvent, Callers};
use crate::mailbox_server::listen;
use crate::mailbox_server::out_buffer::OutBuffer;
use crate::mailbox_server::reply::{self, CloseReason};
use crate::mailbox_server::wait_list::WaitList;
use crate::mailbox_server::worker::Shared;
use crate::mailbox_server::worker_queue::{WorkerMessage, WorkerQueue};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::deadline;
use crate::os::error::reason;
use crate::os::signal;
use crate::os::socket::{cancel, receive, send_with_descriptors};
use crate::os::timeout;
use crate::registry::protocol::{ControlMessage, RECORD, Record, Refusal};
use crate::registry::send;
use crate::registry::status::{Kind, Phase, Report, TransportKind};
use crate::shm::mailboxes::MailSegment;

/// How long clients may take to finish their requests when the server ends, and then to read the last line.
const DRAIN: Duration = Duration::from_millis(1500);
const LAST_LINES: Duration = Duration::from_millis(300);
/// How long the server accepts no client when it has no descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the server accepts no client while clients that make room have to leave first.
const SHORT_PAUSE: Duration = Duration::from_millis(1);
/// How many clients to accept before checking other events.
const ROUND: usize = 64;

/// Why a server ended with an error.
#[derive(Debug, Error)]
pub enum RunError {
    /// A system call failed that the server needs.
    #[error(transparent)]
    System(#[from] OsError),
    /// A worker ended on its own.
    #[error("a worker ended unexpectedly")]
    Worker,
}

/// A server whose threads run.
#[derive(Debug)]
pub struct RunningServer {
    server: Server,
    reclaim: ReclaimThread,
    threads: Threads,
}

/// The workers and the waker. Dropping it ends these threads, and waits for them.
#[derive(Debug)]
struct Threads {
    queues: Vec<Arc<WorkerQueue>>,
    shared: Arc<Shared>,
    running: Vec<JoinHandle<bool>>,
}

impl Threads {
    /// Ends the threads. Returns whether each of them ended without an error.
    fn end(&mut self) -> bool {
        for queue in &self.queues {
            queue.send(WorkerMessage::End);
        }
        self.shared.wait_list.end();
        let mut all_ended = true;
        for thread in self.running.drain(..) {
            all_ended &= thread.join().unwrap_or(false);
        }
        all_ended
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end();
    }
}

impl Server {
    /// Starts the server's threads. A caller that reports the server as ready does so after this. Call
    /// [`signal::catch_stop_signals`] first.
    ///
    /// # Errors
    /// The machine has no threads or descriptors left. Nothing is left behind.
    pub fn start(mut self) -> Result<RunningServer, RunError> {
        match self.start_threads() {
            Ok((threads, reclaim)) => Ok(RunningServer { server: self, reclaim, threads }),
            Err(error) => {
                // The caller gets the reason, so the log adds nothing.
                if let Some(log) = &self.log {
                    self.registry.remove(log);
                }
                Err(error)
            }
        }
    }

    fn start_threads(&mut self) -> Result<(Threads, ReclaimThread), RunError> {
        let stop = signal::stop_event().map_err(cannot("watch for signals"))?;
        watch(&self.epoll, stop, STOP).map_err(cannot("watch for signals"))?;
        let (queues, shared, running) = (self.queues.clone(), self.shared.clone(), Vec::new());
        let mut threads = Threads { queues, shared, running };
        for worker in std::mem::take(&mut self.workers) {
            let ended = self.ended.clone();
            let body = move || {
                let notifier = ExitNotifier(ended);
                let result = worker.run();
                drop(notifier);
                result.is_ok()
            };
            threads.running.push(spawn("worker", body)?);
        }
        let (segment, shared) = (self.segment.clone(), self.shared.clone());
        threads.running.push(spawn("waker", move || {
            wake(&segment, &shared.wait_list);
            true
        })?);
        Ok((threads, ReclaimThread::start(self.segment.clone())?))
    }
}

impl RunningServer {
    /// Serves until a signal or the control socket asks it to stop. Then it lets the clients finish, and removes
    /// everything.
    ///
    /// # Errors
    /// A system call failed that the server needs, or a worker ended.
    pub fn serve(self) -> Result<(), RunError> {
        let Self { mut server, reclaim, mut threads } = self;
        let result = server.serve(threads.queues.len(), &reclaim);
        drop(reclaim);
        if let (Ok(()), Some(log)) = (&result, &server.log) {
            server.registry.remove(log);
        }
        drop(server.control);
        let all_ended = threads.end();
        result?;
        if all_ended { Ok(()) } else { Err(RunError::Worker) }
    }

    /// Removes everything without serving.
    pub fn close(self) {}
}

impl Server {
    fn serve(&mut self, mut running: usize, reclaim: &ReclaimThread) -> Result<(), RunError> {
        let mut events: Vec<Event> = Vec::with_capacity(64);
        let mut callers = Callers::new(CALLER);
        let mut paused: Option<Instant> = None;
        let mut stopping: Option<Instant> = None;
        let mut is_final = false;
        let mut keep_at = deadline::after(keep::CHECK_INTERVAL);
        loop {
            events.clear();
            let deadlines = [paused, stopping, self.rejected.deadline(), callers.deadline(), Some(keep_at)];
            let until = deadlines.into_iter().flatten().min();
            let timeout = until.map(|until| timeout::until(until).0);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(cannot("wait for events")(error).into()),
            }
            let now = Instant::now();
            self.rejected.expire(now);
            callers.expire(now);
            if paused.is_some_and(|until| until <= now) {
                paused = None;
                self.listen(EventFlags::IN);
            }
            let mut stop = false;
            for event in &events {
                match event.data.u64() {
                    STOP => {
                        let signals = count(signal::stop_event());
                        if signals > 1 || signals == 1 && stopping.is_some() {
                            return Ok(()); // the second request ends it at once
                        }
                        stop |= signals > 0;
                    }
                    ENDED => {
                        let mut messages = Vec::new();
                        self.ended.collect(&mut messages);
                        running = running.saturating_sub(messages.len());
                        if stopping.is_none() {
                            return Err(RunError::Worker);
                        }
                    }
                    CONTROL => {
                        if !self.accept_callers(&mut callers, now) {
                            self.listen(EventFlags::empty());
                            paused = Some(now + PAUSE);
                        }
                    }
                    number @ LISTENER..CALLER => {
                        if let Err(pause) =
                            self.accept_clients((number - LISTENER) as usize, stopping.is_some())
                        {
                            self.listen(EventFlags::empty());
                            paused = Some(now + pause);
                        }
                    }
                    number @ REJECTED.. => self.rejected.on_readable(number - REJECTED),
                    number => match callers.take(number) {
                        CallerEvent::Detached => reclaim.request(),
                        CallerEvent::Unknown => {}
                        CallerEvent::Request(socket) => match self.answer(&socket, callers.may_attach()) {
                            Answered::Stop => stop = true,
                            Answered::Attached => callers.attach(number, socket),
                            Answered::Otherwise => {}
                        },
                    },
                }
            }
            if keep_at <= now && stopping.is_none() {
                self.keep_names();
            }
            if keep_at <= now {
                keep_at = now + keep::CHECK_INTERVAL;
            }
            if stop && stopping.is_none() {
                tracing::info!("asked to stop, with {} connections", self.connections());
                stopping = Some(now + DRAIN);
                self.queues.iter().for_each(|queue| queue.send(WorkerMessage::Stop));
            }
            if stopping.is_some() && running == 0 {
                return Ok(());
            }
            if stopping.is_some_and(|until| until <= now) {
                if is_final {
                    return Ok(());
                }
                is_final = true;
                stopping = Some(now + LAST_LINES);
                self.queues.iter().for_each(|queue| queue.send(WorkerMessage::StopNow));
            }
        }
    }

    fn listener(&self, number: usize) -> Option<(&CloseOnForkFd, bool)> {
        let tcp = self.listeners.tcp.iter().map(|(socket, _)| (socket, true));
        tcp.chain(self.listeners.unix.iter().map(|(socket, _)| (socket, false))).nth(number)
    }

    /// Watches the listeners and the control socket for these events, or for none.
    fn listen(&self, interest: EventFlags) {
        for number in 0.. {
            let Some((socket, _)) = self.listener(number) else { break };
            let data = EventData::new_u64(LISTENER + number as u64);
            let _ = epoll::modify(&self.epoll, socket, data, interest);
        }
        let _ = epoll::modify(&self.epoll, &self.control, EventData::new_u64(CONTROL), interest);
    }

    /// Accepts callers of the control socket. Returns `false` if there are no descriptors for more.
    fn accept_callers(&mut self, callers: &mut Callers, now: Instant) -> bool {
        for _ in 0..ROUND {
            match self.control.accept() {
                Ok(Some((caller, _))) => {
                    let (socket, number) = callers.add(caller, now);
                    if watch(&self.epoll, socket, number).is_err() {
                        callers.take(number);
                    }
                }
                Ok(None) => return true,
                Err(_) if callers.make_room() => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Accepts clients and gives them to workers. The error is how long to accept none: there are no descriptors, or
    /// clients that make room have not left yet.
    fn accept_clients(&mut self, number: usize, stopping: bool) -> Result<(), Duration> {
        let mut line = OutBuffer::default();
        for _ in 0..ROUND {
            if self.shared.lobby.leaving() >= ROUND {
                return Err(SHORT_PAUSE);
            }
            let Some((listener, is_tcp)) = self.listener(number) else { return Ok(()) };
            let client = match listen::accept(listener, is_tcp) {
                Ok(client) => client,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => {
                    self.rejected.clear();
                    // Gives up the reserved descriptor, so that one waiting client can get its line.
                    self.reserve = None;
                    if let Some((listener, is_tcp)) = self.listener(number)
                        && let Ok(client) = listen::accept(listener, is_tcp)
                    {
                        reply::bye(&mut line, CloseReason::Busy(self.connections()));
                        cancel(&client, &line);
                    }
                    self.reserve();
                    tracing::warn!("cannot take clients in: {}", reason(error));
                    return Err(PAUSE);
                }
            };
            line.clear();
            if stopping {
                reply::bye(&mut line, CloseReason::Stop);
                self.send_away(client, &line);
                continue;
            }
            // This check comes first, so that clients of other users cannot use up places.
            if is_tcp && let Some(Err(refused)) = self.owners.as_ref().map(|owners| owners.check(&client)) {
                tracing::debug!("connection from {} refused: {refused}", listen::peer(&client));
                reply::bye_user(&mut line, &refused);
                self.send_away(client, &line);
                continue;
            }
            let known = self.shared.config.token.is_none() || !is_tcp && listen::is_same_user(&client);
            let most = self.shared.most;
            let staying = self.connections().saturating_sub(self.shared.lobby.leaving());
            let full = staying >= most || !known && self.shared.lobby.is_full();
            if full && !self.make_room() {
                reply::bye(&mut line, CloseReason::Busy(most));
                self.send_away(client, &line);
                continue;
            }
            let loads = self.shared.loads.iter().enumerate();
            if let Some((worker, load)) = loads.min_by_key(|(_, load)| load.load(Ordering::Relaxed)) {
                load.fetch_add(1, Ordering::Relaxed);
                if tracing::enabled!(tracing::Level::DEBUG) {
                    tracing::debug!(
                        connections = self.connections(),
                        "connection from {}",
                        listen::peer(&client)
                    );
                }
                let ticket = (!known).then(|| self.shared.lobby.enter(worker));
                let address = is_tcp.then(|| listen::address(&client)).flatten();
                let share = address.and_then(|address| self.shared.budget.share(address));
                self.queues[worker].send(WorkerMessage::Serve { socket: client, ticket, share });
            }
        }
        Ok(())
    }

    /// Sends a client its only line, and reads from it for a moment. Otherwise the client might not get the line.
    fn send_away(&mut self, client: CloseOnForkFd, line: &[u8]) {
        if let Some((socket, number)) = self.rejected.add(client, line, Instant::now()) {
            // Without memory for that in the kernel, what it says is dropped when its time is up.
            let _ = watch(&self.epoll, socket, REJECTED + number);
        }
    }

    /// Sends a client away that has not sent its token yet. False: there is none.
    fn make_room(&self) -> bool {
        let Some((ticket, worker)) = self.shared.lobby.make_room() else { return false };
        self.queues[worker].send(WorkerMessage::MakeRoom(ticket));
        true
    }

    /// Answers a caller of the control socket.
    fn answer(&self, caller: &CloseOnForkFd, may_attach: bool) -> Answered {
        let mut packet = [0; RECORD];
        let request = match receive(caller, &mut packet) {
            Ok(count) if count > 0 => Record::decode(&packet[..count]),
            _ => return Answered::Otherwise,
        };
        match request.map(|record| record.message) {
            Ok(ControlMessage::Stop) => {
                send(caller, ControlMessage::Stopping, &[]);
                return Answered::Stop;
            }
            Ok(ControlMessage::Attach) if !may_attach => {
                send(caller, ControlMessage::Refused(Refusal::Full), &[]);
            }
            Ok(ControlMessage::Attach) => {
                send(caller, ControlMessage::Mailboxes, &[self.segment.as_fd()]);
                return Answered::Attached;
            }
            Ok(ControlMessage::Status) => {
                let mut packet = Record::plain(ControlMessage::Report).encode().to_vec();
                packet.extend(self.report().encode());
                let _ = send_with_descriptors(caller, &packet, &[]);
            }
            // Another version perhaps: it reads this server's in the answer.
            Ok(_) | Err(_) => send(caller, ControlMessage::Refused(Refusal::Unable), &[]),
        }
        Answered::Otherwise
    }

    fn report(&self) -> Report {
        Report {
            kind: Kind::Mailboxes,
            phase: Phase::Live,
            transport: TransportKind::Shm,
            wanted: 0,
            memory: self.segment.geometry().length(),
            sent: 0,
            rate: 0,
            messages: 0,
            message_rate: 0,
            waits: false,
            connections: self.connections() as u64,
            receivers: Vec::new(),
        }
    }
}

enum Answered {
    Stop,
    Attached,
    Otherwise,
}

/// Reports to the main thread that a worker has ended, also if it panicked.
struct ExitNotifier(Arc<WorkerQueue>);

impl Drop for ExitNotifier {
    fn drop(&mut self) {
        self.0.send(WorkerMessage::End);
    }
}

/// Waits for the writes of attached programs, while clients wait for messages.
fn wake(segment: &MailSegment, wait_list: &WaitList) {
    while wait_list.begin() {
        segment.sleep_unless(|| wait_list.notify_changed(|mailbox| segment.version(mailbox)));
        if signal::stop_signal().is_some() {
            // The library refuses to sleep because the server ends. The clients that still wait are closed soon.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reads an eventfd's count.
fn count(event: Result<rustix::fd::BorrowedFd<'_>, Errno>) -> u64 {
    let mut bytes = [0; 8];
    match event.and_then(|event| rustix::io::read(event, &mut bytes)) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}
