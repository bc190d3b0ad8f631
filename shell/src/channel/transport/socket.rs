//! A socket for each receiver, on the sender's side. The control thread grants streams, and the data thread serves them.

use crate::channel::control::progress::SendStatus;
use crate::channel::control::stall::StallDetector;
use crate::channel::transport::{JoinGrant, Lag, Transport};
use crate::os::close_on_fork::{CloseOnForkFd, ForkLock};
use crate::os::event_fd::EventFd;
use crate::os::socket::unread;
use crate::os::thread::unpoisoned;
use crate::registry::protocol::{ControlMessage, Refusal, Start};
use crate::registry::status::{Kind, PeerState, TransportKind};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The streams of a channel.
pub(crate) struct SocketTransport {
    state: Mutex<State>,
    changed: EventFd,
    /// The position of the stream at each place. It is for display, so it orders nothing.
    positions: Box<[AtomicU64]>,
    status: Arc<SendStatus>,
    memory: u64,
    evict_after: Option<Duration>,
}

struct State {
    new: Vec<NewPeer>,
    /// The places whose streams must be closed.
    gone: Vec<u32>,
    free: Vec<u32>,
    /// The first byte that is still kept.
    kept_from: u64,
    over: bool,
    /// If slow receivers are evicted: the stream at each place, and a number that distinguishes it from earlier ones.
    watched: HashMap<u32, (u64, Arc<CloseOnForkFd>)>,
    next_number: u64,
    stalls: StallDetector<(u64, u64, u32)>,
}

/// A receiver that has joined.
pub(crate) struct NewPeer {
    pub socket: Arc<CloseOnForkFd>,
    pub place: u32,
    /// It gets the stream from its first byte, or from the next byte.
    pub from_first: bool,
}

impl SocketTransport {
    /// Returns a transport for at most `places` receivers, whose window uses `memory` bytes.
    pub(crate) fn new(
        places: u32,
        memory: u64,
        evict_after: Option<Duration>,
        status: Arc<SendStatus>,
    ) -> Result<Self, Errno> {
        let state = State {
            new: Vec::new(),
            gone: Vec::new(),
            free: (0..places).rev().collect(),
            kept_from: 0,
            over: false,
            watched: HashMap::new(),
            next_number: 0,
            stalls: StallDetector::new(),
        };
        Ok(Self {
            state: Mutex::new(state),
            changed: EventFd::new()?,
            positions: (0..places).map(|_| AtomicU64::new(0)).collect(),
            status,
            memory,
            evict_after,
        })
    }

    /// Returns the event that is readable after a receiver joined or left.
    pub(crate) fn changed(&self) -> &EventFd {
        &self.changed
    }

    /// Returns the places of receivers that left since the last call, and the receivers that joined.
    pub(crate) fn take_changes(&self) -> (Vec<u32>, Vec<NewPeer>) {
        self.changed.drain();
        let mut state = self.lock();
        (std::mem::take(&mut state.gone), std::mem::take(&mut state.new))
    }

    /// Announces that bytes before `position` will be dropped. Returns `false` if a receiver joined that needs them.
    pub(crate) fn may_forget(&self, position: u64) -> bool {
        let mut state = self.lock();
        let none_came = state.new.is_empty();
        if none_came {
            state.kept_from = state.kept_from.max(position);
        }
        none_came
    }

    /// Refuses receivers from now on, because all have everything. Returns `false` if one joined before.
    pub(crate) fn close(&self) -> bool {
        let mut state = self.lock();
        state.over = state.new.is_empty();
        state.over
    }

    /// Stores that everything before `position` was sent to a receiver.
    pub(crate) fn set_position(&self, place: u32, position: u64) {
        self.positions[place as usize].store(position, Ordering::Relaxed);
    }

    /// Returns how many bytes were read from the source and not yet passed to the kernel for a place.
    fn behind(&self, place: u32) -> u64 {
        let position = self.positions.get(place as usize).map_or(0, |at| at.load(Ordering::Relaxed));
        self.status.sent().saturating_sub(position)
    }

    /// Adds a receiver that this process is about to fork, and returns its place and its end of the stream.
    ///
    /// # Errors
    /// The error of socketpair(2); `EMFILE` if every place is taken.
    pub(crate) fn add_forked(&self) -> Result<(u32, CloseOnForkFd), Errno> {
        self.add(self.lock(), Start::First)
    }

    fn add(&self, mut state: MutexGuard<'_, State>, start: Start) -> Result<(u32, CloseOnForkFd), Errno> {
        let place = *state.free.last().ok_or(Errno::MFILE)?;
        let (socket, theirs) = socket_pair()?;
        let socket = Arc::new(socket);
        if self.evict_after.is_some() {
            let number = state.next_number;
            state.next_number += 1;
            state.watched.insert(place, (number, socket.clone()));
        }
        state.free.pop();
        self.positions[place as usize].store(0, Ordering::Relaxed);
        state.new.push(NewPeer { socket, place, from_first: start == Start::First });
        drop(state);
        self.changed.signal();
        Ok((place, theirs))
    }

    fn close_stream(&self, state: &mut State, place: u32) {
        state.new.retain(|new| new.place != place);
        state.watched.remove(&place);
        state.gone.push(place);
        self.changed.signal();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        unpoisoned(&self.state)
    }
}

impl Transport for SocketTransport {
    fn kind(&self) -> Kind {
        Kind::Ring
    }

    fn transport_kind(&self) -> TransportKind {
        TransportKind::Socket
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn grant(&self, start: Start) -> Result<JoinGrant, Refusal> {
        let state = self.lock();
        if state.over {
            return Err(Refusal::Over);
        }
        if start == Start::First && state.kept_from > 0 {
            return Err(Refusal::Missed);
        }
        if state.free.is_empty() {
            return Err(Refusal::Full);
        }
        let (place, theirs) = self.add(state, start).map_err(|_| Refusal::Unable)?;
        Ok(JoinGrant { message: ControlMessage::Stream, descriptors: vec![theirs], place: Some(place) })
    }

    fn peer_state(&self, place: u32) -> (PeerState, Lag) {
        let behind = self.behind(place);
        (PeerState::Live, Lag::new(behind, self.memory))
    }

    fn reclaim(&self, place: u32) -> bool {
        let mut state = self.lock();
        self.close_stream(&mut state, place);
        state.free.push(place);
        true
    }

    fn sweep(&self, status: &SendStatus) -> Vec<u32> {
        let Some(evict_after) = self.evict_after else { return Vec::new() };
        let mut state = self.lock();
        let State { watched, stalls, .. } = &mut *state;
        // Bytes that the kernel has accepted are in the receiver's buffer until the receiver reads them.
        let marks = watched.iter().filter(|_| status.is_waiting()).map(|(place, (number, stream))| {
            let (behind, unread) = (self.behind(*place), unread(stream).unwrap_or(0));
            (*place, (*number, behind, unread))
        });
        stalls.overdue(evict_after, marks.filter(|(_, (_, behind, unread))| *behind > 0 || *unread > 0))
    }

    fn evict(&self, place: u32) {
        self.close_stream(&mut self.lock(), place);
    }
}

fn socket_pair() -> Result<(CloseOnForkFd, CloseOnForkFd), Errno> {
    let mut lock = ForkLock::begin(2)?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let both = (lock.keep(ours), lock.keep(theirs));
    drop(lock);
    Ok((both.0?, both.1?))
}
