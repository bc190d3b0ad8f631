//! Very many connections to one server, all of them used in turn by a few client processes.
//!
//! The number of requests under way stays constant, however many connections are open. So what grows is the number of
//! connections that the server keeps, and not the work that waits for it.

use crate::clock;
use crate::control::{Control, phase, task};
use crate::process::{Group, RunError};
use crate::servers::{Server, Verb, connect, prepare, some};
use crate::timing::Timing;
use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

/// The number of client processes.
const CLIENTS: usize = 2;
/// The number of requests under way in all clients together, each on its own connection.
pub const UNDER_WAY: usize = 50;
/// The number of connections that a client makes at a time. It uses each once before it makes the next ones, so that it
/// does not flood a server that accepts slowly.
const AT_A_TIME: usize = 64;
/// A server that sends nothing for this long hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The result: what the connections get, and what they cost.
pub struct Served {
    /// Requests per second of all clients together.
    pub rate: f64,
    /// Bytes of resident memory that the server uses for each connection, after each connection was used once.
    pub memory: f64,
}

/// Reads messages of `size` bytes through `connections` connections.
pub fn serve(
    control: &'static Control,
    server: &Server,
    size: usize,
    connections: usize,
    timing: &Timing,
) -> Result<Served, RunError> {
    let failed = |why: Error| RunError::Failed(why.to_string());
    let mut buffer = vec![0; 256 << 10];
    let (_first, reply) = prepare(server, Verb::Get, size, &mut buffer).map_err(failed)?;
    let resident = || server.resident().ok_or_else(|| RunError::Failed("the server has ended".into()));
    let before = resident()?;
    control.reset(task::NONE);
    let clients = CLIENTS.min(connections);
    let mut group = Group::new();
    for index in 0..clients {
        let share = connections / clients + usize::from(index < connections % clients);
        group.spawn(control, || {
            let connected = Client::connect(server, share, reply);
            let mut client = connected.map_err(|why| format!("connection: {why}"))?;
            control.arrive();
            let (count, nanoseconds) = client.run(control).map_err(|why| why.to_string())?;
            let record = &control.receivers[index].0;
            record.received.store(count, Relaxed);
            record.end_ns.store(nanoseconds, Release);
            Ok(())
        });
    }
    let deadline = Instant::now() + timing.deadline;
    group.wait_until(control, deadline, || control.ready.0.load(Acquire) == clients as u32)?;
    let memory = (resident()? as f64 - before as f64) / connections as f64;
    group.measure(control, clients as u32, timing, deadline)?;
    let mut rate = 0.0;
    for record in &control.receivers[..clients] {
        let (count, nanoseconds) = (record.0.received.load(Relaxed), record.0.end_ns.load(Acquire));
        if count == 0 {
            return Err(RunError::Failed("no reply came while a client counted".into()));
        }
        rate += count as f64 * 1e9 / nanoseconds as f64;
    }
    Ok(Served { rate, memory })
}

/// One process's share of the connections.
struct Client {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// The connections without a request under way, in order of use: the first one has waited longest.
    idle: VecDeque<usize>,
    request: Vec<u8>,
    /// The length of a reply in bytes.
    reply: usize,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// Bytes of the current reply that have arrived.
    seen: usize,
}

impl Client {
    fn connect(server: &Server, share: usize, reply: usize) -> std::io::Result<Self> {
        // SAFETY: a plain call.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: fresh, and owned by no other code.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let request = server.read_request().into_bytes();
        let buffer = vec![0; 64 << 10];
        let mut client =
            Client { epoll, connections: Vec::new(), idle: VecDeque::new(), request, reply, buffer };
        while client.connections.len() < share {
            let fresh = client.connections.len()..share.min(client.connections.len() + AT_A_TIME);
            for index in fresh.clone() {
                client.add(index, connect(server)?)?;
            }
            fresh.clone().try_for_each(|index| client.ask(index))?;
            let mut waiting = fresh.len();
            while waiting > 0 {
                waiting -= client.take_replies()?;
            }
        }
        Ok(client)
    }

    fn add(&mut self, index: usize, stream: TcpStream) -> std::io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
        let (epoll, fd) = (self.epoll.as_raw_fd(), stream.as_raw_fd());
        // SAFETY: two descriptors that this client owns; the kernel copies the event.
        if unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) } < 0 {
            return Err(Error::last_os_error());
        }
        self.connections.push(Connection { stream, seen: 0 });
        Ok(())
    }

    /// Sends requests until the end. Returns how many replies came while the run counted, and in how many nanoseconds.
    fn run(&mut self, control: &Control) -> std::io::Result<(u64, u64)> {
        let under_way = (UNDER_WAY / CLIENTS).min(self.connections.len());
        let (mut counting, mut begun, mut count) = (false, 0, 0);
        for _ in 0..under_way {
            self.ask_next()?;
        }
        loop {
            let replies = self.take_replies()?;
            count += replies as u64;
            // Relaxed: the word only carries the phase, and guards nothing.
            let phase = control.phase.0.load(Relaxed);
            if !counting && phase >= phase::MEASURE {
                (counting, begun, count) = (true, clock::nanoseconds(), 0);
            }
            if phase == phase::STOP {
                return Ok((count, clock::nanoseconds() - begun));
            }
            for _ in 0..replies {
                self.ask_next()?;
            }
        }
    }

    fn ask_next(&mut self) -> std::io::Result<()> {
        let index = self.idle.pop_front().expect("one for each reply that came");
        self.ask(index)
    }

    fn ask(&mut self, index: usize) -> std::io::Result<()> {
        self.connections[index].stream.write_all(&self.request)
    }

    /// Waits for data and reads it. Returns how many replies became complete.
    fn take_replies(&mut self) -> std::io::Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; UNDER_WAY];
        let (epoll, most) = (self.epoll.as_raw_fd(), events.len() as libc::c_int);
        let patience = PATIENCE.as_millis() as libc::c_int;
        // SAFETY: the buffer has room for this many events.
        let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), most, patience) };
        let ready = match ready {
            0 => return Err(ErrorKind::TimedOut.into()),
            count if count > 0 => count as usize,
            _ => match Error::last_os_error() {
                why if why.kind() == ErrorKind::Interrupted => 0,
                why => return Err(why),
            },
        };
        let mut whole = 0;
        for event in &events[..ready] {
            let index = event.u64 as usize;
            let connection = &mut self.connections[index];
            connection.seen += some(&mut connection.stream, &mut self.buffer)?.len();
            if connection.seen >= self.reply {
                connection.seen = 0;
                self.idle.push_back(index);
                whole += 1;
            }
        }
        Ok(whole)
    }
}
