//! Clients that have not sent the right token yet: how many there may be, and which of them makes room.
//!
//! A client without the token costs as much as one with it. So such clients get only a part of the places. If that part
//! is full, the oldest of them makes room for the next one. A client with the token needs only a moment to send it, and
//! then keeps its place.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::os::thread::unpoisoned;

/// Identifies a client in the lobby. A later client has a larger one.
pub type Ticket = u64;

/// The lobby of a server. Its main thread adds clients, and their workers remove them.
#[derive(Debug)]
pub struct Lobby {
    clients: Mutex<Clients>,
    most: usize,
    /// Clients that were asked to make room and still have a socket. It guards no other memory, hence relaxed.
    leaving: AtomicUsize,
}

/// The workers of the clients.
#[derive(Debug, Default)]
struct Clients {
    next: Ticket,
    /// Clients from which no whole line has come.
    silent: BTreeMap<Ticket, usize>,
    /// Clients that must leave, and stay for a moment.
    cancelled: BTreeMap<Ticket, usize>,
}

impl Lobby {
    /// Returns a lobby for a server with `places` places in all.
    pub fn new(places: usize) -> Self {
        Self { clients: Mutex::default(), most: (places / 2).max(1), leaving: AtomicUsize::new(0) }
    }

    /// Adds a client of `worker`.
    pub fn enter(&self, worker: usize) -> Ticket {
        let mut clients = unpoisoned(&self.clients);
        let ticket = clients.next;
        clients.next += 1;
        clients.silent.insert(ticket, worker);
        ticket
    }

    /// Removes a client that has sent the right token, or whose socket is closed.
    pub fn leave(&self, ticket: Ticket) {
        let mut clients = unpoisoned(&self.clients);
        if clients.silent.remove(&ticket).is_none() {
            clients.cancelled.remove(&ticket);
        }
    }

    /// Records that a client must leave.
    pub fn cancel(&self, ticket: Ticket) {
        let mut clients = unpoisoned(&self.clients);
        if let Some(worker) = clients.silent.remove(&ticket) {
            clients.cancelled.insert(ticket, worker);
        }
    }

    /// Returns whether the next client needs another one to make room.
    pub fn is_full(&self) -> bool {
        let clients = unpoisoned(&self.clients);
        clients.silent.len() + clients.cancelled.len() >= self.most
    }

    /// Removes the client that makes room, and returns it with its worker: the oldest from which no whole line has
    /// come. The caller asks the worker to close it, and the worker then calls [`left`](Self::left).
    pub fn make_room(&self) -> Option<(Ticket, usize)> {
        let mut clients = unpoisoned(&self.clients);
        let oldest = clients.silent.pop_first().or_else(|| clients.cancelled.pop_first())?;
        self.leaving.fetch_add(1, Ordering::Relaxed);
        Some(oldest)
    }

    /// Records that the socket of a client that made room is closed.
    pub fn left(&self) {
        self.leaving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns how many clients are asked to make room and have not left yet.
    pub fn leaving(&self) -> usize {
        self.leaving.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_silent_client_makes_room_first_then_the_oldest_cancelled_one() {
        let lobby = Lobby::new(8);
        let tickets = [0, 1, 0, 1].map(|worker| lobby.enter(worker));
        assert!(lobby.is_full());
        lobby.cancel(tickets[0]);
        assert!(lobby.is_full(), "it has a socket still");
        assert_eq!(lobby.make_room(), Some((tickets[1], 1)));
        assert!(!lobby.is_full());
        lobby.leave(tickets[2]);
        lobby.leave(tickets[1]);
        assert_eq!(lobby.make_room(), Some((tickets[3], 1)));
        assert_eq!(lobby.make_room(), Some((tickets[0], 0)));
        assert_eq!(lobby.make_room(), None);
        assert_eq!(lobby.leaving(), 3);
        lobby.left();
        assert_eq!(lobby.leaving(), 2);
    }
}
