//! Sockets as transport: one unix socket for each peer, all served at once.
//!
//! A regular file is sent by the kernel (sendfile), each peer at its own position. Anything else passes through a window of
//! blocks in the sender: the slowest peer holds back the reading, and memory stays bounded.

use super::checksum::Checksum;
use super::control::{Link, Pulse, Watch};
use super::destination::Destination;
use super::frame::{self, END_BODY, HEAD, Head};
use super::receive::receive;
use super::roster::{Fault, PeerOutcome, Roster};
use super::source::{Piece, Source, SourceError};
use super::window::Window;
use super::{CopyError, Job, system};
use rustix::event::epoll;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use std::sync::atomic::{AtomicU64, Ordering};
use whorl_core::error::End;

/// The most bytes in one frame, and about the most that one peer is sent before the others have their turn.
const TURN: usize = 1 << 18;

/// Runs the whole copy; returns the bytes sent and what became of each peer.
pub(super) fn run(
    job: &Job<'_>,
    source: &mut Source,
    watch: &mut dyn Watch,
) -> Result<(u64, Vec<PeerOutcome>), CopyError> {
    let pairs = (0..job.plan.peers).map(|_| pair()).collect::<Result<Vec<_>, _>>()?;
    let roster = Roster::fork(job, |peer| receive(job, source, peer, |file| transfer(&pairs, peer, file)))?;
    roster.lock().iter_mut().for_each(|peer| peer.joined = true); // its socket takes bytes before it runs
    let sockets = pairs.into_iter().map(|(ours, _theirs)| ours).collect();
    let lags =
        Lags { sent: AtomicU64::new(0), positions: (0..job.plan.peers).map(|_| AtomicU64::new(0)).collect() };
    let pulse = Pulse::default();
    super::drive(job, roster, &lags, None, &pulse, watch, |roster| {
        let total = Serving::new(job, source, sockets, &lags)?.run(roster, &pulse)?;
        pulse.waiting(|| roster.wait_ended());
        Ok(total)
    })
}

fn pair() -> Result<(OwnedFd, OwnedFd), CopyError> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(system("make a socket"))
}

/// How far each peer is, for the control thread.
struct Lags {
    sent: AtomicU64,
    positions: Vec<AtomicU64>,
}

impl Link for Lags {
    fn welcome(&self) -> Vec<u32> {
        Vec::new()
    }
    fn bury(&self, _seat: u32) {} // its socket says so
    fn behind(&self, seat: u32) -> u64 {
        let position = self.positions[seat as usize].load(Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed).saturating_sub(position)
    }
}

/// One peer's socket and what is on its way to it.
struct Connection {
    socket: OwnedFd,
    /// How many bytes of the source were framed for it, holes included.
    at: u64,
    /// Bytes to send first: a head, or the end.
    pending: Vec<u8>,
    pending_sent: usize,
    /// Bytes of the current frame's body still to come.
    body: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Streaming,
    Ending,
    Gone,
}

/// What stopped a connection's turn.
enum Turn {
    /// The socket is full, or the source has nothing yet.
    Wait,
    /// It had its share.
    Again,
    /// It has everything, or is gone.
    Over,
}

struct Serving<'a, 'j> {
    job: &'a Job<'j>,
    source: &'a mut Source,
    lags: &'a Lags,
    connections: Vec<Connection>,
    epoll: OwnedFd,
    /// For sources that are no regular files.
    window: Option<Window>,
    /// The checksum so far, and up to where.
    sum: Option<Checksum>,
    summed: u64,
    /// The total, once it is known.
    total: Option<u64>,
}

const STOP: u64 = u64::MAX;
const SOURCE: u64 = u64::MAX - 1;

impl<'a, 'j> Serving<'a, 'j> {
    fn new(
        job: &'a Job<'j>,
        source: &'a mut Source,
        sockets: Vec<OwnedFd>,
        lags: &'a Lags,
    ) -> Result<Self, CopyError> {
        let failed = || system("watch the sockets");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed())?;
        let add =
            |fd: BorrowedFd<'_>, data, flags| epoll::add(&epoll, fd, epoll::EventData::new_u64(data), flags);
        for (socket, index) in sockets.iter().zip(0..) {
            rustix::io::ioctl_fionbio(socket, true).map_err(failed())?;
            add(socket.as_fd(), index, epoll::EventFlags::OUT | epoll::EventFlags::ET).map_err(failed())?;
        }
        for stop in [crate::process::stop_event().map_err(failed())?, job.cancel.as_fd()] {
            add(stop, STOP, epoll::EventFlags::IN).map_err(failed())?;
        }
        let window = match source.is_file() {
            true => None,
            // A regular file as standard input is always ready, and epoll refuses it.
            false => match add(source.as_fd(), SOURCE, epoll::EventFlags::IN | epoll::EventFlags::ONESHOT) {
                Ok(()) => Some(Window::new(job.plan.block as usize, job.plan.slots as usize, false)),
                Err(Errno::PERM) => Some(Window::new(job.plan.block as usize, job.plan.slots as usize, true)),
                Err(error) => return Err(failed()(error)),
            },
        };
        let connection = |socket| Connection {
            socket,
            at: 0,
            pending: Vec::new(),
            pending_sent: 0,
            body: 0,
            state: State::Streaming,
        };
        let sum = job.plan.care.verify.then(Checksum::new);
        let connections = sockets.into_iter().map(connection).collect();
        Ok(Self { job, source, lags, connections, epoll, window, sum, summed: 0, total: None })
    }

    fn run(mut self, roster: &Roster, pulse: &Pulse) -> Result<u64, CopyError> {
        let mut ready: Vec<usize> = (0..self.connections.len()).collect();
        loop {
            let read = self.read_source()?;
            if read {
                // Whoever waited for bytes rather than for its socket has something to do now.
                ready = (0..self.connections.len()).collect();
            }
            let mut again = Vec::new();
            for index in std::mem::take(&mut ready) {
                match self.turn(index)? {
                    Turn::Again => again.push(index),
                    Turn::Wait | Turn::Over => {}
                }
            }
            self.catch_up_sum()?;
            let most = self.connections.iter().map(|connection| connection.at).max().unwrap_or(0);
            self.lags.sent.store(most, Ordering::Relaxed);
            pulse.sent(most);
            if self.connections.iter().all(|connection| connection.state == State::Gone) {
                return self.total.ok_or(CopyError::NobodyLeft);
            }
            ready = again;
            if ready.is_empty() && !self.may_read() {
                // While there is room to read into, the source is waited for, and no peer is to blame.
                match self.window.as_ref().is_some_and(Window::has_room) && self.total.is_none() {
                    true => self.wait(&mut ready)?,
                    false => pulse.waiting(|| self.wait(&mut ready))?,
                }
                if roster.nobody_left() && self.total.is_none() {
                    return Err(CopyError::NobodyLeft);
                }
            }
        }
    }

    /// Sleeps until a socket takes more, the source has more, or somebody wants us to stop.
    fn wait(&mut self, ready: &mut Vec<usize>) -> Result<(), CopyError> {
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let count = match epoll::wait(&self.epoll, &mut events, None) {
            Err(Errno::INTR) => 0,
            other => other.map_err(system("wait for the sockets"))?,
        };
        if crate::process::stop_signal().is_some() {
            return Err(CopyError::Interrupted);
        }
        for event in &events[..count] {
            let data = event.data;
            match data.u64() {
                STOP => return Err(CopyError::NobodyLeft),
                SOURCE => self.window.as_mut().expect("only streams are watched").readable = true,
                index => ready.push(index as usize),
            }
        }
        Ok(())
    }

    fn may_read(&self) -> bool {
        self.window
            .as_ref()
            .is_some_and(|window| window.readable && window.has_room() && self.total.is_none())
    }

    /// Reads one block of a stream, if there is room and something to read.
    fn read_source(&mut self) -> Result<bool, CopyError> {
        let slowest = self.slowest();
        let Some(window) = &mut self.window else { return Ok(false) };
        window.forget_before(slowest);
        if self.total.is_some() || !window.readable || !window.has_room() {
            return Ok(false);
        }
        let piece = window.read(|buffer| self.source.next(buffer, self.job.cancel.as_fd()));
        match piece.map_err(|error| source_failed(self.job, error))? {
            Piece::Bytes(_) => {
                if let Some(sum) = &mut self.sum {
                    sum.update(window.last());
                }
                self.summed = window.end();
                if !window.always_readable {
                    window.readable = false;
                    let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
                    let data = epoll::EventData::new_u64(SOURCE);
                    epoll::modify(&self.epoll, self.source.as_fd(), data, flags)
                        .map_err(system("watch the source"))?;
                }
            }
            Piece::Hole(_) => unreachable!("streams have no holes"),
            Piece::End => self.total = Some(window.end()),
        }
        Ok(true)
    }

    fn slowest(&self) -> u64 {
        let streaming = self.connections.iter().filter(|connection| connection.state != State::Gone);
        streaming.map(|connection| connection.at - connection.body as u64).min().unwrap_or(u64::MAX)
    }

    /// The kernel sends a file without us seeing it, so its checksum is a pass of its own, close behind the fastest peer.
    fn catch_up_sum(&mut self) -> Result<(), CopyError> {
        let Some(sum) = self.sum.as_mut().filter(|_| self.window.is_none()) else { return Ok(()) };
        let fastest = self.connections.iter().map(|connection| connection.at).max().unwrap_or(0);
        let mut buffer = vec![0; TURN];
        while self.summed < fastest {
            let room = buffer.len().min((fastest - self.summed) as usize);
            let piece = self.source.extent_at(self.summed).map_err(|error| source_failed(self.job, error))?;
            match piece {
                Piece::Hole(length) => {
                    let length = length.min(fastest - self.summed);
                    sum.update_zeros(length);
                    self.summed += length;
                }
                Piece::Bytes(length) => {
                    let room = room.min(length);
                    let count = self
                        .source
                        .read_at(&mut buffer[..room], self.summed)
                        .map_err(|error| source_failed(self.job, error))?;
                    if count == 0 {
                        return Err(shrank(self.job, fastest, self.summed));
                    }
                    sum.update(&buffer[..count]);
                    self.summed += count as u64;
                }
                Piece::End => return Err(shrank(self.job, fastest, self.summed)),
            }
        }
        Ok(())
    }

    /// Sends one peer its share.
    fn turn(&mut self, index: usize) -> Result<Turn, CopyError> {
        let mut left = TURN;
        loop {
            let connection = &mut self.connections[index];
            let sent = if connection.state == State::Gone {
                return Ok(Turn::Over);
            } else if connection.pending_sent < connection.pending.len() {
                rustix::net::send(
                    &connection.socket,
                    &connection.pending[connection.pending_sent..],
                    SendFlags::NOSIGNAL,
                )
                .inspect(|count| connection.pending_sent += count)
            } else if connection.body > 0 && left == 0 {
                return Ok(Turn::Again);
            } else if connection.body > 0 {
                self.send_body(index, left)?.inspect(|count| left = left.saturating_sub(*count))
            } else if connection.state == State::Ending {
                connection.state = State::Gone;
                return Ok(Turn::Over);
            } else if self.next_frame(index)? {
                continue;
            } else {
                return Ok(Turn::Wait);
            };
            match sent {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Turn::Wait),
                Err(_) => {
                    // Its process is gone, or will be: the control thread says how.
                    self.connections[index].state = State::Gone;
                    return Ok(Turn::Over);
                }
            }
        }
    }

    /// Sends a part of the current frame's body; the outer error is the source's, the inner one the socket's.
    fn send_body(&mut self, index: usize, most: usize) -> Result<Result<usize, Errno>, CopyError> {
        let connection = &mut self.connections[index];
        let mut position = connection.at - connection.body as u64;
        let most = most.min(connection.body);
        let sent = match &self.window {
            Some(window) => {
                rustix::net::send(&connection.socket, window.bytes(position, most), SendFlags::NOSIGNAL)
            }
            None => rustix::fs::sendfile(&connection.socket, self.source.as_fd(), Some(&mut position), most),
        };
        match sent {
            Ok(0) => return Err(shrank(self.job, connection.at, position)),
            Ok(count) => {
                connection.body -= count;
                let done = connection.at - connection.body as u64;
                self.lags.positions[index].store(done, Ordering::Relaxed);
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::PIPE | Errno::CONNRESET) => {}
            // No socket fails in another way, so it is the source that does.
            Err(error) => return Err(source_failed(self.job, SourceError::Read(error))),
        }
        Ok(sent)
    }

    /// Starts the next frame; false if there is nothing to send yet.
    fn next_frame(&mut self, index: usize) -> Result<bool, CopyError> {
        let at = self.connections[index].at;
        let piece = match &self.window {
            Some(window) => match window.available(at) {
                0 if self.total.is_none() => return Ok(false),
                0 => Piece::End,
                count => Piece::Bytes(count),
            },
            None => match self.total {
                Some(total) if at == total => Piece::End,
                _ => self.source.extent_at(at).map_err(|error| source_failed(self.job, error))?,
            },
        };
        let head = match piece {
            Piece::Bytes(count) => {
                let left_in_total = self.total.map_or(u64::MAX, |total| total - at);
                let count = count.min(TURN).min(left_in_total.try_into().unwrap_or(usize::MAX));
                self.connections[index].body = count;
                self.connections[index].at += count as u64;
                Head::Bytes(count as u32).encode().to_vec()
            }
            Piece::Hole(length) => {
                self.connections[index].at += length;
                self.lags.positions[index].store(at + length, Ordering::Relaxed);
                Head::Hole(length).encode().to_vec()
            }
            Piece::End => {
                // The first to reach the end decides where it is, for all.
                self.total = Some(at);
                self.catch_up_sum()?;
                self.connections[index].state = State::Ending;
                frame::encode_end(End { total: at, checksum: self.sum.as_ref().map(Checksum::finish) })
            }
        };
        let connection = &mut self.connections[index];
        (connection.pending, connection.pending_sent) = (head, 0);
        Ok(true)
    }
}

fn source_failed(job: &Job<'_>, error: SourceError) -> CopyError {
    match error {
        SourceError::Interrupted if crate::process::stop_signal().is_some() => CopyError::Interrupted,
        SourceError::Interrupted => CopyError::NobodyLeft,
        error => job.source_failed(error),
    }
}

fn shrank(job: &Job<'_>, was: u64, is: u64) -> CopyError {
    job.source_failed(SourceError::Shrank { was, is })
}

/// A receiver's data path: everything that comes out of its socket, up to the end frame.
fn transfer(pairs: &[(OwnedFd, OwnedFd)], peer: u32, file: &mut Destination<'_>) -> Result<End, Fault> {
    let mine = &pairs[peer as usize - 1].1;
    close_all_but(pairs, mine);
    let mut buffer = vec![0; TURN];
    loop {
        let mut head = [0; HEAD];
        read_exact(mine, &mut head)?;
        match Head::decode(&head).ok_or_else(|| Fault::Sender("the sender sent nonsense".into()))? {
            Head::Hole(length) => file.skip(length),
            Head::End(total) => {
                let mut body = [0; END_BODY];
                read_exact(mine, &mut body)?;
                return Ok(frame::decode_end(total, &body));
            }
            Head::Bytes(mut left) => {
                while left > 0 {
                    let room = buffer.len().min(left as usize);
                    let count = read(mine, &mut buffer[..room])?;
                    file.write(&buffer[..count])?;
                    left -= count as u32;
                }
            }
        }
    }
}

/// Closes all other ends that were copied into this process: while the sender's are open here, nobody learns from its
/// socket that the sender is gone.
fn close_all_but(pairs: &[(OwnedFd, OwnedFd)], mine: &OwnedFd) {
    let all = pairs.iter().flat_map(|(ours, theirs)| [ours, theirs]);
    for other in all.filter(|socket| socket.as_raw_fd() != mine.as_raw_fd()) {
        // SAFETY: this forked process never uses them again, and ends without running destructors.
        unsafe { rustix::io::close(other.as_raw_fd()) };
    }
}

fn read_exact(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(), Fault> {
    let mut done = 0;
    while done < buffer.len() {
        done += read(socket, &mut buffer[done..])?;
    }
    Ok(())
}

fn read(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Fault> {
    loop {
        match rustix::io::read(socket, &mut *buffer) {
            Ok(0) => return Err(Fault::Sender("the sender died before the end of the stream".into())),
            Err(Errno::INTR) if crate::process::stop_signal().is_some() => return Err(Fault::Interrupted),
            Err(Errno::INTR) => {}
            other => {
                return other
                    .map_err(|error| Fault::Own(format!("cannot receive: {}", crate::reason(error))));
            }
        }
    }
}
