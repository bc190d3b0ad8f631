//! The control thread of a sender. It serves the connections of a named channel, or watches forked receivers. It admits
//! receivers, reclaims the places of dead ones, and wakes the data thread. So a kill is noticed within a millisecond,
//! even while the data thread waits in `read`.

use crate::channel::control::clients::Clients;
use crate::channel::control::forked::{ForkedPeers, ForkedWatch};
use crate::channel::control::peers::PeerTable;
use crate::channel::control::progress::SendStatus;
use crate::channel::control::state::{ChannelState, ProgressObserver};
use crate::channel::transport::Transport;
use crate::os::error::{OsError, cannot};
use crate::os::event_fd::{EventFd, new_epoll, watch};
use crate::os::thread::start_thread;
use crate::os::timeout::timespec;
use crate::registry::Listener;
use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// The receivers of a channel, by the way they join.
pub(crate) enum Receivers {
    /// Processes that find the channel by its name.
    Named(Listener),
    /// Children that this process has forked.
    Forked(ForkedPeers),
}

enum Source {
    Clients(Clients),
    Forked(ForkedWatch),
}

/// The handle of the control thread. Dropping it ends the thread and releases the name.
pub(crate) struct ControlThread {
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

const END: u64 = u64::MAX;

/// How often the thread observes, sweeps, and checks the name.
const TICK: Duration = Duration::from_millis(100);
/// How often it tries to reclaim the place of a receiver that has just left.
const RECLAIM_INTERVAL: Duration = Duration::from_millis(1);

impl ControlThread {
    /// Starts the thread. The process must fork before this, because the thread exists only in this process.
    ///
    /// # Errors
    /// A system call failed.
    pub(crate) fn start(
        receivers: Receivers,
        transport: Arc<dyn Transport>,
        peers: Arc<PeerTable>,
        status: Arc<SendStatus>,
        observer: Option<ProgressObserver>,
    ) -> Result<Self, OsError> {
        let failed = cannot("wait for events");
        let end = Arc::new(EventFd::new().map_err(cannot("make an event"))?);
        let epoll = Arc::new(new_epoll().map_err(&failed)?);
        watch(&epoll, end.as_fd(), END).map_err(&failed)?;
        let source = match receivers {
            Receivers::Named(listener) => Source::Clients(Clients::new(listener, &epoll).map_err(&failed)?),
            Receivers::Forked(forked) => Source::Forked(ForkedWatch::new(forked, &peers, &epoll)?),
        };
        let state = ChannelState::new(transport, peers, status);
        let control = ControlLoop { epoll, source, state, observer };
        let thread = start_thread(Builder::new().name("control".into()), move || control.run())
            .map_err(|error| OsError::io("start a thread", &error))?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        self.end.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct ControlLoop {
    /// Dropped first. A process that connects after that finds no sender, and waits for the next one.
    source: Source,
    epoll: Arc<OwnedFd>,
    state: ChannelState,
    observer: Option<ProgressObserver>,
}

impl ControlLoop {
    fn run(mut self) {
        let mut last_tick = Instant::now();
        loop {
            let mut events =
                [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
            let nap = match &self.source {
                Source::Clients(clients) if clients.is_reclaiming() => RECLAIM_INTERVAL,
                _ => TICK,
            };
            // An interrupted wait counts as a wait without events.
            let count = epoll::wait(&self.epoll, &mut events, Some(&timespec(nap))).unwrap_or(0);
            for event in &events[..count] {
                let data = event.data;
                match (data.u64(), &mut self.source) {
                    (END, _) => return self.observe(),
                    (event, Source::Clients(clients)) => clients.on_event(&self.state, event),
                    (event, Source::Forked(forked)) => forked.on_event(&self.state, &self.epoll, event),
                }
            }
            if let Source::Clients(clients) = &mut self.source {
                clients.reclaim(&self.state);
            }
            if last_tick.elapsed() >= TICK {
                last_tick = Instant::now();
                if let Source::Clients(clients) = &mut self.source {
                    clients.on_tick(&self.state);
                }
                self.state.update_rates();
                self.observe();
            }
        }
    }

    fn observe(&mut self) {
        if let Some(observer) = &mut self.observer {
            observer(&self.state.snapshot());
        }
    }
}
