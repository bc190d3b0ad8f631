//! The sockets of those who are sent to, and what is on its way to each. Who has gone leaves nothing open, and its number
//! to somebody who comes later.

use super::crowd::NewPeer;
use crate::os::close_on_fork::CloseOnForkFd;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::Arc;

/// One peer's socket and what is on its way to it.
pub(super) struct Connection {
    pub socket: Arc<CloseOnForkFd>,
    /// What its host calls it.
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
    /// How far the fastest was, of all there ever were.
    fastest: u64,
}

impl Connections {
    pub fn new() -> Self {
        Self { all: Vec::new(), fastest: 0 }
    }

    /// Adds a peer, to be sent everything from `at` on; `epoll` tells of its socket by its number, which is returned.
    pub fn add(&mut self, epoll: &OwnedFd, newcomer: NewPeer, at: u64) -> Result<usize, Errno> {
        let NewPeer { socket, place, from_first: _ } = newcomer;
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

    /// The connection of a number; `None` if its peer has gone, or has everything.
    pub fn get_mut(&mut self, number: usize) -> Option<&mut Connection> {
        self.all.get_mut(number)?.as_mut()
    }

    /// One more frame was begun, up to `at`.
    pub fn reach(&mut self, at: u64) {
        self.fastest = self.fastest.max(at);
    }

    /// How far the fastest was framed, of all there ever were.
    pub fn fastest(&self) -> u64 {
        self.fastest
    }

    /// How far the slowest of those who are here was sent; `None` without any.
    pub fn slowest(&self) -> Option<u64> {
        self.all.iter().flatten().map(Connection::position).min()
    }

    /// Lets go of a peer.
    pub fn remove(&mut self, epoll: &OwnedFd, number: usize) {
        if let Some(connection) = self.all.get_mut(number).and_then(Option::take) {
            // Not by closing alone: its host may have a copy.
            let _ = epoll::delete(epoll, &connection.socket);
        }
    }

    /// Lets go of whoever has this place.
    pub fn remove_place(&mut self, epoll: &OwnedFd, place: u32) {
        let is_there = |connection: &Option<Connection>| {
            connection.as_ref().is_some_and(|connection| connection.place == place)
        };
        while let Some(number) = self.all.iter().position(is_there) {
            self.remove(epoll, number);
        }
    }

    /// Lets go of everybody.
    pub fn remove_all(&mut self, epoll: &OwnedFd) {
        (0..self.all.len()).for_each(|number| self.remove(epoll, number));
    }

    /// Whether nobody is being sent anything.
    pub fn is_empty(&self) -> bool {
        self.all.iter().all(Option::is_none)
    }

    /// The numbers of those who are here.
    pub fn numbers(&self) -> Vec<usize> {
        (0..self.all.len()).filter(|&number| self.all[number].is_some()).collect()
    }
}
