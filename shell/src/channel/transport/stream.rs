//! The receiver's end of a stream of frames through a socket.

use crate::channel::error::ReceiveError;
use crate::channel::transport::frame::{self, END_BODY, HEAD, Head};
use crate::channel::transport::payload::{Deadline, Payload, Taken};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::cannot;
use crate::registry::{Client, RequestError, readable};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

/// A socket, and the part of the current frame that has arrived.
pub(crate) struct Stream {
    socket: CloseOnForkFd,
    /// A part of a head or of an end's body, until it is whole.
    partial: Vec<u8>,
    /// Bytes of the current frame still to come.
    left: u32,
    /// The total in an end's head, while the body of that end is collected.
    ending: Option<u64>,
    /// Bytes at the start of the buffer that the caller has not taken yet.
    held: usize,
    buffer: Vec<u8>,
}

impl Stream {
    /// The most bytes in one payload.
    pub(crate) const MAX_PAYLOAD: usize = 1 << 18;

    /// Returns a stream whose waits end at a deadline, and on a signal that asks the program to stop.
    pub(crate) fn new(socket: CloseOnForkFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self::blocking(socket))
    }

    /// Returns a stream that waits in the blocking socket, with one system call for each read. Use it only in a
    /// receiver that another process kills if it misses a signal.
    pub(crate) fn blocking(socket: CloseOnForkFd) -> Self {
        let (partial, buffer) = (Vec::new(), vec![0; Self::MAX_PAYLOAD]);
        Self { socket, partial, left: 0, ending: None, held: 0, buffer }
    }

    /// Returns whether nothing has arrived that could be received.
    pub(crate) fn is_idle(&self) -> Result<bool, ReceiveError> {
        if self.held > 0 {
            return Ok(false);
        }
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut ready, Some(&crate::os::timeout::NOW)) {
            Ok(count) => Ok(count == 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(cannot("receive")(error).into()),
        }
    }

    /// Passes the next payload to `take`. If `take` refuses a payload, the next call passes it again.
    pub(crate) fn take<T, E: From<ReceiveError>>(
        &mut self,
        client: Option<&Client>,
        deadline: Deadline,
        take: impl FnOnce(Payload<'_>) -> Result<T, E>,
    ) -> Result<Taken<T>, E> {
        // A sender that evicts sends the reason before it cuts the stream.
        let reason = |error| match error {
            ReceiveError::SenderDied if client.is_some_and(is_evicted) => ReceiveError::Evicted,
            error => error,
        };
        loop {
            if self.held > 0 {
                let taken = take(Payload::Bytes(&self.buffer[..self.held]))?;
                self.held = 0;
                return Ok(Taken::Payload(taken));
            }
            if self.left > 0 {
                let room = self.buffer.len().min(self.left as usize);
                self.held = read(&self.socket, &mut self.buffer[..room], deadline).map_err(reason)?;
                self.left -= self.held as u32;
                continue;
            }
            let whole = if self.ending.is_some() { END_BODY } else { HEAD };
            while self.partial.len() < whole {
                let room = whole - self.partial.len();
                let count = read(&self.socket, &mut self.buffer[..room], deadline).map_err(reason)?;
                self.partial.extend_from_slice(&self.buffer[..count]);
            }
            let arrived = std::mem::take(&mut self.partial);
            if let Some(total) = self.ending {
                let body = arrived.as_slice().try_into().map_err(|_| ReceiveError::Corrupt)?;
                return Ok(Taken::End(frame::decode_end(total, body)));
            }
            let head = arrived.as_slice().try_into().ok().and_then(Head::decode);
            match head.ok_or(ReceiveError::Corrupt)? {
                Head::Bytes(count) => self.left = count,
                Head::Hole(length) => return take(Payload::Hole(length)).map(Taken::Payload),
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
    client.drain();
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
                    RequestError::System(error) => cannot("receive")(error.errno()).into(),
                    _ => ReceiveError::Corrupt,
                })?;
            }
            (Err(error), _) => return Err(cannot("receive")(error).into()),
        }
    }
}
