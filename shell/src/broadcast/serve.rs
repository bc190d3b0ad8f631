//! Sockets as transport between processes that were started by themselves: each receiver is handed a stream of its own.

use super::control::Watch;
use super::send::{SendPlan, SendingError, Sent, failed, watcher};
use super::serving::{Crowd, Newcomer, ServeError, Serving, Supply};
use super::source::Source;
use crate::channel::owner::{Desk, Guests, HandOver, Party, Pulse};
use crate::channel::{CreateError, SendError};
use crate::process::Unshared;
use crate::rendezvous::protocol::{Refusal, Saying, Start};
use crate::rendezvous::report::{Kind, Standing, Way};
use crate::rendezvous::{Listener, RuntimeDir};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
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
        .map_err(create("start a thread"))?;
    pulse.want(plan.peers);
    let deadline = plan.timeout.map(|timeout| Instant::now() + timeout);
    guests.wait_joined(plan.peers as usize, deadline).map_err(SendError::from)?;
    pulse.start(plan.peers > 0);
    let begun = Instant::now();
    let public = Public { door: &door, pulse: &pulse, needs_company: plan.peers > 0 };
    let supply = Supply {
        source,
        block: plan.block as usize,
        blocks: plan.slots as usize,
        verify: plan.verify,
        cancel: guests.cancelled(),
    };
    let served = Serving::new(supply, &public).and_then(|serving| serving.run(Vec::new()));
    let end = served.map_err(|error| match error {
        ServeError::Source(error) => failed(plan, error),
        ServeError::Over if guests.is_asked_to_stop() => SendError::Stopped.into(),
        ServeError::Over => SendingError::NobodyLeft(guests.tally()),
        ServeError::Interrupted => SendingError::Interrupted,
        ServeError::System { what, error } => CreateError::System { what, error }.into(),
    })?;
    door.lock().over = true;
    pulse.flow.waiting(|| guests.wait_parted(patience(plan))).map_err(SendError::from)?;
    let bytes = end.map_or(0, |end| end.total);
    Ok(Sent { bytes, elapsed: begun.elapsed(), tally: guests.tally() })
}

/// Everything was handed to the kernel: how long the receivers may take to say that they have it.
fn patience(plan: &SendPlan) -> Option<Instant> {
    plan.timeout.map(|timeout: Duration| Instant::now() + timeout)
}

/// Where streams are handed out, by the desk, to be served by the data thread.
struct Door {
    state: Mutex<State>,
    /// Readable when somebody came.
    bell: OwnedFd,
    /// How far each place is. For display: orders nothing.
    positions: Box<[AtomicU64]>,
    sent: AtomicU64,
    guests: Arc<Guests>,
    memory: u64,
}

struct State {
    newcomers: Vec<Newcomer>,
    /// Places that nobody has.
    free: Vec<u32>,
    /// What lies before is gone.
    held_from: u64,
    over: bool,
}

impl Door {
    fn new(plan: &SendPlan, guests: Arc<Guests>) -> Result<Self, Errno> {
        let state =
            State { newcomers: Vec::new(), free: (0..plan.seats).rev().collect(), held_from: 0, over: false };
        Ok(Self {
            state: Mutex::new(state),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            positions: (0..plan.seats).map(|_| AtomicU64::new(0)).collect(),
            sent: AtomicU64::new(0),
            guests,
            memory: u64::from(plan.block) * u64::from(plan.slots),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
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
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (socket, theirs) = pair.map_err(|_| Refusal::Unable)?;
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

    fn standing(&self, place: u32) -> (Standing, u64) {
        let position = self.positions[place as usize].load(Ordering::Relaxed);
        (Standing::Live, self.sent.load(Ordering::Relaxed).saturating_sub(position))
    }

    fn clear(&self, place: u32) -> bool {
        self.lock().free.push(place); // the data thread learns of it from the stream
        true
    }

    fn will_tell(&self, _place: u32, _socket: &Arc<Unshared>) {} // its stream does

    fn look(&self, _pulse: &Pulse) {}

    fn interrupt(&self) {
        self.guests.cancel();
    }
}

/// The receivers, as those who are sent to.
struct Public<'a> {
    door: &'a Door,
    pulse: &'a Pulse,
    needs_company: bool,
}

impl Crowd for Public<'_> {
    fn bell(&self) -> Option<BorrowedFd<'_>> {
        Some(self.door.bell.as_fd())
    }

    fn newcomers(&self) -> Vec<Newcomer> {
        std::mem::take(&mut self.door.lock().newcomers)
    }

    fn may_forget(&self, position: u64) -> bool {
        let mut state = self.door.lock();
        let nobody_came = state.newcomers.is_empty();
        if nobody_came {
            state.held_from = state.held_from.max(position);
        }
        nobody_came
    }

    fn needs_company(&self) -> bool {
        self.needs_company
    }

    fn nobody_left(&self) -> bool {
        self.door.guests.joined() == 0
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
