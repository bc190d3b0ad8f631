//! The sockets of the receivers that are sent to, and what is on its way to each. A receiver that has gone leaves nothing open.

use crate::channel::transport::socket::NewPeer;
use crate::os::close_on_fork::CloseOnForkFd;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::Arc;

/// One receiver's socket, and what is on its way to it.
pub(super) struct Connection {
    pub socket: Arc<CloseOnForkFd>,
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
    pub(super) fn position(&self) -> u64 {
        self.at - self.body as u64
    }
}

/// All connections, by their places in the transport. The epoll instance reports a socket by its place, too.
#[derive(Default)]
pub(super) struct Connections {
    all: Vec<Option<Connection>>,
    /// How far the fastest receiver was framed, of all there ever were.
    fastest: u64,
}

impl Connections {
    /// Adds a receiver, to be sent everything from `at` on, and returns its place.
    pub(super) fn add(&mut self, epoll: &OwnedFd, new: NewPeer, at: u64) -> Result<usize, Errno> {
        let NewPeer { socket, place, from_first: _ } = new;
        let place = place as usize;
        rustix::io::ioctl_fionbio(&socket, true)?;
        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(epoll, &socket, epoll::EventData::new_u64(place as u64), flags)?;
        let (pending, pending_sent, body, ending) = (Vec::new(), 0, 0, false);
        if self.all.len() <= place {
            self.all.resize_with(place + 1, || None);
        }
        self.all[place] = Some(Connection { socket, at, pending, pending_sent, body, ending });
        Ok(place)
    }

    /// Returns the connection at a place; `None` if its receiver has gone, or has everything.
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Connection> {
        self.all.get_mut(place)?.as_mut()
    }

    /// One more frame was begun, up to `at`.
    pub(super) fn reach(&mut self, at: u64) {
        self.fastest = self.fastest.max(at);
    }

    /// Returns how far the fastest receiver was framed, of all there ever were.
    pub(super) fn fastest(&self) -> u64 {
        self.fastest
    }

    /// Returns how far the slowest connected receiver was sent; `None` without any.
    pub(super) fn slowest(&self) -> Option<u64> {
        self.all.iter().flatten().map(Connection::position).min()
    }

    /// Removes a receiver.
    pub(super) fn remove(&mut self, epoll: &OwnedFd, place: usize) {
        if let Some(connection) = self.all.get_mut(place).and_then(Option::take) {
            // Closing alone is not enough: the transport may have a copy.
            let _ = epoll::delete(epoll, &connection.socket);
        }
    }

    /// Removes all receivers.
    pub(super) fn remove_all(&mut self, epoll: &OwnedFd) {
        (0..self.all.len()).for_each(|place| self.remove(epoll, place));
    }

    /// Returns whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.all.iter().all(Option::is_none)
    }

    /// Returns the places of all connections.
    pub(super) fn places(&self) -> Vec<usize> {
        (0..self.all.len()).filter(|&place| self.all[place].is_some()).collect()
    }
}
