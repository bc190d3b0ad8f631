//! A connected socket with a deadline for each use. So a silent, stopped or slow peer delays no caller for long.

use crate::os::deadline;
use crate::os::timeout::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

/// The bytes of a message that must arrive, or go out, within one timeout.
const STEP: usize = 64 << 10;
/// How often to check whether a full queue of a unix socket has room.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The socket, the bytes read beyond the last request, and the timeout.
#[derive(Debug)]
pub(super) struct TimedSocket {
    socket: OwnedFd,
    input: Vec<u8>,
    /// How much of the input was taken.
    taken: usize,
    timeout: Option<Duration>,
}

/// Returns the end of a timeout that begins now; `None` without a timeout.
fn after(timeout: Option<Duration>) -> Option<Instant> {
    timeout.map(deadline::after)
}

impl TimedSocket {
    /// Connects to the first of a host's addresses at which a program listens.
    ///
    /// # Errors
    /// The error of the last address, or [`TimedOut`](std::io::ErrorKind::TimedOut).
    pub(super) fn tcp(host: &str, port: u16, timeout: Option<Duration>) -> std::io::Result<Self> {
        let until = after(timeout);
        let mut last = std::io::Error::from(Errno::ADDRNOTAVAIL);
        for address in (host, port).to_socket_addrs()? {
            let connected = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Err(Errno::TIMEDOUT.into()),
                Some(left) => TcpStream::connect_timeout(&address, left),
                None => TcpStream::connect(address),
            };
            match connected {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    let socket = OwnedFd::from(stream);
                    let _ = sockopt::set_socket_keepalive(&socket, true); // notices a machine that vanished
                    return Ok(Self::of(socket, timeout));
                }
                // Not every address of a host can be reached. The refusal of one says more.
                Err(_) if last.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects to a unix socket.
    ///
    /// # Errors
    /// The kernel's error, or [`TimedOut`](std::io::ErrorKind::TimedOut).
    pub(super) fn unix(path: &Path, timeout: Option<Duration>) -> std::io::Result<Self> {
        let until = after(timeout);
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        loop {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => return Ok(Self::of(socket, timeout)),
                // The queue of connections is full, and no event reports room.
                Err(Errno::AGAIN) if until.is_none_or(|until| Instant::now() < until) => {
                    std::thread::sleep(POLL_INTERVAL);
                }
                Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT.into()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn of(socket: OwnedFd, timeout: Option<Duration>) -> Self {
        Self { socket, input: Vec::new(), taken: 0, timeout }
    }

    /// Returns the peer's timeout.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Sends everything. Each 64 KiB must go out within the timeout.
    ///
    /// # Errors
    /// The kernel's error, or [`Errno::TIMEDOUT`].
    pub(super) fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        for mut step in bytes.chunks(STEP) {
            let until = after(self.timeout);
            while !step.is_empty() {
                match rustix::net::send(&self.socket, step, SendFlags::NOSIGNAL) {
                    Ok(count) => step = &step[count..],
                    Err(Errno::AGAIN) => self.wait(PollFlags::OUT, until)?,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Returns a line with its end, which must arrive whole within the timeout plus `more`. Cuts it after `most` bytes,
    /// or where the peer ended.
    ///
    /// # Errors
    /// The kernel's error, or [`Errno::TIMEDOUT`].
    pub(super) fn line(&mut self, most: usize, more: Duration) -> Result<Vec<u8>, Errno> {
        let until = after(self.timeout.map(|timeout| timeout.saturating_add(more)));
        loop {
            let there = &self.input[self.taken..];
            let end = there.iter().take(most).position(|&byte| byte == b'\n').map(|at| at + 1);
            if let Some(end) = end.or_else(|| (there.len() >= most).then_some(most)) {
                let line = there[..end].to_vec();
                self.taken += end;
                return Ok(line);
            }
            if self.fill(until)? == 0 {
                let rest = self.input.split_off(self.taken);
                return Ok(rest);
            }
        }
    }

    /// Appends this many bytes. Each 64 KiB must arrive within the timeout.
    ///
    /// # Errors
    /// The peer ended before ([`Errno::CONNRESET`]), the kernel's error, or [`Errno::TIMEDOUT`].
    pub(super) fn take(&mut self, size: usize, bytes: &mut Vec<u8>) -> Result<(), Errno> {
        let mut left = size;
        while left > 0 {
            let mut step = left.min(STEP);
            let until = after(self.timeout);
            left -= step;
            while step > 0 {
                let there = &self.input[self.taken..];
                let some = &there[..there.len().min(step)];
                bytes.extend_from_slice(some);
                (self.taken, step) = (self.taken + some.len(), step - some.len());
                if step > 0 && self.fill(until)? == 0 {
                    return Err(Errno::CONNRESET);
                }
            }
        }
        Ok(())
    }

    /// Reads at least one byte, and at the end none. Returns the number of bytes.
    fn fill(&mut self, until: Option<Instant>) -> Result<usize, Errno> {
        self.input.drain(..std::mem::take(&mut self.taken));
        let before = self.input.len();
        self.input.resize(before + STEP, 0);
        let read = loop {
            match rustix::net::recv(&self.socket, &mut self.input[before..], RecvFlags::empty()) {
                Ok((count, _)) => break Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if let Err(error) = self.wait(PollFlags::IN, until) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        self.input.truncate(before + read.unwrap_or(0));
        read
    }

    /// Waits until the socket is ready.
    fn wait(&self, what: PollFlags, until: Option<Instant>) -> Result<(), Errno> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(Errno::TIMEDOUT);
        }
        let left = left.map(timespec);
        match poll(&mut [PollFd::new(&self.socket, what)], left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()), // the caller checks again
            Err(error) => Err(error),
        }
    }
}
