//! Sending one source through many sockets, all served at once.
//!
//! A regular file is sent by the kernel (sendfile), each peer at its own position. Anything else passes through a window of
//! blocks in the sender: the slowest peer holds back the reading, and memory stays bounded.

use super::checksum::Checksum;
use super::frame::{self, Head};
use super::source::{Piece, Source, SourceError};
use super::window::Window;
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SendFlags;
use whorl_core::error::End;

/// The most bytes in one frame, and about the most that one peer is sent before the others have their turn.
pub(super) const TURN: usize = 1 << 18;

/// Those who are sent to, as their host knows them.
pub(super) trait Crowd {
    /// Readable when somebody came.
    fn bell(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// Those who came since the last call.
    fn newcomers(&self) -> Vec<Newcomer> {
        Vec::new()
    }
    /// What lies before `position` is about to be given up. False: somebody came who wants it.
    fn may_forget(&self, _position: u64) -> bool {
        true
    }
    /// Whether being alone is a reason to end.
    fn needs_company(&self) -> bool {
        true
    }
    /// Whether everybody has gone.
    fn nobody_left(&self) -> bool;
    /// Runs something that may wait for peers.
    fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T;
    /// So many bytes were sent to the fastest.
    fn sent(&self, most: u64);
    /// A peer was sent everything before `position`.
    fn is_at(&self, place: u32, position: u64);
}

/// Somebody to be sent to.
pub(super) struct Newcomer {
    pub socket: OwnedFd,
    /// What its host calls it.
    pub place: u32,
    /// From the first byte, or from whatever comes next.
    pub from_first: bool,
}

/// What is to be sent, and how.
pub(super) struct Supply<'a> {
    pub source: &'a mut Source,
    pub block: usize,
    pub blocks: usize,
    pub verify: bool,
    /// Readable once there is no point in going on.
    pub cancel: BorrowedFd<'a>,
}

/// Why it ended before the end.
#[derive(Debug)]
pub(super) enum ServeError {
    Source(SourceError),
    /// Nobody is left, or the host cancelled it.
    Over,
    Interrupted,
    System {
        what: &'static str,
        error: Errno,
    },
}

fn system(what: &'static str) -> impl FnOnce(Errno) -> ServeError {
    move |error| ServeError::System { what, error }
}

/// One peer's socket and what is on its way to it.
struct Connection {
    socket: OwnedFd,
    place: u32,
    /// How many bytes of the source were framed for it, holes included.
    at: u64,
    /// Bytes to send first: a head, or the end.
    pending: Vec<u8>,
    pending_sent: usize,
    /// Bytes of the current frame's body still to come.
    body: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Streaming,
    Ending,
    Gone,
}

/// What stopped a connection's turn.
enum Turn {
    /// The socket is full, or the source has nothing yet.
    Wait,
    /// It had its share.
    Again,
    /// It has everything, or is gone.
    Over,
}

/// The sending side of a stream for each peer.
pub(super) struct Serving<'a, C> {
    supply: Supply<'a>,
    crowd: &'a C,
    connections: Vec<Connection>,
    epoll: OwnedFd,
    /// For sources that are no regular files.
    window: Option<Window>,
    /// The checksum so far, and up to where.
    sum: Option<Checksum>,
    summed: u64,
    /// The total, once it is known.
    total: Option<u64>,
}

const STOP: u64 = u64::MAX;
const SOURCE: u64 = u64::MAX - 1;
const BELL: u64 = u64::MAX - 2;

impl<'a, C: Crowd> Serving<'a, C> {
    pub fn new(supply: Supply<'a>, crowd: &'a C) -> Result<Self, ServeError> {
        let failed = || system("watch the sockets");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed())?;
        let add =
            |fd: BorrowedFd<'_>, data, flags| epoll::add(&epoll, fd, epoll::EventData::new_u64(data), flags);
        for stop in [crate::process::stop_event().map_err(failed())?, supply.cancel] {
            add(stop, STOP, epoll::EventFlags::IN).map_err(failed())?;
        }
        if let Some(bell) = crowd.bell() {
            add(bell, BELL, epoll::EventFlags::IN).map_err(failed())?;
        }
        let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        let window = match supply.source.is_file() {
            true => None,
            // A regular file as standard input is always ready, and epoll refuses it.
            false => match add(supply.source.as_fd(), SOURCE, once) {
                Ok(()) => Some(Window::new(supply.block, supply.blocks, false)),
                Err(Errno::PERM) => Some(Window::new(supply.block, supply.blocks, true)),
                Err(error) => return Err(failed()(error)),
            },
        };
        let sum = supply.verify.then(Checksum::new);
        Ok(Self { supply, crowd, connections: Vec::new(), epoll, window, sum, summed: 0, total: None })
    }

    /// Adds a peer, to be sent everything from a position on.
    fn add(&mut self, newcomer: Newcomer) -> Result<(), ServeError> {
        let Newcomer { socket, place, from_first } = newcomer;
        let at = match (&self.window, from_first) {
            (_, true) => 0,
            (Some(window), false) => window.end(),
            (None, false) => self.fastest(),
        };
        rustix::io::ioctl_fionbio(&socket, true).map_err(system("watch the sockets"))?;
        let data = epoll::EventData::new_u64(self.connections.len() as u64);
        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &socket, data, flags).map_err(system("watch the sockets"))?;
        let (pending, pending_sent, body, state) = (Vec::new(), 0, 0, State::Streaming);
        self.connections.push(Connection { socket, place, at, pending, pending_sent, body, state });
        Ok(())
    }

    /// Lets in whoever came; returns whether anybody did.
    fn welcome(&mut self) -> Result<bool, ServeError> {
        if let Some(bell) = self.crowd.bell() {
            let _ = rustix::io::read(bell, &mut [0; 8]); // it does not wait
        }
        let newcomers = self.crowd.newcomers();
        let any = !newcomers.is_empty();
        newcomers.into_iter().try_for_each(|newcomer| self.add(newcomer))?;
        Ok(any)
    }

    /// Sends everything, to its end or until there is no point in going on. Returns the bytes of the source.
    pub fn run(mut self, first: Vec<Newcomer>) -> Result<Option<End>, ServeError> {
        first.into_iter().try_for_each(|newcomer| self.add(newcomer))?;
        self.welcome()?;
        let mut ready: Vec<usize> = (0..self.connections.len()).collect();
        loop {
            if self.read_source()? {
                // Whoever waited for bytes rather than for its socket has something to do now.
                ready = (0..self.connections.len()).collect();
            }
            let mut again = Vec::new();
            for index in std::mem::take(&mut ready) {
                match self.turn(index)? {
                    Turn::Again => again.push(index),
                    Turn::Wait | Turn::Over => {}
                }
            }
            self.catch_up_sum()?;
            self.crowd.sent(self.window.as_ref().map_or_else(|| self.fastest(), Window::end));
            ready = again;
            if self.connections.iter().all(|connection| connection.state == State::Gone)
                && let Some(end) = self.end_of_all()?
            {
                return Ok(end);
            }
            if ready.is_empty() && !self.may_read() {
                let crowd = self.crowd;
                // While there is room to read into, the source is waited for, and no peer is to blame.
                let rang = match self.window.as_ref().is_some_and(Window::has_room) && self.total.is_none() {
                    true => self.wait(&mut ready)?,
                    false => crowd.waiting(|| self.wait(&mut ready))?,
                };
                if rang {
                    let known = self.connections.len();
                    self.welcome()?;
                    ready.extend(known..self.connections.len());
                }
                if crowd.needs_company() && crowd.nobody_left() && self.total.is_none() {
                    return Err(ServeError::Over);
                }
            }
        }
    }

    /// Nobody is being sent anything just now: whether that was all, and then the end, if there is one.
    fn end_of_all(&mut self) -> Result<Option<Option<End>>, ServeError> {
        let end = |total| End { total, checksum: self.sum.as_ref().map(Checksum::finish) };
        match (self.total, self.crowd.needs_company()) {
            (Some(total), _) => Ok(Some(Some(end(total)))),
            (None, true) => Err(ServeError::Over),
            // A file can be had again; a stream goes on for those who may come.
            (None, false) if self.window.is_none() => Ok(Some(None)),
            (None, false) => Ok(None),
        }
    }

    fn fastest(&self) -> u64 {
        self.connections.iter().map(|connection| connection.at).max().unwrap_or(0)
    }

    /// Sleeps until a socket takes more, the source has more, somebody came (true), or somebody wants us to stop.
    fn wait(&mut self, ready: &mut Vec<usize>) -> Result<bool, ServeError> {
        let mut rang = false;
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let count = match epoll::wait(&self.epoll, &mut events, None) {
            Err(Errno::INTR) => 0,
            other => other.map_err(system("wait for the sockets"))?,
        };
        if crate::process::stop_signal().is_some() {
            return Err(ServeError::Interrupted);
        }
        for event in &events[..count] {
            let data = event.data;
            match data.u64() {
                STOP if self.total.is_none() => return Err(ServeError::Over),
                // The last one has gone with everything, before we learnt from the other sockets that theirs are gone.
                STOP => self.connections.iter_mut().for_each(|connection| connection.state = State::Gone),
                BELL => rang = true,
                SOURCE => self.window.as_mut().expect("only streams are watched").readable = true,
                index => ready.push(index as usize),
            }
        }
        Ok(rang)
    }

    fn may_read(&self) -> bool {
        let Some(window) = self.window.as_ref().filter(|window| window.readable && self.total.is_none())
        else {
            return false;
        };
        window.has_room() || window.start_without(self.slowest()) > window.start_without(0)
    }

    /// Reads one block of a stream, if there is room and something to read.
    fn read_source(&mut self) -> Result<bool, ServeError> {
        loop {
            let slowest = self.slowest();
            // Blocks are kept while there is room, for those who come late.
            let Some(window) = self.window.as_mut().filter(|window| !window.has_room()) else { break };
            if self.crowd.may_forget(window.start_without(slowest)) {
                window.forget_before(slowest);
                break;
            }
            self.welcome()?;
        }
        let Some(window) = &mut self.window else { return Ok(false) };
        if self.total.is_some() || !window.readable || !window.has_room() {
            return Ok(false);
        }
        let piece = window.read(|buffer| self.supply.source.next(buffer, self.supply.cancel));
        match piece.map_err(source_failed)? {
            Piece::Bytes(_) => {
                if let Some(sum) = &mut self.sum {
                    sum.update(window.last());
                }
                self.summed = window.end();
                if !window.always_readable {
                    window.readable = false;
                    let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
                    let data = epoll::EventData::new_u64(SOURCE);
                    epoll::modify(&self.epoll, self.supply.source.as_fd(), data, flags)
                        .map_err(system("watch the source"))?;
                }
            }
            Piece::Hole(_) => unreachable!("streams have no holes"),
            Piece::End => self.total = Some(window.end()),
        }
        Ok(true)
    }

    fn slowest(&self) -> u64 {
        let streaming = self.connections.iter().filter(|connection| connection.state != State::Gone);
        streaming.map(|connection| connection.at - connection.body as u64).min().unwrap_or(u64::MAX)
    }

    /// The kernel sends a file without us seeing it, so its checksum is a pass of its own, close behind the fastest peer.
    fn catch_up_sum(&mut self) -> Result<(), ServeError> {
        let Some(sum) = self.sum.as_mut().filter(|_| self.window.is_none()) else { return Ok(()) };
        let fastest = self.connections.iter().map(|connection| connection.at).max().unwrap_or(0);
        let mut buffer = vec![0; TURN];
        while self.summed < fastest {
            let room = buffer.len().min((fastest - self.summed) as usize);
            let piece = self.supply.source.extent_at(self.summed).map_err(source_failed)?;
            match piece {
                Piece::Hole(length) => {
                    let length = length.min(fastest - self.summed);
                    sum.update_zeros(length);
                    self.summed += length;
                }
                Piece::Bytes(length) => {
                    let room = room.min(length);
                    let count = self
                        .supply
                        .source
                        .read_at(&mut buffer[..room], self.summed)
                        .map_err(source_failed)?;
                    if count == 0 {
                        return Err(shrank(fastest, self.summed));
                    }
                    sum.update(&buffer[..count]);
                    self.summed += count as u64;
                }
                Piece::End => return Err(shrank(fastest, self.summed)),
            }
        }
        Ok(())
    }

    /// Sends one peer its share.
    fn turn(&mut self, index: usize) -> Result<Turn, ServeError> {
        let mut left = TURN;
        loop {
            let connection = &mut self.connections[index];
            let sent = if connection.state == State::Gone {
                return Ok(Turn::Over);
            } else if connection.pending_sent < connection.pending.len() {
                rustix::net::send(
                    &connection.socket,
                    &connection.pending[connection.pending_sent..],
                    SendFlags::NOSIGNAL,
                )
                .inspect(|count| connection.pending_sent += count)
            } else if connection.body > 0 && left == 0 {
                return Ok(Turn::Again);
            } else if connection.body > 0 {
                self.send_body(index, left)?.inspect(|count| left = left.saturating_sub(*count))
            } else if connection.state == State::Ending {
                connection.state = State::Gone;
                return Ok(Turn::Over);
            } else if self.next_frame(index)? {
                continue;
            } else {
                return Ok(Turn::Wait);
            };
            match sent {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Turn::Wait),
                Err(_) => {
                    // Its process is gone, or will be: the control thread says how.
                    self.connections[index].state = State::Gone;
                    return Ok(Turn::Over);
                }
            }
        }
    }

    /// Sends a part of the current frame's body; the outer error is the source's, the inner one the socket's.
    fn send_body(&mut self, index: usize, most: usize) -> Result<Result<usize, Errno>, ServeError> {
        let connection = &mut self.connections[index];
        let mut position = connection.at - connection.body as u64;
        let most = most.min(connection.body);
        let sent = match &self.window {
            Some(window) => {
                rustix::net::send(&connection.socket, window.bytes(position, most), SendFlags::NOSIGNAL)
            }
            None => rustix::fs::sendfile(
                &connection.socket,
                self.supply.source.as_fd(),
                Some(&mut position),
                most,
            ),
        };
        match sent {
            Ok(0) => return Err(shrank(connection.at, position)),
            Ok(count) => {
                connection.body -= count;
                let done = connection.at - connection.body as u64;
                self.crowd.is_at(connection.place, done);
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::PIPE | Errno::CONNRESET) => {}
            // No socket fails in another way, so it is the source that does.
            Err(error) => return Err(source_failed(SourceError::Read(error))),
        }
        Ok(sent)
    }

    /// Starts the next frame; false if there is nothing to send yet.
    fn next_frame(&mut self, index: usize) -> Result<bool, ServeError> {
        let at = self.connections[index].at;
        let piece = match &self.window {
            Some(window) => match window.available(at) {
                0 if self.total.is_none() => return Ok(false),
                0 => Piece::End,
                count => Piece::Bytes(count),
            },
            None => match self.total {
                Some(total) if at == total => Piece::End,
                _ => self.supply.source.extent_at(at).map_err(source_failed)?,
            },
        };
        let head = match piece {
            Piece::Bytes(count) => {
                let left_in_total = self.total.map_or(u64::MAX, |total| total - at);
                let count = count.min(TURN).min(left_in_total.try_into().unwrap_or(usize::MAX));
                self.connections[index].body = count;
                self.connections[index].at += count as u64;
                Head::Bytes(count as u32).encode().to_vec()
            }
            Piece::Hole(length) => {
                self.connections[index].at += length;
                let place = self.connections[index].place;
                self.crowd.is_at(place, at + length);
                Head::Hole(length).encode().to_vec()
            }
            Piece::End => {
                // The first to reach the end decides where it is, for all.
                self.total = Some(at);
                self.catch_up_sum()?;
                self.connections[index].state = State::Ending;
                frame::encode_end(End { total: at, checksum: self.sum.as_ref().map(Checksum::finish) })
            }
        };
        let connection = &mut self.connections[index];
        (connection.pending, connection.pending_sent) = (head, 0);
        Ok(true)
    }
}

fn source_failed(error: SourceError) -> ServeError {
    match error {
        SourceError::Interrupted if crate::process::stop_signal().is_some() => ServeError::Interrupted,
        SourceError::Interrupted => ServeError::Over,
        error => ServeError::Source(error),
    }
}

fn shrank(was: u64, is: u64) -> ServeError {
    ServeError::Source(SourceError::Shrank { was, is })
}
