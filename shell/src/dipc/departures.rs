//! Clients that are sent away before they are served. Each gets one line.
//!
//! If the server closes a socket that holds unread input, the kernel discards the line. If the client sends more after the
//! close, it ends with a broken pipe before it has read the line. So the server keeps the socket for a moment and drops
//! what the client still sends. It keeps few such sockets: when there is one too many, it closes the oldest.

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Clients at a time.
const MOST: usize = 64;
/// How long a client keeps its socket, and after how many bytes it loses it earlier.
const PATIENCE: Duration = Duration::from_secs(1);
const DRAINED: usize = 64 << 10;

#[derive(Debug)]
struct Departure {
    number: u64,
    socket: OwnedFd,
    until: Instant,
    /// How much more is dropped.
    left: usize,
}

/// Clients that are sent away, the oldest first.
#[derive(Debug)]
pub struct Departures {
    epoll: OwnedFd,
    all: VecDeque<Departure>,
    next: u64,
}

impl Departures {
    /// Makes an empty set.
    ///
    /// # Errors
    /// The kernel has no descriptor for it.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, all: VecDeque::new(), next: 0 })
    }

    /// Sends a client its line, closes this half of the connection, and keeps the socket. `socket` must be non-blocking.
    pub fn add(&mut self, socket: OwnedFd, line: &[u8], now: Instant) {
        // A fresh socket takes a line at once.
        if rustix::net::send(&socket, line, SendFlags::NOSIGNAL).is_err()
            || rustix::net::shutdown(&socket, Shutdown::Write).is_err()
        {
            return;
        }
        if self.all.len() >= MOST {
            self.all.pop_front();
        }
        let number = self.next;
        self.next += 1;
        if epoll::add(&self.epoll, &socket, EventData::new_u64(number), EventFlags::IN).is_ok() {
            self.all.push_back(Departure { number, socket, until: now + PATIENCE, left: DRAINED });
        }
    }

    /// When [`look`](Self::look) is due, whatever the clients do.
    pub fn deadline(&self) -> Option<Instant> {
        self.all.front().map(|first| first.until)
    }

    /// Drops what the clients have sent, and closes the sockets of the clients that have finished.
    pub fn look(&mut self, now: Instant) {
        while self.deadline().is_some_and(|until| until <= now) {
            self.all.pop_front();
        }
        let mut events = Vec::with_capacity(MOST);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&at_once)).is_err() {
            return; // at the next look
        }
        for event in events {
            let number = event.data.u64();
            let Ok(at) = self.all.binary_search_by_key(&number, |departure| departure.number) else {
                continue;
            };
            if !self.all[at].drain() {
                self.all.remove(at);
            }
        }
    }
}

impl Departure {
    /// Drops what has arrived. Returns `false` if the client has finished, or has sent too much.
    fn drain(&mut self) -> bool {
        let mut bytes = [0; 4096];
        while self.left > 0 {
            match rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((count @ 1.., _)) => self.left = self.left.saturating_sub(count),
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                _ => return false,
            }
        }
        false
    }
}

impl AsFd for Departures {
    /// Readable when a client has sent something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair(listener: &TcpListener) -> (TcpStream, OwnedFd) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, OwnedFd::from(listener.accept().unwrap().0))
    }

    #[test]
    fn a_client_may_send_on_and_reads_its_line_and_few_are_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut departures = Departures::new().unwrap();
        let now = Instant::now();
        let (mut client, socket) = pair(&listener);
        departures.add(socket, b"bye x\n", now);
        for _ in 0..8 {
            client.write_all(&[b'x'; 1000]).unwrap();
            departures.look(now);
        }
        assert_eq!(departures.all.len(), 1);
        let mut line = String::new();
        client.read_to_string(&mut line).unwrap();
        assert_eq!(line, "bye x\n");
        // The client closes its socket, so the server closes its own.
        drop(client);
        let until = Instant::now() + Duration::from_secs(20);
        while departures.deadline().is_some() && Instant::now() < until {
            departures.look(now);
        }
        assert!(departures.all.is_empty());
        // A client that sends without end, clients that do nothing, and more clients than are kept.
        let (mut flood, socket) = pair(&listener);
        departures.add(socket, b"bye x\n", now);
        while departures.deadline().is_some() && Instant::now() < until {
            let _ = flood.write(&[b'x'; 4096]);
            departures.look(now);
        }
        assert!(departures.all.is_empty());
        let clients: Vec<_> = (0..MOST + 9).map(|_| pair(&listener)).collect();
        let (_kept, sockets): (Vec<_>, Vec<_>) = clients.into_iter().unzip();
        sockets.into_iter().for_each(|socket| departures.add(socket, b"bye x\n", now));
        assert_eq!(departures.all.len(), MOST);
        departures.look(now);
        assert_eq!(departures.all.len(), MOST);
        departures.look(now + PATIENCE);
        assert!(departures.all.is_empty());
    }
}
