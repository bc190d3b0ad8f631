//! The sockets of the receivers, and the bytes that are on their way to each. The connection of a receiver that has
//! gone is closed.

use crate::channel::transport::socket::NewPeer;
use crate::os::close_on_fork::CloseOnForkFd;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::Arc;

/// One receiver's socket, and the bytes that are on their way to it.
pub(super) struct Connection {
    pub socket: Arc<CloseOnForkFd>,
    /// How many bytes of the source were framed for it, holes included.
    pub at: u64,
    /// Bytes to send first: a head, or the end.
    pub pending: Vec<u8>,
    pub pending_sent: usize,
    /// Bytes of the current frame's body still to come.
    pub body: usize,
    /// The end is on its way. After that the receiver has everything.
    pub ending: bool,
}

impl Connection {
    /// Returns the byte of the source that is sent to it next.
    pub(super) fn position(&self) -> u64 {
        self.at - self.body as u64
    }
}

/// All connections, by their places in the transport. The epoll instance reports a socket by its place, too.
#[derive(Default)]
pub(super) struct Connections {
    all: Vec<Option<Connection>>,
    /// The furthest position that was framed for any receiver so far.
    fastest: u64,
}

impl Connections {
    /// Adds a receiver that gets everything from `at` on. Returns its place.
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

    /// Returns the connection at a place, or `None` if its receiver has gone or has everything.
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Connection> {
        self.all.get_mut(place)?.as_mut()
    }

    /// Records that a frame was begun that ends at `at`.
    pub(super) fn reach(&mut self, at: u64) {
        self.fastest = self.fastest.max(at);
    }

    /// Returns the furthest position that was framed for any receiver so far.
    pub(super) fn fastest(&self) -> u64 {
        self.fastest
    }

    /// Returns the position of the slowest connected receiver, or `None` if there is none.
    pub(super) fn slowest(&self) -> Option<u64> {
        self.all.iter().flatten().map(Connection::position).min()
    }

    /// Removes a receiver.
    pub(super) fn remove(&mut self, epoll: &OwnedFd, place: usize) {
        if let Some(connection) = self.all.get_mut(place).and_then(Option::take) {
            // Closing alone is not enough, because the transport may have a copy.
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
