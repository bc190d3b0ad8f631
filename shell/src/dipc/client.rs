//! A client of a mailbox server, over TCP or a unix socket: one request at a time, waiting for each reply.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

use super::reply::Shape;
use crate::mailboxes::Message;

/// A longer reply line comes from no server of ours.
const LINE_MAX: u64 = 1024;

/// Why a request was not answered as wished.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The connection failed.
    #[error("the connection failed: {}", crate::reason_of(.0))]
    Connection(#[from] std::io::Error),
    /// The server refused this request; the connection can be used on.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server ended the connection.
    #[error("the server ended the connection: {0}")]
    Ended(String),
    /// It answered what no mailbox server does.
    #[error("this is no mailbox server: it answered '{0}'")]
    Foreign(String),
    /// The message is longer than a mailbox.
    #[error("the message has {size} bytes, a mailbox holds {capacity}")]
    TooLong {
        /// Its size.
        size: usize,
        /// What a mailbox holds.
        capacity: usize,
    },
}

/// A connection.
pub struct Client {
    input: BufReader<Box<dyn Read + Send>>,
    output: Box<dyn Write + Send>,
    shape: Shape,
}

impl Client {
    /// Connects over TCP, and proves who we are where there is a token.
    ///
    /// # Errors
    /// There is no such server, or it does not want us.
    pub fn tcp(host: &str, port: u16, token: Option<&[u8]>) -> Result<Self, ClientError> {
        let stream = TcpStream::connect((host, port))?;
        stream.set_nodelay(true)?;
        Self::with(Box::new(stream.try_clone()?), Box::new(stream), token)
    }

    /// Connects to a unix socket.
    ///
    /// # Errors
    /// As [`tcp`](Self::tcp).
    pub fn unix(path: &Path, token: Option<&[u8]>) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)?;
        Self::with(Box::new(stream.try_clone()?), Box::new(stream), token)
    }

    fn with(
        input: Box<dyn Read + Send>,
        output: Box<dyn Write + Send>,
        token: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        let shape = Shape { boxes: 0, capacity: 0, packet: 1 };
        let mut client = Self { input: BufReader::new(input), output, shape };
        if let Some(token) = token {
            client.send(&[b"a ", token, b"\n"])?;
            client.line()?;
        }
        client.send(&[b"i\n"])?;
        let line = client.line()?;
        client.shape = shape_of(&numbers(&line, "info")?).ok_or_else(|| foreign(&line))?;
        Ok(client)
    }

    /// The server's sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The latest message of a mailbox.
    ///
    /// # Errors
    /// As the server says.
    pub fn read(&mut self, mailbox: u32) -> Result<Message, ClientError> {
        self.send(&[format!("r {mailbox}\n").as_bytes()])?;
        let line = self.line()?;
        self.message(&line)
    }

    /// The latest message, once it has another version than `since`; nothing if that takes longer than `most`.
    ///
    /// # Errors
    /// As the server says.
    pub fn read_since(
        &mut self,
        mailbox: u32,
        since: u64,
        most: Option<Duration>,
    ) -> Result<Option<Message>, ClientError> {
        let most = most.map_or(String::new(), |most| format!(" {}", most.as_millis().min(9_999_999_999)));
        self.send(&[format!("r {mailbox} {since}{most}\n").as_bytes()])?;
        let line = self.line()?;
        if line.starts_with("same ") { Ok(None) } else { self.message(&line).map(Some) }
    }

    /// Replaces the message of a mailbox; returns its version.
    ///
    /// # Errors
    /// As the server says, or it is too long.
    pub fn write(&mut self, mailbox: u32, message: &[u8]) -> Result<u64, ClientError> {
        let Shape { capacity, packet, .. } = self.shape;
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

    /// All packets of a message, of which `line` is the first line.
    fn message(&mut self, line: &str) -> Result<Message, ClientError> {
        let mut line = line.to_owned();
        let mut message = Message { version: 0, bytes: Vec::new() };
        loop {
            let more = line.strip_suffix('+');
            let head = numbers(more.unwrap_or(&line), "data")?;
            let [_, version, size] = head[..] else { return Err(foreign(&line)) };
            message.version = version;
            let before = message.bytes.len() as u64;
            if size > (self.shape.capacity as u64).saturating_sub(before) {
                return Err(foreign(&line));
            }
            (&mut self.input).take(size).read_to_end(&mut message.bytes)?;
            let mut end = [0];
            self.input.read_exact(&mut end)?;
            if message.bytes.len() as u64 != before + size || end != *b"\n" {
                return Err(foreign(&line));
            }
            if more.is_none() {
                return Ok(message);
            }
            line = self.line()?;
        }
    }

    fn send(&mut self, parts: &[&[u8]]) -> Result<(), ClientError> {
        self.output.write_all(&parts.concat())?;
        Ok(())
    }

    /// A reply's line, unless it is an error.
    fn line(&mut self) -> Result<String, ClientError> {
        let mut line = Vec::new();
        (&mut self.input).take(LINE_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(ClientError::Ended("without a word".into()));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        let said = |text: &str| text.escape_debug().to_string();
        match text.split_once(' ') {
            Some(("err", why)) => Err(ClientError::Refused(said(why))),
            Some(("bye", why)) => Err(ClientError::Ended(said(why))),
            _ if line.ends_with(b"\n") => Ok(text.to_owned()),
            _ => Err(foreign(text)),
        }
    }
}

/// A server's sizes, if it speaks our version and its numbers mean anything on this machine.
fn shape_of(numbers: &[u64]) -> Option<Shape> {
    let &[1, boxes, capacity, packet] = numbers else { return None };
    let shape = Shape {
        boxes: boxes.try_into().ok()?,
        capacity: capacity.try_into().ok()?,
        packet: packet.try_into().ok()?,
    };
    (shape.packet > 0).then_some(shape)
}

/// The numbers after the word that a line begins with.
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
        assert_eq!(shape_of(&[1, 8, 65536, 4096]), Some(Shape { boxes: 8, capacity: 65536, packet: 4096 }));
        assert_eq!(shape_of(&[1, 1 << 32, 65536, 4096]), None);
        // On a 32-bit machine these became 0, and a message in packets of 0 bytes has no end.
        let fits = usize::try_from(1_u64 << 32).is_ok();
        assert_eq!(shape_of(&[1, 8, 1 << 32, 4096]).is_some(), fits);
        assert_eq!(shape_of(&[1, 8, 65536, 1 << 32]).is_some(), fits);
        assert_eq!(shape_of(&[1, 8, 65536, 0]), None);
        assert_eq!(shape_of(&[2, 8, 65536, 4096]), None);
        assert_eq!(shape_of(&[1, 8, 65536]), None);
    }
}
