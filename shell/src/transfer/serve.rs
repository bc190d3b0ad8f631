//! Sockets as transport between processes that were started by themselves: each receiver is handed a stream of its own.

use super::control::Watch;
use super::crowd::{Crowd, Newcomer, ServeError, Supply};
use super::send::{SendPlan, SendingError, Sent, failed, watcher};
use super::serving::Serving;
use super::source::Source;
use crate::channel::owner::{Desk, Guests, HandOver, Lag, Party, Pulse, Stuck};
use crate::channel::{CreateError, SendError};
use crate::os::close_on_fork::{ForksWait, Unshared};
use crate::os::deadline;
use crate::os::event_fd::Bell;
use crate::os::socket::unread;
use crate::registry::protocol::{Refusal, Saying, Start};
use crate::registry::status::{Kind, Standing, Way};
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
    let create = |what| move |error| SendingError::Create(CreateError::System { what, error });
    let guests = Arc::new(Guests::new().map_err(create("make an event"))?);
    let pulse = Arc::new(Pulse::default());
    let door = Arc::new(Door::new(plan, guests.clone()).map_err(create("make an event"))?);
    let directory = RuntimeDir::open().map_err(CreateError::from)?;
    let listener = Listener::bind(directory, &plan.name).map_err(CreateError::from)?;
    let watcher = Some(watcher(watch, source.length()));
    let _desk = Desk::open(listener, door.clone(), guests.clone(), pulse.clone(), watcher)
        .map_err(|(what, error)| create(what)(error))?;
    pulse.want(plan.peers);
    let deadline = plan.timeout.map(deadline::after);
    guests.wait_joined(plan.peers as usize, deadline).map_err(SendError::from)?;
    pulse.start(plan.peers > 0);
    let begun = Instant::now();
    let public = Public { door: &door, pulse: &pulse, needs_company: plan.peers > 0, patience: plan.timeout };
    let supply = Supply {
        source,
        block: plan.block as usize,
        blocks: plan.slots as usize,
        verify: plan.verify,
        cancel: guests.cancel_bell(),
    };
    let served = Serving::new(supply, &public).and_then(|serving| serving.run(Vec::new()));
    if matches!(served, Err(ServeError::Over)) {
        // Its stream tells a moment before the desk knows what became of the last one.
        let _ = guests.wait_alone(Some(Instant::now() + Duration::from_secs(1)));
    }
    let end = served.map_err(|error| match error {
        ServeError::Source(error) => failed(plan, error),
        ServeError::Over if guests.is_asked_to_stop() => SendError::Stopped.into(),
        ServeError::Over => SendingError::NobodyLeft(guests.tally()),
        ServeError::TimedOut => SendError::TimedOut.into(),
        ServeError::Interrupted => SendingError::Interrupted,
        ServeError::System { what, error } => CreateError::System { what, error }.into(),
    })?;
    pulse.flow.waiting(|| guests.wait_parted(patience(plan))).map_err(SendError::from)?;
    let bytes = end.map_or(0, |end| end.total);
    Ok(Sent { bytes, elapsed: begun.elapsed(), tally: guests.tally() })
}

/// Everything was handed to the kernel: how long the receivers may take to say that they have it.
fn patience(plan: &SendPlan) -> Option<Instant> {
    plan.timeout.map(deadline::after)
}

fn pair() -> Result<(Unshared, Unshared), Errno> {
    let mut forks_wait = ForksWait::begin(2)?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let both = (forks_wait.keep(ours), forks_wait.keep(theirs));
    drop(forks_wait);
    Ok((both.0?, both.1?))
}

/// Where streams are handed out, by the desk, to be served by the data thread.
struct Door {
    state: Mutex<State>,
    /// Readable when somebody came or went.
    bell: Bell,
    /// How far each place is. For display: orders nothing.
    positions: Box<[AtomicU64]>,
    sent: AtomicU64,
    guests: Arc<Guests>,
    memory: u64,
    evict_after: Option<Duration>,
}

struct State {
    newcomers: Vec<Newcomer>,
    /// Places whose streams are to be closed.
    gone: Vec<u32>,
    /// Places that nobody has.
    free: Vec<u32>,
    /// What lies before is gone.
    held_from: u64,
    over: bool,
    /// Where the slow are thrown out: the stream of each place and a number that tells it from others, to look how much of
    /// it lies unread.
    watched: HashMap<u32, (u64, Arc<Unshared>)>,
    /// How many were watched.
    next: u64,
    stuck: Stuck<(u64, u64, u32)>,
}

impl Door {
    fn new(plan: &SendPlan, guests: Arc<Guests>) -> Result<Self, Errno> {
        let state = State {
            newcomers: Vec::new(),
            gone: Vec::new(),
            free: (0..plan.seats).rev().collect(),
            held_from: 0,
            over: false,
            watched: HashMap::new(),
            next: 0,
            stuck: Stuck::new(),
        };
        Ok(Self {
            state: Mutex::new(state),
            bell: Bell::new()?,
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
        self.bell.ring();
    }
}

impl Party for Door {
    fn kind(&self) -> Kind {
        Kind::Ring
    }

    fn way(&self) -> Way {
        Way::Socket
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn hand_over(&self, start: Start) -> Result<HandOver, Refusal> {
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
        state.newcomers.push(Newcomer { socket, place, from_first: start == Start::First });
        drop(state);
        self.ring();
        Ok(HandOver { saying: Saying::Stream, descriptors: vec![theirs], place: Some(place) })
    }

    fn admit(&self, _place: u32) -> bool {
        true
    }

    fn standing(&self, place: u32) -> (Standing, Lag) {
        let behind = self.behind(place);
        (Standing::Live, Lag::new(behind, behind, self.memory))
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

    fn will_tell(&self, _place: u32, _socket: &Arc<Unshared>) {} // its stream does

    fn tells_no_more(&self, _place: u32, _socket: &Arc<Unshared>) {}

    fn look(&self, pulse: &Pulse) -> Vec<u32> {
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

    fn throw_out(&self, place: u32) {
        self.close_stream(&mut self.lock(), place);
    }

    fn interrupt(&self) {
        self.guests.cancel();
    }
}

/// The receivers, as those who are sent to.
struct Public<'a> {
    door: &'a Door,
    pulse: &'a Pulse,
    needs_company: bool,
    patience: Option<Duration>,
}

impl Crowd for Public<'_> {
    fn bell(&self) -> Option<&Bell> {
        Some(&self.door.bell)
    }

    fn changes(&self) -> (Vec<u32>, Vec<Newcomer>) {
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
