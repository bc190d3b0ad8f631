//! Sending one source through many sockets, all served at once.
//!
//! A regular file is sent by the kernel (sendfile), each peer at its own position. Anything else passes through a window of
//! blocks in the sender: the slowest peer holds back the reading, and memory stays bounded.

use super::checksum::Checksum;
use super::connections::Connections;
use super::crowd::{FanOutSource, NewPeer, PeerSet, ServeError};
use super::source::{Chunk, Source, SourceError};
use super::window::Window;
use crate::channel::transport::frame::{self, Head};
use crate::os::error::cannot;
use crate::os::signal::stop_signal;
use crate::os::timeout;
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::time::{Duration, Instant};
use whorl_core::error::End;

/// The most bytes in one frame, and about the most that one peer is sent before the others have their turn.
const TURN: usize = 1 << 18;

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
pub(super) struct FanOut<'a, C> {
    supply: FanOutSource<'a>,
    crowd: &'a C,
    connections: Connections,
    epoll: OwnedFd,
    /// For sources that are no regular files.
    window: Option<Window>,
    /// Where bytes of a regular file are read to, once the kernel has refused to send from the file by itself.
    scratch: Option<Vec<u8>>,
    /// The checksum so far, and up to where.
    sum: Option<Checksum>,
    summed: u64,
    /// The total, once it is known.
    total: Option<u64>,
}

const STOP: u64 = u64::MAX;
const SOURCE: u64 = u64::MAX - 1;
const BELL: u64 = u64::MAX - 2;

impl<'a, C: PeerSet> FanOut<'a, C> {
    pub fn new(supply: FanOutSource<'a>, crowd: &'a C) -> Result<Self, ServeError> {
        let failed = cannot("watch the sockets");
        let epoll = crate::os::event_fd::new_epoll().map_err(&failed)?;
        let add =
            |fd: BorrowedFd<'_>, data, flags| epoll::add(&epoll, fd, epoll::EventData::new_u64(data), flags);
        for stop in [crate::os::signal::stop_event().map_err(&failed)?, supply.cancel.as_fd()] {
            add(stop, STOP, epoll::EventFlags::IN).map_err(&failed)?;
        }
        if let Some(bell) = crowd.bell() {
            add(bell.as_fd(), BELL, epoll::EventFlags::IN).map_err(&failed)?;
        }
        let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        let window = match supply.source.is_file() {
            true => None,
            // A regular file as standard input is always ready, and epoll refuses it.
            false => match add(supply.source.as_fd(), SOURCE, once) {
                Ok(()) => Some(Window::new(supply.block, supply.blocks, false)),
                Err(Errno::PERM) => Some(Window::new(supply.block, supply.blocks, true)),
                Err(error) => return Err(failed(error).into()),
            },
        };
        let sum = supply.verify.then(Checksum::new);
        Ok(Self {
            supply,
            crowd,
            connections: Connections::new(),
            epoll,
            window,
            scratch: None,
            sum,
            summed: 0,
            total: None,
        })
    }

    /// Adds a peer, to be sent everything from a position on; returns its number.
    fn add(&mut self, newcomer: NewPeer) -> Result<usize, ServeError> {
        let at = match (&self.window, newcomer.from_first) {
            (_, true) => 0,
            (Some(window), false) => window.end(),
            (None, false) => self.connections.fastest(),
        };
        Ok(self.connections.add(&self.epoll, newcomer, at).map_err(cannot("watch the sockets"))?)
    }

    /// Lets go of whoever went, and lets in whoever came; returns their numbers.
    fn welcome(&mut self) -> Result<Vec<usize>, ServeError> {
        if let Some(bell) = self.crowd.bell() {
            bell.drain();
        }
        let (gone, newcomers) = self.crowd.changes();
        gone.into_iter().for_each(|place| self.connections.remove_place(&self.epoll, place));
        newcomers.into_iter().map(|newcomer| self.add(newcomer)).collect()
    }

    /// Sends everything, to its end or until there is no point in going on. Returns the bytes of the source.
    pub fn run(mut self, first: Vec<NewPeer>) -> Result<Option<End>, ServeError> {
        let mut ready =
            first.into_iter().map(|newcomer| self.add(newcomer)).collect::<Result<Vec<_>, _>>()?;
        ready.extend(self.welcome()?);
        loop {
            if stop_signal().is_some() {
                return Err(ServeError::Interrupted);
            }
            if self.read_source()? {
                // Whoever waited for bytes rather than for its socket has something to do now.
                ready = self.connections.numbers();
            }
            let mut again = Vec::new();
            for number in std::mem::take(&mut ready) {
                match self.turn(number)? {
                    Turn::Again => again.push(number),
                    Turn::Wait | Turn::Over => {}
                }
            }
            self.catch_up_sum()?;
            let most = self.window.as_ref().map_or_else(|| self.connections.fastest(), Window::end);
            self.crowd.sent(most);
            ready = again;
            if self.connections.is_empty() {
                // Whoever came meanwhile is not turned away.
                ready.extend(self.welcome()?);
                if ready.is_empty()
                    && let Some(end) = self.end_of_all()?
                    && self.crowd.close()
                {
                    return Ok(end);
                }
            }
            if ready.is_empty() && !self.may_read() {
                let crowd = self.crowd;
                // While there is room to read into, the source is waited for, and no peer is to blame.
                let rang = match self.window.as_ref().is_some_and(Window::has_room) && self.total.is_none() {
                    true => self.wait(&mut ready, None)?,
                    false => crowd.waiting(|| self.wait(&mut ready, crowd.patience()))?,
                };
                if rang {
                    ready.extend(self.welcome()?);
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

    /// Sleeps until a socket takes more, the source has more, somebody came or went (true), or somebody wants us to stop;
    /// at most so long.
    fn wait(&mut self, ready: &mut Vec<usize>, most: Option<Duration>) -> Result<bool, ServeError> {
        let mut rang = false;
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let deadline = most.and_then(|most| Instant::now().checked_add(most));
        let count = loop {
            let nap = deadline.map(timeout::until);
            match epoll::wait(&self.epoll, &mut events, nap.map(|(nap, _)| nap).as_ref()) {
                Err(Errno::INTR) => break 0,
                Ok(0) if nap.is_some_and(|(_, is_last)| !is_last) => {}
                Ok(0) => return Err(ServeError::TimedOut),
                other => break other.map_err(cannot("wait for the sockets"))?,
            }
        };
        if stop_signal().is_some() {
            return Err(ServeError::Interrupted);
        }
        for event in &events[..count] {
            let (data, flags) = (event.data, event.flags);
            match data.u64() {
                STOP => self.check_cancelled()?,
                BELL => rang = true,
                SOURCE => self.window.as_mut().expect("only streams are watched").readable = true,
                number if flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR) => {
                    self.connections.remove(&self.epoll, number as usize);
                }
                number => ready.push(number as usize),
            }
        }
        Ok(rang)
    }

    /// The host cancelled, because of something that may have changed since: somebody came after the last one had gone.
    fn check_cancelled(&mut self) -> Result<(), ServeError> {
        // Taken back first, then looked at: no cancelling is missed.
        self.supply.cancel.drain();
        match (self.crowd.is_over(), self.total) {
            (false, _) => {}
            (true, None) => return Err(ServeError::Over),
            // The last one has gone with everything, before we learnt from the other sockets that theirs are gone.
            (true, Some(_)) => self.connections.remove_all(&self.epoll),
        }
        Ok(())
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
        let piece = window.read(|buffer| self.supply.source.next(buffer, self.supply.cancel.as_fd()));
        if matches!(piece, Err(SourceError::Interrupted)) && stop_signal().is_none() {
            return self.check_cancelled().map(|()| false);
        }
        match piece.map_err(source_failed)? {
            Chunk::Bytes(_) => {
                if let Some(sum) = &mut self.sum {
                    sum.update(window.last());
                }
                self.summed = window.end();
                if !window.always_readable {
                    window.readable = false;
                    let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
                    let data = epoll::EventData::new_u64(SOURCE);
                    epoll::modify(&self.epoll, self.supply.source.as_fd(), data, flags)
                        .map_err(cannot("watch the source"))?;
                }
            }
            Chunk::Hole(_) => unreachable!("streams have no holes"),
            Chunk::End => self.total = Some(window.end()),
        }
        Ok(true)
    }

    fn slowest(&self) -> u64 {
        self.connections.slowest().unwrap_or(u64::MAX)
    }

    /// The kernel sends a file without us seeing it, so its checksum is a pass of its own, close behind the fastest peer.
    fn catch_up_sum(&mut self) -> Result<(), ServeError> {
        let Some(sum) = self.sum.as_mut().filter(|_| self.window.is_none()) else { return Ok(()) };
        let fastest = self.connections.fastest();
        if self.summed >= fastest {
            return Ok(());
        }
        let mut buffer = vec![0; TURN];
        while self.summed < fastest {
            // It can take long: holes are sent in no time.
            if stop_signal().is_some() {
                return Err(ServeError::Interrupted);
            }
            if self.crowd.is_over() {
                return Err(ServeError::Over);
            }
            let room = (fastest - self.summed).min(TURN as u64) as usize;
            let piece = self.supply.source.extent_at(self.summed).map_err(source_failed)?;
            match piece {
                Chunk::Hole(length) => {
                    let length = length.min(fastest - self.summed);
                    sum.update_zeros(length);
                    self.summed += length;
                }
                Chunk::Bytes(length) => {
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
                Chunk::End => return Err(shrank(fastest, self.summed)),
            }
        }
        Ok(())
    }

    /// Sends one peer its share.
    fn turn(&mut self, number: usize) -> Result<Turn, ServeError> {
        let mut left = TURN;
        loop {
            let Some(connection) = self.connections.get_mut(number) else { return Ok(Turn::Over) };
            let sent = if connection.pending_sent < connection.pending.len() {
                rustix::net::send(
                    &connection.socket,
                    &connection.pending[connection.pending_sent..],
                    SendFlags::NOSIGNAL,
                )
                .inspect(|count| connection.pending_sent += count)
            } else if connection.body > 0 && left == 0 {
                return Ok(Turn::Again);
            } else if connection.body > 0 {
                self.send_body(number, left)?.inspect(|count| left = left.saturating_sub(*count))
            } else if connection.ending {
                self.connections.remove(&self.epoll, number);
                return Ok(Turn::Over);
            } else if self.next_frame(number)? {
                continue;
            } else {
                return Ok(Turn::Wait);
            };
            match sent {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Turn::Wait),
                Err(_) => {
                    // Its process is gone, or will be: the control thread says how.
                    self.connections.remove(&self.epoll, number);
                    return Ok(Turn::Over);
                }
            }
        }
    }

    /// Sends a part of the current frame's body; the outer error is the source's, the inner one the socket's.
    fn send_body(&mut self, number: usize, most: usize) -> Result<Result<usize, Errno>, ServeError> {
        let Some(connection) = self.connections.get_mut(number) else { return Ok(Ok(0)) };
        let mut position = connection.position();
        let most = most.min(connection.body);
        let sent = match &self.window {
            Some(window) => {
                rustix::net::send(&connection.socket, window.bytes(position, most), SendFlags::NOSIGNAL)
            }
            None => {
                send_file(self.supply.source, &connection.socket, &mut self.scratch, &mut position, most)?
            }
        };
        match sent {
            Ok(0) => return Err(shrank(connection.at, position)),
            Ok(count) => {
                connection.body -= count;
                self.crowd.is_at(connection.place, connection.position());
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::PIPE | Errno::CONNRESET) => {}
            // No socket fails in another way, so it is the source that does.
            Err(error) => return Err(source_failed(SourceError::Read(error))),
        }
        Ok(sent)
    }

    /// Starts the next frame; false if there is nothing to send yet.
    fn next_frame(&mut self, number: usize) -> Result<bool, ServeError> {
        let Some(connection) = self.connections.get_mut(number) else { return Ok(false) };
        let at = connection.at;
        let piece = match &self.window {
            Some(window) => match window.available(at) {
                0 if self.total.is_none() => return Ok(false),
                0 => Chunk::End,
                count => Chunk::Bytes(count),
            },
            None => match self.total {
                Some(total) if at == total => Chunk::End,
                _ => self.supply.source.extent_at(at).map_err(source_failed)?,
            },
        };
        connection.pending_sent = 0;
        let left_in_total = self.total.map_or(u64::MAX, |total| total.saturating_sub(at));
        match piece {
            Chunk::Bytes(count) => {
                let count = count.min(TURN).min(left_in_total.try_into().unwrap_or(usize::MAX));
                connection.body = count;
                connection.at += count as u64;
                connection.pending = Head::Bytes(count as u32).encode().to_vec();
            }
            Chunk::Hole(length) => {
                let length = length.min(left_in_total);
                connection.at += length;
                self.crowd.is_at(connection.place, connection.at);
                connection.pending = Head::Hole(length).encode().to_vec();
            }
            Chunk::End => {
                connection.ending = true;
                // The first to reach the end decides where it is, for all.
                self.total = Some(at);
                self.catch_up_sum()?;
                let end = End { total: at, checksum: self.sum.as_ref().map(Checksum::finish) };
                if let Some(connection) = self.connections.get_mut(number) {
                    connection.pending = frame::encode_end(end);
                }
                return Ok(true);
            }
        }
        let reached = connection.at;
        self.connections.reach(reached);
        Ok(true)
    }
}

/// Sends a part of a regular file; the outer error is the source's, the inner one the socket's or the source's.
fn send_file(
    source: &Source,
    socket: &OwnedFd,
    scratch: &mut Option<Vec<u8>>,
    position: &mut u64,
    most: usize,
) -> Result<Result<usize, Errno>, ServeError> {
    if scratch.is_none() {
        match rustix::fs::sendfile(socket, source.as_fd(), Some(position), most) {
            // A container's filter, or a file system from which the kernel cannot send.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {}
            other => return Ok(other),
        }
    }
    let scratch = scratch.get_or_insert_with(|| vec![0; TURN]);
    let room = most.min(scratch.len());
    let count = source.read_at(&mut scratch[..room], *position).map_err(source_failed)?;
    if count == 0 {
        return Ok(Ok(0));
    }
    Ok(rustix::net::send(socket, &scratch[..count], SendFlags::NOSIGNAL))
}

fn source_failed(error: SourceError) -> ServeError {
    match error {
        SourceError::Interrupted if stop_signal().is_some() => ServeError::Interrupted,
        SourceError::Interrupted => ServeError::Over,
        error => ServeError::Source(error),
    }
}

fn shrank(was: u64, is: u64) -> ServeError {
    ServeError::Source(SourceError::Shrank { was, is })
}
