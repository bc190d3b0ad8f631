//! Sockets as transport between processes that were started by themselves: each receiver is handed a stream of its own.

use super::control::Watch;
use super::crowd::{FanOutSource, NewPeer, PeerSet, ServeError};
use super::send::{SendPlan, SendingError, Sent, failed, watcher};
use super::serving::FanOut;
use super::source::Source;
use crate::channel::owner::{ControlThread, JoinGrant, Lag, PeerTable, SendStatus, StallDetector, Transport};
use crate::channel::{CreateError, SendError};
use crate::os::close_on_fork::{CloseOnForkFd, ForkLock};
use crate::os::deadline;
use crate::os::error::{OsError, cannot};
use crate::os::event_fd::EventFd;
use crate::os::socket::unread;
use crate::registry::protocol::{ControlMessage, Refusal, Start};
use crate::registry::status::{Kind, PeerState, TransportKind};
use crate::registry::{Listener, RuntimeDir};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Sends a source through a stream for each receiver.
pub(super) fn run(
    plan: &SendPlan,
    source: &mut Source,
    watch: impl Watch + 'static,
) -> Result<Sent, SendingError> {
    let create = |error: OsError| SendingError::Create(error.into());
    let guests = Arc::new(PeerTable::new().map_err(cannot("make an event")).map_err(create)?);
    let pulse = Arc::new(SendStatus::default());
    let door = Arc::new(
        SocketTransport::new(plan, guests.clone()).map_err(cannot("make an event")).map_err(create)?,
    );
    let directory = RuntimeDir::open().map_err(CreateError::from)?;
    let listener = Listener::bind(directory, &plan.name).map_err(CreateError::from)?;
    let watcher = Some(watcher(watch, source.length()));
    let _control = ControlThread::open(listener, door.clone(), guests.clone(), pulse.clone(), watcher)
        .map_err(create)?;
    pulse.want(plan.peers);
    let deadline = plan.timeout.map(deadline::after);
    guests.wait_joined(plan.peers as usize, deadline).map_err(SendError::from)?;
    pulse.start(plan.peers > 0);
    let begun = Instant::now();
    let public =
        ChannelPeers { door: &door, pulse: &pulse, needs_company: plan.peers > 0, patience: plan.timeout };
    let supply = FanOutSource {
        source,
        block: plan.block as usize,
        blocks: plan.slots as usize,
        verify: plan.verify,
        cancel: guests.cancel_bell(),
    };
    let served = FanOut::new(supply, &public).and_then(|serving| serving.run(Vec::new()));
    if matches!(served, Err(ServeError::Over)) {
        // Its stream tells a moment before the control thread knows what became of the last one.
        let _ = guests.wait_alone(Some(Instant::now() + Duration::from_secs(1)));
    }
    let end = served.map_err(|error| match error {
        ServeError::Source(error) => failed(plan, error),
        ServeError::Over if guests.is_asked_to_stop() => SendError::Stopped.into(),
        ServeError::Over => SendingError::NobodyLeft(guests.tally()),
        ServeError::TimedOut => SendError::TimedOut.into(),
        ServeError::Interrupted => SendingError::Interrupted,
        ServeError::System(error) => CreateError::from(error).into(),
    })?;
    pulse.flow.waiting(|| guests.wait_parted(patience(plan))).map_err(SendError::from)?;
    let bytes = end.map_or(0, |end| end.total);
    Ok(Sent { bytes, elapsed: begun.elapsed(), tally: guests.tally() })
}

/// Everything was handed to the kernel: how long the receivers may take to say that they have it.
fn patience(plan: &SendPlan) -> Option<Instant> {
    plan.timeout.map(deadline::after)
}

fn pair() -> Result<(CloseOnForkFd, CloseOnForkFd), Errno> {
    let mut forks_wait = ForkLock::begin(2)?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let both = (forks_wait.keep(ours), forks_wait.keep(theirs));
    drop(forks_wait);
    Ok((both.0?, both.1?))
}

/// Where streams are handed out, by the control thread, to be served by the data thread.
struct SocketTransport {
    state: Mutex<State>,
    /// Readable when somebody came or went.
    bell: EventFd,
    /// How far each place is. For display: orders nothing.
    positions: Box<[AtomicU64]>,
    sent: AtomicU64,
    guests: Arc<PeerTable>,
    memory: u64,
    evict_after: Option<Duration>,
}

struct State {
    newcomers: Vec<NewPeer>,
    /// Places whose streams are to be closed.
    gone: Vec<u32>,
    /// Places that nobody has.
    free: Vec<u32>,
    /// What lies before is gone.
    held_from: u64,
    over: bool,
    /// Where the slow are thrown out: the stream of each place and a number that tells it from others, to look how much of
    /// it lies unread.
    watched: HashMap<u32, (u64, Arc<CloseOnForkFd>)>,
    /// How many were watched.
    next: u64,
    stuck: StallDetector<(u64, u64, u32)>,
}

impl SocketTransport {
    fn new(plan: &SendPlan, guests: Arc<PeerTable>) -> Result<Self, Errno> {
        let state = State {
            newcomers: Vec::new(),
            gone: Vec::new(),
            free: (0..plan.seats).rev().collect(),
            held_from: 0,
            over: false,
            watched: HashMap::new(),
            next: 0,
            stuck: StallDetector::new(),
        };
        Ok(Self {
            state: Mutex::new(state),
            bell: EventFd::new()?,
            positions: (0..plan.seats).map(|_| AtomicU64::new(0)).collect(),
            sent: AtomicU64::new(0),
            guests,
            memory: u64::from(plan.block) * u64::from(plan.slots),
            evict_after: plan.evict_after,
        })
    }

    /// How many bytes were read and not handed to the kernel for a place.
    fn behind(&self, place: u32) -> u64 {
        let position = self.positions.get(place as usize).map_or(0, |at| at.load(Ordering::Relaxed));
        self.sent.load(Ordering::Relaxed).saturating_sub(position)
    }

    /// The stream of a place is to be closed.
    fn close_stream(&self, state: &mut State, place: u32) {
        state.newcomers.retain(|newcomer| newcomer.place != place);
        state.watched.remove(&place);
        state.gone.push(place);
        self.ring();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.bell.signal();
    }
}

impl Transport for SocketTransport {
    fn kind(&self) -> Kind {
        Kind::Ring
    }

    fn way(&self) -> TransportKind {
        TransportKind::Socket
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn hand_over(&self, start: Start) -> Result<JoinGrant, Refusal> {
        let mut state = self.lock();
        if state.over {
            return Err(Refusal::Over);
        }
        if start == Start::First && state.held_from > 0 {
            return Err(Refusal::Missed);
        }
        let place = *state.free.last().ok_or(Refusal::Full)?;
        let (socket, theirs) = pair().map_err(|_| Refusal::Unable)?;
        let socket = Arc::new(socket);
        if self.evict_after.is_some() {
            let number = state.next;
            state.next += 1;
            state.watched.insert(place, (number, socket.clone()));
        }
        state.free.pop();
        self.positions[place as usize].store(0, Ordering::Relaxed);
        state.newcomers.push(NewPeer { socket, place, from_first: start == Start::First });
        drop(state);
        self.ring();
        Ok(JoinGrant { saying: ControlMessage::Stream, descriptors: vec![theirs], place: Some(place) })
    }

    fn admit(&self, _place: u32) -> bool {
        true
    }

    fn standing(&self, place: u32) -> (PeerState, Lag) {
        let behind = self.behind(place);
        (PeerState::Live, Lag::new(behind, behind, self.memory))
    }

    fn messages(&self) -> u32 {
        0
    }

    fn clear(&self, place: u32) -> bool {
        let mut state = self.lock();
        self.close_stream(&mut state, place);
        state.free.push(place);
        true
    }

    fn will_tell(&self, _place: u32, _socket: &Arc<CloseOnForkFd>) {} // its stream does

    fn tells_no_more(&self, _place: u32, _socket: &Arc<CloseOnForkFd>) {}

    fn look(&self, pulse: &SendStatus) -> Vec<u32> {
        let Some(patience) = self.evict_after else { return Vec::new() };
        let mut state = self.lock();
        let State { watched, stuck, .. } = &mut *state;
        // What the kernel has taken over lies in the peer's buffer until it is read.
        let marks = watched.iter().filter(|_| pulse.flow.is_waiting()).map(|(place, (number, stream))| {
            let (behind, unread) = (self.behind(*place), unread(stream).unwrap_or(0));
            (*place, (*number, behind, unread))
        });
        stuck.overdue(patience, marks.filter(|(_, (_, behind, unread))| *behind > 0 || *unread > 0))
    }

    fn evict(&self, place: u32) {
        self.close_stream(&mut self.lock(), place);
    }

    fn interrupt(&self) {
        self.guests.cancel();
    }
}

/// The receivers, as those who are sent to.
struct ChannelPeers<'a> {
    door: &'a SocketTransport,
    pulse: &'a SendStatus,
    needs_company: bool,
    patience: Option<Duration>,
}

impl PeerSet for ChannelPeers<'_> {
    fn bell(&self) -> Option<&EventFd> {
        Some(&self.door.bell)
    }

    fn changes(&self) -> (Vec<u32>, Vec<NewPeer>) {
        let mut state = self.door.lock();
        (std::mem::take(&mut state.gone), std::mem::take(&mut state.newcomers))
    }

    fn may_forget(&self, position: u64) -> bool {
        let mut state = self.door.lock();
        let nobody_came = state.newcomers.is_empty();
        if nobody_came {
            state.held_from = state.held_from.max(position);
        }
        nobody_came
    }

    fn close(&self) -> bool {
        let mut state = self.door.lock();
        state.over = state.newcomers.is_empty();
        state.over
    }

    fn needs_company(&self) -> bool {
        self.needs_company
    }

    fn nobody_left(&self) -> bool {
        self.door.guests.joined() == 0
    }

    fn is_over(&self) -> bool {
        self.door.guests.is_asked_to_stop() || self.needs_company && self.nobody_left()
    }

    fn patience(&self) -> Option<Duration> {
        self.patience
    }

    fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.pulse.flow.waiting(wait)
    }

    fn sent(&self, most: u64) {
        self.door.sent.store(most, Ordering::Relaxed);
        self.pulse.flow.set_sent(most);
    }

    fn is_at(&self, place: u32, position: u64) {
        self.door.positions[place as usize].store(position, Ordering::Relaxed);
    }
}
