//! The sockets of the receivers that are sent to, and what is on its way to each. A receiver that has gone leaves nothing open,
//! and its number is used again.

use crate::channel::transport::socket::NewPeer;
use crate::os::close_on_fork::CloseOnForkFd;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::Arc;

/// One receiver's socket, and what is on its way to it.
pub(super) struct Connection {
    pub socket: Arc<CloseOnForkFd>,
    /// Its place in the transport.
    pub place: u32,
    /// How many bytes of the source were framed for it, holes included.
    pub at: u64,
    /// Bytes to send first: a head, or the end.
    pub pending: Vec<u8>,
    pub pending_sent: usize,
    /// Bytes of the current frame's body still to come.
    pub body: usize,
    /// The end is on its way: with that it has everything.
    pub ending: bool,
}

impl Connection {
    /// The byte of the source that it is sent next.
    pub fn position(&self) -> u64 {
        self.at - self.body as u64
    }
}

/// All connections, by numbers that the epoll instance knows them by.
pub(super) struct Connections {
    all: Vec<Option<Connection>>,
    /// How far the fastest receiver was framed, of all there ever were.
    fastest: u64,
}

impl Connections {
    pub fn new() -> Self {
        Self { all: Vec::new(), fastest: 0 }
    }

    /// Adds a receiver, to be sent everything from `at` on. Returns its number, by which `epoll` reports its socket.
    pub fn add(&mut self, epoll: &OwnedFd, new: NewPeer, at: u64) -> Result<usize, Errno> {
        let NewPeer { socket, place, from_first: _ } = new;
        let number = self.all.iter().position(Option::is_none).unwrap_or(self.all.len());
        rustix::io::ioctl_fionbio(&socket, true)?;
        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(epoll, &socket, epoll::EventData::new_u64(number as u64), flags)?;
        let (pending, pending_sent, body, ending) = (Vec::new(), 0, 0, false);
        let connection = Some(Connection { socket, place, at, pending, pending_sent, body, ending });
        match self.all.get_mut(number) {
            Some(free) => *free = connection,
            None => self.all.push(connection),
        }
        Ok(number)
    }

    /// Returns the connection of a number; `None` if its receiver has gone, or has everything.
    pub fn get_mut(&mut self, number: usize) -> Option<&mut Connection> {
        self.all.get_mut(number)?.as_mut()
    }

    /// One more frame was begun, up to `at`.
    pub fn reach(&mut self, at: u64) {
        self.fastest = self.fastest.max(at);
    }

    /// Returns how far the fastest receiver was framed, of all there ever were.
    pub fn fastest(&self) -> u64 {
        self.fastest
    }

    /// Returns how far the slowest connected receiver was sent; `None` without any.
    pub fn slowest(&self) -> Option<u64> {
        self.all.iter().flatten().map(Connection::position).min()
    }

    /// Removes a receiver.
    pub fn remove(&mut self, epoll: &OwnedFd, number: usize) {
        if let Some(connection) = self.all.get_mut(number).and_then(Option::take) {
            // Closing alone is not enough: the transport may have a copy.
            let _ = epoll::delete(epoll, &connection.socket);
        }
    }

    /// Removes the receiver that has this place.
    pub fn remove_place(&mut self, epoll: &OwnedFd, place: u32) {
        let is_there = |connection: &Option<Connection>| {
            connection.as_ref().is_some_and(|connection| connection.place == place)
        };
        while let Some(number) = self.all.iter().position(is_there) {
            self.remove(epoll, number);
        }
    }

    /// Removes all receivers.
    pub fn remove_all(&mut self, epoll: &OwnedFd) {
        (0..self.all.len()).for_each(|number| self.remove(epoll, number));
    }

    /// Returns whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.all.iter().all(Option::is_none)
    }

    /// Returns the numbers of all connections.
    pub fn numbers(&self) -> Vec<usize> {
        (0..self.all.len()).filter(|&number| self.all[number].is_some()).collect()
    }
}
