//! Clients that get one line and are not served.
//!
//! If the server closed a socket that holds unread input, the kernel would drop a line that the client has not read
//! yet. So the server closes its half, and drops what the client still sends, for a moment and up to a bound.

use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::socket::{MAX_DISCARD, discard, send_last};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long the server drops what a client still sends.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The most such clients at a time. If there are more, the server closes the oldest.
const MOST: usize = 64;

/// The clients that have their last line and are still connected.
#[derive(Debug, Default)]
pub(crate) struct RejectedClients {
    /// In the order of connecting.
    clients: VecDeque<Client>,
    next: u64,
}

#[derive(Debug)]
struct Client {
    number: u64,
    socket: CloseOnForkFd,
    until: Instant,
    /// How many more bytes may be dropped.
    left: usize,
}

impl RejectedClients {
    /// Sends a client its only line. The caller watches the socket that this returns, if any, under this number.
    pub(crate) fn add(
        &mut self,
        socket: CloseOnForkFd,
        line: &[u8],
        now: Instant,
    ) -> Option<(&CloseOnForkFd, u64)> {
        let mut client = Client { number: self.next, socket, until: now + TIMEOUT, left: MAX_DISCARD };
        self.next += 1;
        send_last(&client.socket, line);
        if !client.drain() {
            return None;
        }
        if self.clients.len() == MOST {
            self.clients.pop_front();
        }
        self.clients.push_back(client);
        self.clients.back().map(|client| (&client.socket, client.number))
    }

    /// Drops what a client has sent, and closes a client that has gone or sent too much.
    pub(crate) fn on_readable(&mut self, number: u64) {
        if let Ok(at) = self.clients.binary_search_by_key(&number, |client| client.number)
            && let Some(client) = self.clients.get_mut(at)
            && !client.drain()
        {
            self.clients.remove(at);
        }
    }

    /// Returns when [`expire`](Self::expire) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.clients.front().map(|client| client.until)
    }

    /// Closes the sockets whose time has passed.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.clients.front().is_some_and(|client| client.until <= now) {
            self.clients.pop_front();
        }
    }

    /// Closes all sockets, because their descriptors are needed.
    pub(crate) fn clear(&mut self) {
        self.clients.clear();
    }
}

impl Client {
    /// Drops what has arrived. Returns `false` if the client has gone, or has sent too much.
    fn drain(&mut self) -> bool {
        discard(&self.socket, &mut self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_client_is_listened_to_until_it_goes_or_says_too_much_or_its_time_is_up() {
        let mut rejected = RejectedClients::default();
        let now = Instant::now();
        let mut clients: Vec<UnixStream> = (0..3)
            .map(|_| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                rejected.add(CloseOnForkFd::of(theirs.into()).unwrap(), b"bye busy\n", now).unwrap();
                ours
            })
            .collect();
        assert_eq!(rejected.deadline(), Some(now + TIMEOUT));
        for _ in 0..15 {
            clients[0].write_all(&[0; 4096]).unwrap();
            rejected.on_readable(0);
        }
        clients[0].write_all(&[0; 4096]).unwrap();
        rejected.on_readable(0);
        clients[0].write_all(&[0; 4096]).unwrap_err();
        clients[1].shutdown(std::net::Shutdown::Write).unwrap();
        rejected.on_readable(1);
        rejected.on_readable(1);
        assert_eq!(rejected.clients.len(), 1);
        rejected.expire(now + TIMEOUT);
        assert!(rejected.clients.is_empty());
        for mut client in clients {
            let mut line = String::new();
            client.read_to_string(&mut line).unwrap();
            assert_eq!(line, "bye busy\n");
        }
        // A client that leaves at once needs no place.
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert!(rejected.add(CloseOnForkFd::of(theirs.into()).unwrap(), b"bye busy\n", now).is_none());
        // One more than the places, so the oldest is closed.
        let more: Vec<_> = (0..MOST + 1)
            .map(|_| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                rejected.add(CloseOnForkFd::of(theirs.into()).unwrap(), b"bye busy\n", now).unwrap();
                ours
            })
            .collect();
        assert_eq!(rejected.clients.len(), MOST);
        (&more[0]).write_all(b"x").unwrap_err();
        (&more[1]).write_all(b"x").unwrap();
    }
}
