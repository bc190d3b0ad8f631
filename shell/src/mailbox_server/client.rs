//! A client of a mailbox server, over TCP or a unix socket. It sends one request at a time, and waits for each reply.
//! It does not wait without end for a server that does not answer, and uses no more memory than a mailbox can hold.

use rustix::io::Errno;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

use super::address::without_brackets;
use super::reply::Limits;
use super::timed::TimedSocket;
use crate::shm::mailboxes::Message;

/// The longest reply line of a mailbox server.
const LINE_MAX: usize = 1024;
/// How long a server may take to answer, by default.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest message that a client accepts, because no mailbox is larger.
pub const MESSAGE_MAX: usize = 1 << 31;
/// A longer message is accepted only if there is memory for it.
const LARGE: u64 = 64 << 20;
/// A wait without a limit is sent in parts of this length, so that a stopped server is noticed.
const PART: Duration = Duration::from_secs(10);

/// Why a request failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No process listens there.
    #[error("no mailbox server listens there: {}", crate::os::error::reason_of(.0))]
    NoServer(std::io::Error),
    /// The server did not answer in time.
    #[error("the server does not answer: no reply within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The connection failed.
    #[error("the connection failed: {}", crate::os::error::reason_of(.0))]
    Connection(std::io::Error),
    /// The path does not fit a socket's address.
    #[error("the path has {0} bytes, and the path of a unix socket has 107 at most; use a shorter one")]
    Path(usize),
    /// The server refused this request. The connection can still be used.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server ended the connection.
    #[error("the server ended the connection: {0}")]
    Ended(String),
    /// Its answer is not one of a mailbox server.
    #[error("this is not a mailbox server: it answered '{0}'")]
    Foreign(String),
    /// The message is longer than a mailbox.
    #[error("the message has {size} bytes, a mailbox holds {capacity}")]
    TooLong {
        /// The size of the message.
        size: usize,
        /// The size of a mailbox.
        capacity: usize,
    },
    /// There is no memory for the message.
    #[error("the message needs {}, and {} is free", crate::os::memory::in_words(*.needed), crate::os::memory::in_words(*.free))]
    Memory {
        /// The bytes of the message, as far as the server has announced them.
        needed: u64,
        /// The free bytes.
        free: u64,
    },
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    socket: TimedSocket,
    limits: Limits,
}

impl Client {
    /// Connects over TCP, and sends the token, if there is one. An IPv6 address may be in brackets. The server has
    /// [`TIMEOUT`] for each answer.
    ///
    /// # Errors
    /// There is no such server, or it refuses this client.
    pub fn tcp(host: &str, port: u16, token: Option<&[u8]>) -> Result<Self, ClientError> {
        Self::tcp_within(host, port, token, Some(TIMEOUT))
    }

    /// Connects over TCP. The server has this time for the connection and for each answer. The time that it waits for a
    /// message does not count, see [`read_since`](Self::read_since).
    ///
    /// # Errors
    /// There is no such server, or it refuses this client.
    pub fn tcp_within(
        host: &str,
        port: u16,
        token: Option<&[u8]>,
        timeout: Option<Duration>,
    ) -> Result<Self, ClientError> {
        let connected = TimedSocket::tcp(without_brackets(host), port, timeout);
        Self::with(connected.map_err(|error| unreached(error, timeout))?, token)
    }

    /// Connects to a unix socket. The server has [`TIMEOUT`] for each answer.
    ///
    /// # Errors
    /// There is no such server, or it refuses this client.
    pub fn unix(path: &Path, token: Option<&[u8]>) -> Result<Self, ClientError> {
        Self::unix_within(path, token, Some(TIMEOUT))
    }

    /// Connects to a unix socket. The server has this time for the connection and for each answer.
    ///
    /// # Errors
    /// There is no such server, or it refuses this client.
    pub fn unix_within(
        path: &Path,
        token: Option<&[u8]>,
        timeout: Option<Duration>,
    ) -> Result<Self, ClientError> {
        let connected =
            TimedSocket::unix(path, timeout).map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::NAMETOOLONG) => ClientError::Path(path.as_os_str().len()),
                _ => unreached(error, timeout),
            });
        Self::with(connected?, token)
    }

    fn with(socket: TimedSocket, token: Option<&[u8]>) -> Result<Self, ClientError> {
        let limits = Limits { boxes: 0, capacity: 0, packet: 1 };
        let mut client = Self { socket, limits };
        if let Some(token) = token {
            client.send(&[b"a ", token, b"\n"])?;
            client.line()?;
        }
        client.send(&[b"i\n"])?;
        let line = client.line()?;
        client.limits = limits_of(&numbers(&line, "info")?).ok_or_else(|| foreign(&line))?;
        Ok(client)
    }

    /// Returns the server's sizes.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns the latest message of a mailbox.
    ///
    /// # Errors
    /// The server refuses, ends the connection or does not answer.
    pub fn read(&mut self, mailbox: u32) -> Result<Message, ClientError> {
        self.send(&[format!("r {mailbox}\n").as_bytes()])?;
        let line = self.line()?;
        self.message(mailbox, &line)
    }

    /// Returns the latest message, once it has another version than `since`, or `None` if that takes longer than
    /// `most`.
    ///
    /// # Blocking
    /// Until there is such a message, or `most` has passed. Without `most` the client asks again every 10 s. A server
    /// that does not answer then has no more than the connection's timeout.
    ///
    /// # Errors
    /// The server refuses, ends the connection or does not answer.
    pub fn read_since(
        &mut self,
        mailbox: u32,
        since: u64,
        most: Option<Duration>,
    ) -> Result<Option<Message>, ClientError> {
        let without_end = most.is_none() && self.socket.timeout().is_some();
        let part = if without_end { Some(PART) } else { most };
        loop {
            let millis = part.map(|part| part.as_millis().min(9_999_999_999));
            let millis = millis.map_or(String::new(), |millis| format!(" {millis}"));
            self.send(&[format!("r {mailbox} {since}{millis}\n").as_bytes()])?;
            let line = self.line_after(part.unwrap_or_default())?;
            match line.starts_with("same ") {
                true if without_end => {}
                true => return Ok(None),
                false => return self.message(mailbox, &line).map(Some),
            }
        }
    }

    /// Replaces the message of a mailbox. Returns its version.
    ///
    /// # Errors
    /// The server refuses, ends the connection or does not answer, or the message is too long.
    pub fn write(&mut self, mailbox: u32, message: &[u8]) -> Result<u64, ClientError> {
        let Limits { capacity, packet, .. } = self.limits;
        if message.len() > capacity {
            return Err(ClientError::TooLong { size: message.len(), capacity });
        }
        let mut packets = message.chunks(packet).peekable();
        loop {
            let bytes = packets.next().unwrap_or_default();
            let last = packets.peek().is_none();
            let plus = if last { "" } else { "+" };
            self.send(&[format!("w {mailbox} {}{plus}\n", bytes.len()).as_bytes(), bytes, b"\n"])?;
            let line = self.line()?;
            if last {
                return match numbers(&line, "ok")?[..] {
                    [_, version] => Ok(version),
                    _ => Err(foreign(&line)),
                };
            }
            numbers(&line, "more")?;
        }
    }

    /// Reads all packets of a message. `line` is the first line.
    fn message(&mut self, mailbox: u32, line: &str) -> Result<Message, ClientError> {
        let mut line = line.to_owned();
        let mut message = Message { version: 0, bytes: Vec::new() };
        let (mut is_first, mut checked) = (true, LARGE);
        loop {
            let more = line.strip_suffix('+');
            let head = numbers(more.unwrap_or(&line), "data")?;
            let [named, version, size] = head[..] else { return Err(foreign(&line)) };
            let (before, packet) = (message.bytes.len() as u64, self.limits.packet as u64);
            let most = self.limits.capacity.min(MESSAGE_MAX) as u64;
            // Every packet but the last is full. Otherwise a message could have no end.
            let is_wrong = named != u64::from(mailbox)
                || !is_first && version != message.version
                || more.is_some() && size != packet
                || size > most.saturating_sub(before);
            if is_wrong {
                return Err(foreign(&line));
            }
            let needed = before + size;
            if needed > checked {
                checked = needed + LARGE;
                // The copies that growing memory makes count, too.
                let free = crate::os::memory::available().saturating_add(before) / 2;
                if needed > free {
                    return Err(ClientError::Memory { needed, free });
                }
            }
            (message.version, is_first) = (version, false);
            let mut end = Vec::new();
            let taken = self.socket.take(size as usize, &mut message.bytes);
            taken.and_then(|()| self.socket.take(1, &mut end)).map_err(|error| self.failed(error))?;
            if end != *b"\n" {
                return Err(foreign(&line));
            }
            if more.is_none() {
                return Ok(message);
            }
            line = self.line()?;
        }
    }

    fn send(&mut self, parts: &[&[u8]]) -> Result<(), ClientError> {
        match self.socket.send(&parts.concat()) {
            Ok(()) => Ok(()),
            // A server that ends a connection sends the reason, perhaps before it has read everything.
            Err(error @ (Errno::PIPE | Errno::CONNRESET)) => match self.line() {
                Err(answer @ (ClientError::Ended(_) | ClientError::Refused(_))) => Err(answer),
                _ => Err(self.failed(error)),
            },
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Returns a reply's line, unless it is an error.
    fn line(&mut self) -> Result<String, ClientError> {
        self.line_after(Duration::ZERO)
    }

    /// Returns the line of a reply to a request that makes the server wait this long.
    fn line_after(&mut self, wait: Duration) -> Result<String, ClientError> {
        let line = self.socket.line(LINE_MAX, wait).map_err(|error| self.failed(error))?;
        if line.is_empty() {
            return Err(ClientError::Ended("without a word".into()));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        let escaped = |text: &str| text.escape_debug().to_string();
        match text.split_once(' ') {
            Some(("err", why)) => Err(ClientError::Refused(escaped(why))),
            Some(("bye", why)) => Err(ClientError::Ended(escaped(why))),
            _ if line.ends_with(b"\n") => Ok(text.to_owned()),
            _ => Err(foreign(text)),
        }
    }

    fn failed(&self, error: Errno) -> ClientError {
        match (error, self.socket.timeout()) {
            (Errno::TIMEDOUT, Some(timeout)) => ClientError::TimedOut(timeout),
            _ => ClientError::Connection(error.into()),
        }
    }
}

/// Returns why no server was reached.
fn unreached(error: std::io::Error, timeout: Option<Duration>) -> ClientError {
    match (Errno::from_io_error(&error), timeout) {
        (
            Some(Errno::CONNREFUSED | Errno::NOENT | Errno::NOTDIR | Errno::ADDRNOTAVAIL | Errno::NETUNREACH),
            _,
        ) => ClientError::NoServer(error),
        (_, Some(timeout)) if error.kind() == std::io::ErrorKind::TimedOut => ClientError::TimedOut(timeout),
        _ => ClientError::Connection(error),
    }
}

/// Returns a server's sizes, if it has this version of the protocol and its numbers are possible on this machine.
fn limits_of(numbers: &[u64]) -> Option<Limits> {
    let &[1, boxes, capacity, packet] = numbers else { return None };
    let limits = Limits {
        boxes: boxes.try_into().ok()?,
        capacity: capacity.try_into().ok()?,
        packet: packet.try_into().ok()?,
    };
    (limits.packet > 0).then_some(limits)
}

/// Returns the numbers after the word that a line begins with.
fn numbers(line: &str, word: &str) -> Result<Vec<u64>, ClientError> {
    let mut fields = line.split(' ');
    let numbers = match fields.next() {
        Some(first) if first == word => fields.map(|field| field.parse().ok()).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    numbers.ok_or_else(|| foreign(line))
}

fn foreign(line: &str) -> ClientError {
    ClientError::Foreign(line.chars().take(40).flat_map(char::escape_debug).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_are_not_cut_to_fit() {
        assert_eq!(limits_of(&[1, 8, 65536, 4096]), Some(Limits { boxes: 8, capacity: 65536, packet: 4096 }));
        assert_eq!(limits_of(&[1, 1 << 32, 65536, 4096]), None);
        // On a 32-bit machine such sizes would become 0, and a message in packets of 0 bytes has no end.
        let fits = usize::try_from(1_u64 << 32).is_ok();
        assert_eq!(limits_of(&[1, 8, 1 << 32, 4096]).is_some(), fits);
        assert_eq!(limits_of(&[1, 8, 65536, 1 << 32]).is_some(), fits);
        assert_eq!(limits_of(&[1, 8, 65536, 0]), None);
        assert_eq!(limits_of(&[2, 8, 65536, 4096]), None);
        assert_eq!(limits_of(&[1, 8, 65536]), None);
    }
}
