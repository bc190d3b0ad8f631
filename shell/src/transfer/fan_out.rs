//! Sending one source through many sockets at once.
//!
//! The kernel sends a regular file (sendfile), to each receiver from a position of its own. Any other source passes
//! through a window of blocks in the sender. The sender reads only as far as the slowest receiver allows, so memory is
//! bounded.

use super::checksum::Checksum;
use super::connections::Connections;
use super::send_loop::SendFailure;
use super::source::{Chunk, Source, SourceError};
use super::window::Window;
use crate::channel::SendError;
use crate::channel::control::peers::PeerTable;
use crate::channel::control::progress::SendStatus;
use crate::channel::transport::frame::{self, Head};
use crate::channel::transport::socket::{NewPeer, SocketTransport};
use crate::os::error::cannot;
use crate::os::signal::stop_signal;
use crate::os::timeout;
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::time::{Duration, Instant};
use whorl_core::error::End;

/// The most bytes in one frame, and about the most bytes for one receiver before the others have their turn.
const TURN: usize = 1 << 18;

/// What ended a connection's turn.
enum Turn {
    /// The socket is full, or the source has nothing yet.
    Wait,
    /// It had its share of the turn.
    Again,
    /// It has everything, or has gone.
    Over,
}

/// The receivers of a source.
pub(super) struct FanOut<'a> {
    pub transport: &'a SocketTransport,
    pub peers: &'a PeerTable,
    pub status: &'a SendStatus,
    /// The longest wait while no receiver moves.
    pub timeout: Option<Duration>,
}

/// A source that is being sent.
struct Sending<'a> {
    to: FanOut<'a>,
    source: &'a mut Source,
    connections: Connections,
    epoll: OwnedFd,
    /// For sources that are not regular files.
    window: Option<Window>,
    /// The buffer for bytes of a regular file, if the kernel refused to send from the file itself.
    scratch: Option<Vec<u8>>,
    /// The checksum so far, and its position.
    sum: Option<Checksum>,
    summed: u64,
    /// The total, when it is known.
    total: Option<u64>,
}

/// The most blocks of a stream that are kept for the slowest receiver.
pub(super) const BLOCKS: usize = 8;

impl<'a> FanOut<'a> {
    /// Sends everything, to the end or until no receiver needs more. A stream passes through at most [`BLOCKS`] blocks of
    /// `block` bytes. Returns the end record, or `None` if no receiver joined.
    ///
    /// # Blocking
    /// On the source, and on the slowest receiver.
    ///
    /// # Errors
    /// The errors of [`send_blocks`](super::send_loop::send_blocks).
    pub(super) fn send(
        self,
        source: &'a mut Source,
        block: usize,
        verify: bool,
    ) -> Result<Option<End>, SendFailure> {
        let failed = cannot("watch the sockets");
        let epoll = crate::os::event_fd::new_epoll().map_err(&failed)?;
        let add =
            |fd: BorrowedFd<'_>, data, flags| epoll::add(&epoll, fd, epoll::EventData::new_u64(data), flags);
        for stop in [crate::os::signal::stop_event().map_err(&failed)?, self.peers.cancelled()] {
            add(stop, STOP, epoll::EventFlags::IN).map_err(&failed)?;
        }
        add(self.transport.changed().as_fd(), CHANGED, epoll::EventFlags::IN).map_err(&failed)?;
        let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        let window = match source.is_file() {
            true => None,
            // A regular file as standard input is always ready, and epoll refuses it.
            false => match add(source.as_fd(), SOURCE, once) {
                Ok(()) => Some(Window::new(block, BLOCKS, false)),
                Err(Errno::PERM) => Some(Window::new(block, BLOCKS, true)),
                Err(error) => return Err(failed(error).into()),
            },
        };
        let sending = Sending {
            to: self,
            source,
            connections: Connections::default(),
            epoll,
            window,
            scratch: None,
            sum: verify.then(Checksum::new),
            summed: 0,
            total: None,
        };
        sending.run()
    }

    fn needs_receivers(&self) -> bool {
        self.status.needs_receivers()
    }

    /// Returns the reason to end, if there is one.
    fn check(&self) -> Result<(), SendFailure> {
        match self.peers.is_asked_to_stop() {
            true => Err(SendError::Stopped.into()),
            false if self.needs_receivers() && !self.peers.has_receivers() => Err(SendFailure::NoReceivers),
            false => Ok(()),
        }
    }
}

const STOP: u64 = u64::MAX;
const SOURCE: u64 = u64::MAX - 1;
const CHANGED: u64 = u64::MAX - 2;

impl Sending<'_> {
    /// Adds a receiver, and returns its place.
    fn add(&mut self, new: NewPeer) -> Result<usize, SendFailure> {
        let at = match (&self.window, new.from_first) {
            (_, true) => 0,
            (Some(window), false) => window.end(),
            (None, false) => self.connections.fastest(),
        };
        Ok(self.connections.add(&self.epoll, new, at).map_err(cannot("watch the sockets"))?)
    }

    /// Removes the receivers that left, and adds those that joined. Returns the places of the latter.
    fn admit_new(&mut self) -> Result<Vec<usize>, SendFailure> {
        let (gone, new) = self.to.transport.take_changes();
        gone.into_iter().for_each(|place| self.connections.remove(&self.epoll, place as usize));
        new.into_iter().map(|new| self.add(new)).collect()
    }

    fn run(mut self) -> Result<Option<End>, SendFailure> {
        let mut ready = self.admit_new()?;
        loop {
            if stop_signal().is_some() {
                return Err(SendFailure::Interrupted);
            }
            if self.read_source()? {
                // Receivers that waited for bytes, and not for their sockets, can continue now.
                ready = self.connections.places();
            }
            let mut again = Vec::new();
            for place in std::mem::take(&mut ready) {
                match self.turn(place)? {
                    Turn::Again => again.push(place),
                    Turn::Wait | Turn::Over => {}
                }
            }
            self.catch_up_sum()?;
            let most = self.window.as_ref().map_or_else(|| self.connections.fastest(), Window::end);
            self.to.status.set_sent(most);
            ready = again;
            if self.connections.is_empty() {
                // A receiver that joined in between is not refused.
                ready.extend(self.admit_new()?);
                if ready.is_empty()
                    && let Some(end) = self.end_of_all()?
                    && self.to.transport.close()
                {
                    return Ok(end);
                }
            }
            if ready.is_empty() && !self.may_read() {
                let (status, timeout) = (self.to.status, self.to.timeout);
                // While the window has room, the loop waits for the source, and no receiver is reported as slow.
                let changed = match self.window.as_ref().is_some_and(Window::has_room) && self.total.is_none()
                {
                    true => self.wait(&mut ready, None)?,
                    false => status.waiting(|| self.wait(&mut ready, timeout))?,
                };
                if changed {
                    ready.extend(self.admit_new()?);
                }
                if self.total.is_none() {
                    self.to.check()?;
                }
            }
        }
    }

    /// Called without a connection. Returns `None` if more receivers may join, or else the end record, if there is one.
    fn end_of_all(&mut self) -> Result<Option<Option<End>>, SendFailure> {
        let end = |total| End { total, checksum: self.sum.as_ref().map(Checksum::finish) };
        match (self.total, self.to.needs_receivers()) {
            (Some(total), _) => Ok(Some(Some(end(total)))),
            (None, true) => self.to.check().and(Err(SendFailure::NoReceivers)),
            // A file can be sent again later. A stream continues for receivers that may join.
            (None, false) if self.window.is_none() => Ok(Some(None)),
            (None, false) => Ok(None),
        }
    }

    /// Sleeps until a socket accepts more, the source has more, a receiver joined or left (then returns `true`), or
    /// there is a reason to end; at most for `timeout`.
    fn wait(&mut self, ready: &mut Vec<usize>, timeout: Option<Duration>) -> Result<bool, SendFailure> {
        let mut changed = false;
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let count = loop {
            let nap = deadline.map(timeout::until);
            match epoll::wait(&self.epoll, &mut events, nap.map(|(nap, _)| nap).as_ref()) {
                Err(Errno::INTR) => break 0,
                Ok(0) if nap.is_some_and(|(_, is_last)| !is_last) => {}
                Ok(0) => return Err(SendError::TimedOut.into()),
                other => break other.map_err(cannot("wait for the sockets"))?,
            }
        };
        if stop_signal().is_some() {
            return Err(SendFailure::Interrupted);
        }
        for event in &events[..count] {
            let (data, flags) = (event.data, event.flags);
            match data.u64() {
                STOP => self.check_cancelled()?,
                CHANGED => changed = true,
                SOURCE => self.window.as_mut().expect("only streams are watched").readable = true,
                place if flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR) => {
                    self.connections.remove(&self.epoll, place as usize);
                }
                place => ready.push(place as usize),
            }
        }
        Ok(changed)
    }

    /// Checks why the control thread cancelled. The reason may be gone, because a receiver may have joined after the
    /// last one left.
    fn check_cancelled(&mut self) -> Result<(), SendFailure> {
        // Drained before the check, so that no cancellation is missed.
        self.to.peers.cancel_event().drain();
        match (self.to.check(), self.total) {
            (Ok(()), _) => Ok(()),
            (Err(reason), None) => Err(reason),
            // The last receiver has left with everything, before the other sockets reported that their receivers are
            // gone.
            (Err(_), Some(_)) => {
                self.connections.remove_all(&self.epoll);
                Ok(())
            }
        }
    }

    fn may_read(&self) -> bool {
        let Some(window) = self.window.as_ref().filter(|window| window.readable && self.total.is_none())
        else {
            return false;
        };
        window.has_room() || window.start_without(self.slowest()) > window.start_without(0)
    }

    /// Reads one block of a stream, if the window has room and the source has something.
    fn read_source(&mut self) -> Result<bool, SendFailure> {
        loop {
            let slowest = self.slowest();
            // Blocks are kept while there is room, for receivers that join late.
            let Some(window) = self.window.as_mut().filter(|window| !window.has_room()) else { break };
            if self.to.transport.may_forget(window.start_without(slowest)) {
                window.forget_before(slowest);
                break;
            }
            self.admit_new()?;
        }
        let Some(window) = &mut self.window else { return Ok(false) };
        if self.total.is_some() || !window.readable || !window.has_room() {
            return Ok(false);
        }
        let chunk = window.read(|buffer| self.source.next(buffer, self.to.peers.cancelled()));
        if matches!(chunk, Err(SourceError::Interrupted)) && stop_signal().is_none() {
            return self.check_cancelled().map(|()| false);
        }
        match chunk.map_err(source_failed)? {
            Chunk::Bytes(_) => {
                if let Some(sum) = &mut self.sum {
                    sum.update(window.last());
                }
                self.summed = window.end();
                if !window.always_readable {
                    window.readable = false;
                    let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
                    let data = epoll::EventData::new_u64(SOURCE);
                    epoll::modify(&self.epoll, self.source.as_fd(), data, flags)
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

    /// Adds bytes to the checksum. The kernel sends a file without showing it, so this is a pass of its own, close
    /// behind the fastest receiver.
    fn catch_up_sum(&mut self) -> Result<(), SendFailure> {
        let Some(sum) = self.sum.as_mut().filter(|_| self.window.is_none()) else { return Ok(()) };
        let fastest = self.connections.fastest();
        if self.summed >= fastest {
            return Ok(());
        }
        let mut buffer = vec![0; TURN];
        while self.summed < fastest {
            // This can take long, because holes are sent in no time.
            if stop_signal().is_some() {
                return Err(SendFailure::Interrupted);
            }
            self.to.check()?;
            let room = (fastest - self.summed).min(TURN as u64) as usize;
            let chunk = self.source.extent_at(self.summed).map_err(source_failed)?;
            match chunk {
                Chunk::Hole(length) => {
                    let length = length.min(fastest - self.summed);
                    sum.update_zeros(length);
                    self.summed += length;
                }
                Chunk::Bytes(length) => {
                    let room = room.min(length);
                    let count =
                        self.source.read_at(&mut buffer[..room], self.summed).map_err(source_failed)?;
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

    /// Sends one receiver its share.
    fn turn(&mut self, place: usize) -> Result<Turn, SendFailure> {
        let mut left = TURN;
        loop {
            let Some(connection) = self.connections.get_mut(place) else { return Ok(Turn::Over) };
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
                self.send_body(place, left)?.inspect(|count| left = left.saturating_sub(*count))
            } else if connection.ending {
                self.connections.remove(&self.epoll, place);
                return Ok(Turn::Over);
            } else if self.next_frame(place)? {
                continue;
            } else {
                return Ok(Turn::Wait);
            };
            match sent {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Turn::Wait),
                Err(_) => {
                    // Its process has gone, or will soon. The control thread learns how.
                    self.connections.remove(&self.epoll, place);
                    return Ok(Turn::Over);
                }
            }
        }
    }

    /// Sends a part of the current frame's body. The outer error is the source's, the inner one the socket's.
    fn send_body(&mut self, place: usize, most: usize) -> Result<Result<usize, Errno>, SendFailure> {
        let Some(connection) = self.connections.get_mut(place) else { return Ok(Ok(0)) };
        let mut position = connection.position();
        let most = most.min(connection.body);
        let sent = match &self.window {
            Some(window) => {
                rustix::net::send(&connection.socket, window.bytes(position, most), SendFlags::NOSIGNAL)
            }
            None => send_file(self.source, &connection.socket, &mut self.scratch, &mut position, most)?,
        };
        match sent {
            Ok(0) => return Err(shrank(connection.at, position)),
            Ok(count) => {
                connection.body -= count;
                self.to.transport.set_position(place as u32, connection.position());
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::PIPE | Errno::CONNRESET) => {}
            // A socket fails in no other way, so the source failed.
            Err(error) => return Err(source_failed(SourceError::Read(error))),
        }
        Ok(sent)
    }

    /// Starts the next frame. Returns `false` if there is nothing to send yet.
    fn next_frame(&mut self, place: usize) -> Result<bool, SendFailure> {
        let Some(connection) = self.connections.get_mut(place) else { return Ok(false) };
        let at = connection.at;
        let chunk = match &self.window {
            Some(window) => match window.available(at) {
                0 if self.total.is_none() => return Ok(false),
                0 => Chunk::End,
                count => Chunk::Bytes(count),
            },
            None => match self.total {
                Some(total) if at == total => Chunk::End,
                _ => self.source.extent_at(at).map_err(source_failed)?,
            },
        };
        connection.pending_sent = 0;
        let left_in_total = self.total.map_or(u64::MAX, |total| total.saturating_sub(at));
        match chunk {
            Chunk::Bytes(count) => {
                let count = count.min(TURN).min(left_in_total.try_into().unwrap_or(usize::MAX));
                connection.body = count;
                connection.at += count as u64;
                connection.pending = Head::Bytes(count as u32).encode().to_vec();
            }
            Chunk::Hole(length) => {
                let length = length.min(left_in_total);
                connection.at += length;
                self.to.transport.set_position(place as u32, connection.at);
                connection.pending = Head::Hole(length).encode().to_vec();
            }
            Chunk::End => {
                connection.ending = true;
                // The first receiver that reaches the end decides where it is, for all.
                self.total = Some(at);
                self.catch_up_sum()?;
                let end = End { total: at, checksum: self.sum.as_ref().map(Checksum::finish) };
                if let Some(connection) = self.connections.get_mut(place) {
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

/// Sends a part of a regular file. The outer error is the source's, the inner one the socket's or the source's.
fn send_file(
    source: &Source,
    socket: &OwnedFd,
    scratch: &mut Option<Vec<u8>>,
    position: &mut u64,
    most: usize,
) -> Result<Result<usize, Errno>, SendFailure> {
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

fn source_failed(error: SourceError) -> SendFailure {
    match error {
        SourceError::Interrupted if stop_signal().is_some() => SendFailure::Interrupted,
        SourceError::Interrupted => SendFailure::NoReceivers,
        error => SendFailure::Source(error),
    }
}

fn shrank(was: u64, is: u64) -> SendFailure {
    SendFailure::Source(SourceError::Shrank { was, is })
}
