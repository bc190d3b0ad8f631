//! Clients that have not sent a right token yet: how many there may be, and which of them makes room.
//!
//! A client without the token costs as much as one that has it, and needs nothing to come back. So such clients take
//! part of the places only. When that part is full, the oldest of them makes room for the next one. A client that has
//! the token needs one moment to send it, and then its place is its own.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::os::thread::unpoisoned;

/// Names a client in the lobby. A later client has a larger one.
pub type Ticket = u64;

/// The lobby of a server: its main thread lets clients in, their workers take them out.
#[derive(Debug)]
pub struct Lobby {
    clients: Mutex<Clients>,
    most: usize,
    /// Clients that were asked to make room and still have a socket. Guards no other memory, hence relaxed.
    leaving: AtomicUsize,
}

/// The workers of the clients.
#[derive(Debug, Default)]
struct Clients {
    next: Ticket,
    /// No whole line has come from these.
    silent: BTreeMap<Ticket, usize>,
    /// These were told to go, and are kept for a moment.
    cancelled: BTreeMap<Ticket, usize>,
}

impl Lobby {
    /// A lobby of a server with `places` places in all.
    pub fn new(places: usize) -> Self {
        Self { clients: Mutex::default(), most: (places / 2).max(1), leaving: AtomicUsize::new(0) }
    }

    /// A client of `worker` comes in.
    pub fn enter(&self, worker: usize) -> Ticket {
        let mut clients = unpoisoned(&self.clients);
        let ticket = clients.next;
        clients.next += 1;
        clients.silent.insert(ticket, worker);
        ticket
    }

    /// A client has sent a right token, or its socket is closed.
    pub fn leave(&self, ticket: Ticket) {
        let mut clients = unpoisoned(&self.clients);
        if clients.silent.remove(&ticket).is_none() {
            clients.cancelled.remove(&ticket);
        }
    }

    /// A client was told to go.
    pub fn cancel(&self, ticket: Ticket) {
        let mut clients = unpoisoned(&self.clients);
        if let Some(worker) = clients.silent.remove(&ticket) {
            clients.cancelled.insert(ticket, worker);
        }
    }

    /// Whether the next client needs another to make room.
    pub fn is_full(&self) -> bool {
        let clients = unpoisoned(&self.clients);
        clients.silent.len() + clients.cancelled.len() >= self.most
    }

    /// Takes out the client that makes room, and its worker: the oldest from which no whole line has come. To be told to its
    /// worker, which answers with [`left`](Self::left).
    pub fn make_room(&self) -> Option<(Ticket, usize)> {
        let mut clients = unpoisoned(&self.clients);
        let oldest = clients.silent.pop_first().or_else(|| clients.cancelled.pop_first())?;
        self.leaving.fetch_add(1, Ordering::Relaxed);
        Some(oldest)
    }

    /// The socket of a client that made room is closed.
    pub fn left(&self) {
        self.leaving.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many clients are asked to make room, and have not left yet.
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
