//! The receiver's end of a stream of frames, where bytes travel through a socket.

use crate::channel::error::ReceiveError;
use crate::channel::receiver::{Deadline, Payload, Received};
use crate::channel::transport::frame::{self, END_BODY, HEAD, Head};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::registry::{Client, RequestError, readable};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

/// A socket and what of the current frame has arrived.
pub(in crate::channel) struct Stream {
    socket: CloseOnForkFd,
    /// A head, or the body of an end: collected until whole.
    partial: Vec<u8>,
    /// Bytes of the current frame still to come.
    left: u32,
    /// The total that an end's head said, while its body is collected.
    ending: Option<u64>,
    /// Bytes at the start of the buffer that nobody has taken yet.
    held: usize,
    buffer: Vec<u8>,
}

impl Stream {
    /// The most bytes handed on at a time.
    pub const LONGEST: usize = 1 << 17;

    pub fn new(socket: CloseOnForkFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket,
            partial: Vec::new(),
            left: 0,
            ending: None,
            held: 0,
            buffer: vec![0; Self::LONGEST],
        })
    }

    /// Whether nothing has arrived that could be received.
    pub fn is_idle(&self) -> Result<bool, ReceiveError> {
        if self.held > 0 {
            return Ok(false);
        }
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut ready, Some(&crate::os::timeout::NOW)) {
            Ok(count) => Ok(count == 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(ReceiveError::System(error)),
        }
    }

    /// Hands on what comes next. What `take` refuses is handed to the next one.
    pub fn take<E: From<ReceiveError>>(
        &mut self,
        client: &Client,
        deadline: Deadline,
        take: impl FnOnce(Payload<'_>) -> Result<Received, E>,
    ) -> Result<Received, E> {
        // The owner says why before it cuts the stream.
        let why = |error| match error {
            ReceiveError::SenderDied if is_evicted(client) => ReceiveError::Evicted,
            error => error,
        };
        loop {
            if self.held > 0 {
                let received = take(Payload::Bytes(&self.buffer[..self.held]))?;
                self.held = 0;
                return Ok(received);
            }
            if self.left > 0 {
                let room = self.buffer.len().min(self.left as usize);
                self.held = read(&self.socket, &mut self.buffer[..room], deadline).map_err(why)?;
                self.left -= self.held as u32;
                continue;
            }
            let whole = if self.ending.is_some() { END_BODY } else { HEAD };
            while self.partial.len() < whole {
                let room = whole - self.partial.len();
                let count = read(&self.socket, &mut self.buffer[..room], deadline).map_err(why)?;
                self.partial.extend_from_slice(&self.buffer[..count]);
            }
            let arrived = std::mem::take(&mut self.partial);
            if let Some(total) = self.ending {
                let body = arrived.as_slice().try_into().map_err(|_| ReceiveError::Corrupt)?;
                return Ok(Received::End(frame::decode_end(total, body)));
            }
            let head = arrived.as_slice().try_into().ok().and_then(Head::decode);
            match head.ok_or(ReceiveError::Corrupt)? {
                Head::Bytes(count) => self.left = count,
                Head::Hole(length) => return take(Payload::Hole(length)),
                Head::End(total) => self.ending = Some(total),
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_evicted(client: &Client) -> bool {
    client.listen();
    client.is_evicted()
}

fn read(socket: &CloseOnForkFd, buffer: &mut [u8], deadline: Deadline) -> Result<usize, ReceiveError> {
    loop {
        match (rustix::io::read(socket, &mut *buffer), deadline) {
            (Ok(0) | Err(Errno::CONNRESET), _) => return Err(ReceiveError::SenderDied),
            (Ok(count), _) => return Ok(count),
            (Err(Errno::INTR), _) if crate::os::signal::stop_signal().is_none() => {}
            (Err(Errno::INTR), _) => return Err(ReceiveError::Interrupted),
            (Err(Errno::AGAIN), Deadline::Now) => return Err(ReceiveError::Empty),
            (Err(Errno::AGAIN), Deadline::Until(deadline)) => {
                readable(socket.as_fd(), deadline).map_err(|error| match error {
                    RequestError::TimedOut => ReceiveError::TimedOut,
                    RequestError::Interrupted => ReceiveError::Interrupted,
                    RequestError::System(error) => ReceiveError::System(error.errno()),
                    _ => ReceiveError::Corrupt,
                })?;
            }
            (Err(error), _) => return Err(ReceiveError::System(error)),
        }
    }
}
