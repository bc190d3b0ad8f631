//! The server. One thread opens it. Then workers serve, a waker notices the writes of attached programs, and the main
//! thread accepts clients and answers on the control socket.

mod keep;
mod reclaim;
mod run;

pub use run::{RunError, RunningServer};

use crate::os::error::{OsError, cannot};
use crate::os::limits;
use crate::shm::{LayoutError, MailGeometry};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use thiserror::Error;

use crate::mailbox_server::budget::Budget;
use crate::mailbox_server::listen::{self, Inherited, ListenError, Listeners};
use crate::mailbox_server::lobby::Lobby;
use crate::mailbox_server::rejected::RejectedClients;
use crate::mailbox_server::reply::Limits;
use crate::mailbox_server::server_registry::{RegistryError, ServerInfo, ServerRegistry, name_of};
use crate::mailbox_server::session::Config;
use crate::mailbox_server::store::SharedMailboxes;
use crate::mailbox_server::wait_list::WaitList;
use crate::mailbox_server::worker::{Shared, Worker};
use crate::mailbox_server::worker_queue::WorkerQueue;
use crate::os::memory;
use crate::os::socket_owner::OwnerCheck;
use crate::os::thread::start_thread;
use crate::registry::lock_file::LockFile;
use crate::registry::{BindError, Listener, RuntimeError};
use crate::shm::mailboxes::{MailSegment, MailboxError};
use crate::shm::ring::SegmentError;

/// Seats for attached programs, besides the workers' seats.
const SEATS: u32 = 128;
/// Descriptors that are not for connections, half of them for attached programs. At most half of all descriptors.
const DESCRIPTORS: u64 = 512;
/// The least memory for data in flight. If a part of the free memory is more, that counts.
const BUDGET: usize = 64 << 20;
const BUDGET_PART: u64 = 8;

/// The options of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The sizes.
    pub limits: Limits,
    /// The address to listen at; `None` for both loopback addresses.
    pub address: Option<IpAddr>,
    /// The port; 0 becomes a free one.
    pub port: u16,
    /// The path of an additional unix socket.
    pub unix: Option<PathBuf>,
    /// The token that clients must send first, if any.
    pub token: Option<Vec<u8>>,
    /// Serve every user of this machine. If not, clients over TCP must belong to this process's user or to root, so all
    /// sockets have to listen on loopback.
    pub any_user: bool,
    /// How long a client may be idle.
    pub idle: Option<Duration>,
    /// The most clients at a time.
    pub max_connections: Option<usize>,
    /// The number of worker threads.
    pub workers: Option<usize>,
}

/// Why a server does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The sizes are impossible.
    #[error("{0}")]
    Sizes(#[from] LayoutError),
    /// The mailboxes need more memory than there is.
    #[error("{boxes} mailboxes of {} need {}, and {} is free; ask for fewer or smaller ones",
        memory::in_words(*capacity), memory::in_words(*needed), memory::in_words(*free))]
    Memory {
        /// Mailboxes.
        boxes: u32,
        /// Bytes in one.
        capacity: u64,
        /// Bytes in all.
        needed: u64,
        /// The free bytes.
        free: u64,
    },
    /// Fewer descriptors than connections.
    #[error(
        "{wanted} connections need more than the {allowed} open files that are allowed; raise that ('ulimit -n') or ask for fewer"
    )]
    Descriptors {
        /// Connections.
        wanted: usize,
        /// Descriptors.
        allowed: u64,
    },
    /// The server cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The server cannot be registered.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The control socket could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The mailboxes cannot be made.
    #[error(transparent)]
    Mailboxes(#[from] MailboxError),
    /// Another system call failed.
    #[error(transparent)]
    System(#[from] OsError),
}

impl StartError {
    /// Returns whether other arguments would help.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Sizes(_) | Self::Memory { .. } | Self::Descriptors { .. })
    }
}

/// A server that listens. It serves no client before it runs.
#[derive(Debug)]
pub struct Server {
    listeners: Listeners,
    address: SocketAddr,
    registry: ServerRegistry,
    info: ServerInfo,
    /// Dropped before the lock file, because the socket is found as long as that file exists.
    control: Listener,
    lock_file: LockFile,
    /// The former lock file, if another program removed its name.
    former: Option<LockFile>,
    /// The names are gone, and this was logged.
    is_missed: bool,
    segment: MailSegment,
    shared: Arc<Shared>,
    queues: Vec<Arc<WorkerQueue>>,
    workers: Vec<Worker<SharedMailboxes>>,
    ended: Arc<WorkerQueue>,
    /// Decides which clients over TCP are served; all of them if absent.
    owners: Option<OwnerCheck>,
    epoll: OwnedFd,
    reserve: Option<OwnedFd>,
    rejected: RejectedClients,
    log: Option<String>,
}

/// The keys of events. Callers of the control socket are numbered from [`CALLER`].
const STOP: u64 = 0;
const CONTROL: u64 = 1;
const ENDED: u64 = 2;
const LISTENER: u64 = 16;
const CALLER: u64 = 1 << 32;
/// Clients that were refused are numbered from here.
const REJECTED: u64 = 1 << 63;

impl Server {
    /// Opens a server: it listens, makes the mailboxes, and registers itself. Call it in a process with one thread,
    /// after its last fork.
    ///
    /// # Errors
    /// The server cannot be opened. Nothing is left then.
    pub fn open(options: Options, inherited: Option<Inherited>) -> Result<Self, StartError> {
        if !crate::os::file::is_proc_mounted() {
            return Err(RegistryError::Directory(RuntimeError::NoProc).into());
        }
        let limits = options.limits;
        let workers = options.workers.unwrap_or_else(default_workers);
        let seats = (SEATS + workers as u32).min(crate::shm::MAX_SEATS);
        let capacity = u32::try_from(limits.capacity).map_err(|_| LayoutError::Capacity)?;
        let geometry = MailGeometry::new(limits.boxes, capacity, seats)?;
        let allowed = limits::raise_descriptor_limit();
        let spare = allowed - DESCRIPTORS.min(allowed / 2);
        let most = options.max_connections.unwrap_or(spare.min(1 << 20) as usize);
        if most as u64 > spare || spare == 0 {
            return Err(StartError::Descriptors { wanted: most.max(1), allowed });
        }

        let mut listeners = match inherited {
            Some(inherited) => inherited.keep().map_err(cannot("keep the sockets in LISTEN_FDS"))?,
            None => Listeners { tcp: Vec::new(), unix: Vec::new() },
        };
        if listeners.tcp.is_empty() {
            listeners.tcp = match options.address {
                Some(address) => vec![listen::tcp((address, options.port).into())?],
                None => listen::loopbacks(options.port)?,
            };
        }
        if let Some(path) = &options.unix {
            let socket = listen::unix(path)?;
            listeners.unix.push((socket, Some(path.clone())));
        }
        let address = listeners.address();
        let owners = (!options.any_user).then(|| OwnerCheck::open(address));

        let free = memory::available();
        let segment = MailSegment::create(geometry).map_err(|error| match error {
            SegmentError::NoMemory { needed, free } => {
                StartError::Memory { boxes: limits.boxes, capacity: capacity.into(), needed, free }
            }
            other => StartError::Mailboxes(other.into()),
        })?;
        // A quarter of it, which is the most of one connection, holds the longest message.
        let least = limits.largest().saturating_mul(4).saturating_add(BUDGET);
        let budget = Budget::new(least.max(usize::try_from(free / BUDGET_PART).unwrap_or(usize::MAX)));

        let queue = || WorkerQueue::new().map(Arc::new).map_err(cannot("start a worker"));
        let queues = (0..workers).map(|_| queue()).collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            config: Config {
                limits,
                token: options.token,
                idle: options.idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
            },
            wait_list: WaitList::new(queues.clone()),
            budget,
            lobby: Lobby::new(most),
            most,
            epoch: Instant::now(),
            loads: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
        });
        let workers = queues.iter().enumerate().map(|(number, queue)| -> Result<_, StartError> {
            let boxes = SharedMailboxes::new(segment.sit()?);
            let worker = Worker::new(number, shared.clone(), queue.clone(), boxes);
            Ok(worker.map_err(cannot("start a worker"))?)
        });
        let workers = workers.collect::<Result<Vec<_>, _>>()?;

        let epoll = crate::os::event_fd::new_epoll().map_err(cannot("wait for events"))?;
        let ended = queue()?;
        watch(&epoll, &*ended, ENDED).map_err(cannot("wait for events"))?;
        let sockets = listeners.tcp.iter().map(|(socket, _)| socket);
        for (number, socket) in sockets.chain(listeners.unix.iter().map(|(socket, _)| socket)).enumerate() {
            watch(&epoll, socket, LISTENER + number as u64).map_err(cannot("wait for events"))?;
        }
        // Last, so that no client finds a server that then fails to start.
        let registry = ServerRegistry::open()?;
        let info = ServerInfo {
            address: address.ip().to_string(),
            port: address.port(),
            unix: options.unix.clone(),
        };
        let lock_file = registry.register(&info)?;
        let directory = registry.directory().reopen().map_err(RegistryError::from)?;
        let control = Listener::bind_any(directory, &name_of(address.port()))?;
        watch(&epoll, &control, CONTROL).map_err(cannot("wait for events"))?;
        let mut server = Self {
            listeners,
            address,
            registry,
            info,
            control,
            lock_file,
            former: None,
            is_missed: false,
            segment,
            shared,
            queues,
            workers,
            ended,
            owners,
            epoll,
            reserve: None,
            rejected: RejectedClients::default(),
            log: None,
        };
        server.reserve();
        Ok(server)
    }

    /// Returns the address that it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the name of its own log in the runtime directory. The server removes the log if it ends without an error.
    pub fn logs_to(&mut self, name: String) {
        self.registry.protect(&name);
        self.log = Some(name);
    }

    fn connections(&self) -> usize {
        self.shared.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }

    fn reserve(&mut self) {
        self.reserve = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
    }
}

/// Returns one worker for each processor, up to a few, because they share the mailboxes' locks.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(8)
}

fn spawn(name: &str, body: impl FnOnce() -> bool + Send + 'static) -> Result<JoinHandle<bool>, OsError> {
    let thread = Builder::new().name(format!("dipc {name}"));
    start_thread(thread, body).map_err(|error| OsError::io("start a thread", &error))
}

fn watch(epoll: &OwnedFd, source: impl AsFd, data: u64) -> Result<(), Errno> {
    epoll::add(epoll, source, EventData::new_u64(data), EventFlags::IN)
}
