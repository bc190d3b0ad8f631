//! A server: two messages for each client, and a file that announces it.

use super::file::{FileError, InfoFile, Information};
use super::options::ServerOptions;
use super::reachable::{Families, reachable};
use super::wire;
use crate::channel::control::peers::{ClientCounter, WaitEnd};
use crate::channel::{CreateError, ProgressObserver, SendError, Sender};
use crate::os::close_on_fork::{CloseOnForkFd, ForkId};
use crate::os::deadline;
use crate::os::dirs::CreatedDirs;
use crate::os::error::{OsError, cannot};
use crate::os::event_fd::{EventFd, try_poll};
use crate::os::socket::cancel;
use crate::os::socket_owner::OwnerCheck;
use crate::os::thread::{start_thread, unpoisoned};
use crate::registry::protocol::Token;
use crate::registry::status::Kind;
use crate::registry::{Name, RuntimeDir};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::sockopt;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Why a server could not start or serve.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The channel cannot be created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The channel's message cannot be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A message is too long.
    #[error("a message has at most 1 MiB")]
    TooLong,
    /// It cannot listen.
    #[error("cannot listen at {address}: {error}")]
    Listen {
        /// The address.
        address: IpAddr,
        /// The kernel's error.
        error: String,
    },
    /// The information file cannot be made.
    #[error("{}: {error}", crate::os::escape::shown(.path))]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        error: FileError,
    },
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
    /// A signal asked the program to stop.
    #[error("interrupted")]
    Interrupted,
    /// `shell rm` asked the server to end.
    #[error("asked to end by 'shell rm'")]
    Stopped,
}

/// A server that is announced in a directory. Dropping it removes its information file and its channel.
///
/// ```no_run
/// use whorl::Server;
///
/// let mut server = Server::options("servers").socket_message("hello").start(&"greeter".parse()?)?;
/// server.wait(Some(3))?; // until three clients have come
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    /// Dropped first, so that no client finds a server that it cannot reach. The channel's control thread puts the file
    /// back if it is removed.
    info_file: Arc<Mutex<Option<InfoFile>>>,
    fork: ForkId,
    responder: TcpResponder,
    channel: Sender,
    counter: Arc<ClientCounter>,
    address: IpAddr,
    port: u16,
}

impl ServerOptions {
    /// Starts the server, in threads of its own. It is announced once clients can reach it.
    ///
    /// # Errors
    /// The name is in use, a message is too long, or a system call failed. Nothing is left behind.
    pub fn start(&self, name: &Name) -> Result<Server, ServerError> {
        let directory = RuntimeDir::open_at_or_default(self.runtime_dir.as_deref());
        Server::start_in(directory.map_err(CreateError::from)?, name, self)
    }
}

impl Server {
    /// Returns the options of a server that announces itself in this directory.
    pub fn options(directory: impl Into<PathBuf>) -> ServerOptions {
        ServerOptions::new(directory)
    }

    /// Starts a server whose channel has its name in an opened runtime directory.
    fn start_in(directory: RuntimeDir, name: &Name, options: &ServerOptions) -> Result<Self, ServerError> {
        let max_len = options.socket_message.len().max(options.shm_message.len());
        if max_len as u64 > wire::LONGEST {
            return Err(ServerError::TooLong);
        }
        let counter = Arc::new(ClientCounter::default());
        // Half of the ring holds the one message, so each client reads it from the first byte to the end.
        let ring = (2 * (options.shm_message.len() as u64 + 8)).max(4096);
        let shared = Arc::new(Mutex::new(None));
        let memory = Sender::options()
            .ring(ring)
            .seats(256)
            .kind(Kind::Server)
            .clients(counter.clone())
            .observer(keeper(shared.clone()));
        let mut channel = Sender::create_in(directory, name, memory)?;
        channel.send(&options.shm_message)?;
        channel.close()?;
        channel.begin(false, None);
        let failed = |error: std::io::Error| {
            let error =
                Errno::from_io_error(&error).map_or_else(|| error.to_string(), crate::os::error::reason);
            ServerError::Listen { address: options.address, error }
        };
        let listener = CloseOnForkFd::open(|| TcpListener::bind((options.address, 0))).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let port = bound.port();
        let address = address_of(&listener, options.address);
        let is_local = options.address.to_canonical().is_loopback();
        let owners = (is_local && !options.any_user).then(|| OwnerCheck::open(bound));
        let responder = TcpResponder::open(listener, &options.socket_message, counter.clone(), owners)?;
        let information = Information { address, port, channel: name.clone(), id: channel.id() };
        let mut made = CreatedDirs::all(&options.directory, 0o700).map_err(|error| ServerError::File {
            path: options.directory.clone(),
            error: OsError::io("make the directory", &error).into(),
        })?;
        let info_file =
            InfoFile::create(&options.directory, name, &information).map_err(|error| ServerError::File {
                path: options.directory.join(format!("{name}{}", super::file::ENDING)),
                error,
            })?;
        made.keep();
        *unpoisoned(&shared) = Some(info_file);
        Ok(Self { info_file: shared, fork: ForkId::current(), responder, channel, counter, address, port })
    }

    /// Returns the address and the port at which the server listens.
    pub fn address(&self) -> (IpAddr, u16) {
        (self.address, self.port)
    }

    /// Returns the number of clients so far. A client that takes both messages counts once.
    pub fn clients(&self) -> u64 {
        self.counter.served()
    }

    /// Serves until this many clients have come, or without end if `None`.
    ///
    /// # Blocking
    /// Until then, a signal comes, or `shell rm` asks the server to end.
    ///
    /// # Errors
    /// A signal came, or `shell rm` asked the server to end.
    pub fn wait(&mut self, clients: Option<u64>) -> Result<(), ServerError> {
        self.wait_until(clients, None)
    }

    /// Serves until this many clients have come, at most this long. [`clients`](Self::clients) shows which happened.
    ///
    /// # Errors
    /// A signal came, or `shell rm` asked the server to end.
    pub fn wait_timeout(&mut self, clients: Option<u64>, timeout: Duration) -> Result<(), ServerError> {
        self.wait_until(clients, Some(deadline::after(timeout)))
    }

    fn wait_until(&mut self, clients: Option<u64>, deadline: Option<Instant>) -> Result<(), ServerError> {
        let enough = || clients.is_some_and(|clients| self.counter.served() >= clients);
        match self.channel.peers().wait_until(deadline, enough) {
            Ok(()) | Err(WaitEnd::TimedOut) => Ok(()),
            Err(WaitEnd::Interrupted) => Err(ServerError::Interrupted),
            Err(WaitEnd::Stopped) => Err(ServerError::Stopped),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, port) = self.address();
        f.debug_struct("Server").field("address", &address).field("port", &port).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // In a forked child the control thread does not run, so a lock that it held is never released.
        if !self.fork.has_forked() {
            *unpoisoned(&self.info_file) = None;
        }
        self.responder.close();
    }
}

/// Returns an observer that checks the information file once a second, although it is called ten times as often.
fn keeper(info_file: Arc<Mutex<Option<InfoFile>>>) -> ProgressObserver {
    let mut ticks = 0_u32;
    Box::new(move |_| {
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(10)
            && let Some(info_file) = &mut *unpoisoned(&info_file)
        {
            info_file.keep();
        }
    })
}

/// Returns the address to announce for a listener: its own, or one of this machine's if it listens at all of them.
fn address_of(listener: &TcpListener, address: IpAddr) -> IpAddr {
    if !address.is_unspecified() {
        return address;
    }
    let ipv6 = address.is_ipv6();
    let ipv4 = !ipv6 || sockopt::ipv6_v6only(listener) == Ok(false);
    reachable(Families { ipv4, ipv6 }).unwrap_or(LOOPBACK)
}

/// The address that is announced if this machine has no other.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The TCP side: one thread for all clients. No client can delay another.
struct TcpResponder {
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// The server drops a client that neither sends nor takes anything for this long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most clients at a time. Others wait in the kernel's queue.
const MAX_CLIENTS: usize = 512;

struct TcpClient {
    socket: CloseOnForkFd<TcpStream>,
    since: Instant,
    hello: Vec<u8>,
    token: Option<Token>,
    sent: usize,
}

impl TcpResponder {
    fn open(
        listener: CloseOnForkFd<TcpListener>,
        message: &[u8],
        counter: Arc<ClientCounter>,
        owners: Option<OwnerCheck>,
    ) -> Result<Self, ServerError> {
        let end = Arc::new(EventFd::new().map_err(cannot("make an event"))?);
        rustix::io::ioctl_fionbio(&listener, true).map_err(cannot("listen"))?;
        try_poll().map_err(cannot("wait for clients"))?;
        let (over, reply) = (end.clone(), wire::reply(message));
        let body = move || serve(&listener, &over, &reply, &counter, owners.as_ref());
        let thread = start_thread(Builder::new().name("counter".into()), body)
            .map_err(|error| OsError::io("start a thread", &error))?;
        Ok(Self { end, thread: Some(thread) })
    }

    fn close(&mut self) {
        self.end.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for TcpResponder {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(
    listener: &TcpListener,
    over: &EventFd,
    reply: &[u8],
    counter: &ClientCounter,
    owners: Option<&OwnerCheck>,
) {
    let mut clients: Vec<TcpClient> = Vec::new();
    let second = crate::os::timeout::timespec(Duration::from_secs(1));
    loop {
        let mut ready = vec![PollFd::new(over, PollFlags::IN)];
        let room = clients.len() < MAX_CLIENTS || clients.iter().any(TcpClient::is_silent);
        ready.push(PollFd::new(listener, if room { PollFlags::IN } else { PollFlags::empty() }));
        ready.extend(clients.iter().map(|client| {
            let writes = client.token.is_some() && client.sent < reply.len();
            PollFd::new(&client.socket, if writes { PollFlags::OUT } else { PollFlags::IN })
        }));
        let _ = poll(&mut ready, Some(&second)); // EINTR: check all
        let is_ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(ready);
        if is_ready[0] {
            return;
        }
        let mut index = 2;
        clients.retain_mut(|client| {
            let ready = is_ready[index];
            index += 1;
            let stays = !ready || client.advance(reply, counter);
            let patient = client.since.elapsed() < TIMEOUT;
            if !(stays && patient)
                && let Some(token) = client.token
            {
                counter.disconnected(token, client.sent == reply.len());
            }
            stays && patient
        });
        if is_ready[1] {
            let mut from = None;
            let accept = || {
                let (socket, address) = listener.accept()?;
                from = Some(address);
                Ok::<_, std::io::Error>(socket)
            };
            match CloseOnForkFd::open(accept) {
                Ok(socket) if rustix::io::ioctl_fionbio(&socket, true).is_ok() => {
                    let from = from.map_or_else(|| "a client".to_owned(), |from| from.to_string());
                    if let Some(Err(refused)) = owners.map(|owners| owners.check(&socket)) {
                        tracing::debug!("connection from {from} refused: {refused}");
                        cancel(&socket, wire::refusal(&refused).as_bytes());
                        continue;
                    }
                    tracing::debug!("connection from {from}");
                    if clients.len() >= MAX_CLIENTS {
                        make_room(&mut clients);
                    }
                    let (since, hello, token, sent) = (Instant::now(), Vec::new(), None, 0);
                    clients.push(TcpClient { socket, since, hello, token, sent });
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) if make_room(&mut clients) => {}
                // Most likely there are no descriptors. The queue stays readable, so the loop must not spin on it.
                Err(error) => {
                    tracing::warn!("cannot take clients in: {}", crate::os::error::reason_of(&error));
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

/// Drops the oldest client that has not sent its token. Returns `false` if there is none.
fn make_room(clients: &mut Vec<TcpClient>) -> bool {
    let oldest = clients.iter().position(TcpClient::is_silent);
    oldest.map(|oldest| clients.remove(oldest)).is_some()
}

impl TcpClient {
    /// Returns whether it has not sent its token.
    fn is_silent(&self) -> bool {
        self.token.is_none()
    }

    /// Serves one client as far as its socket allows. Returns `false` if the client has finished.
    fn advance(&mut self, reply: &[u8], counter: &ClientCounter) -> bool {
        let wait =
            |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
        if self.token.is_some() && self.sent < reply.len() {
            return match (&*self.socket).write(&reply[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    true
                }
                Err(error) => wait(&error),
            };
        }
        let mut buffer = [0; wire::HELLO];
        let room = wire::HELLO - self.hello.len();
        // After its hello a client sends nothing more, and closes the connection at the end of its run.
        match (&*self.socket).read(&mut buffer[..room.max(1)]) {
            Ok(0) => false,
            Ok(_) if self.token.is_some() => false,
            Ok(count) => {
                self.hello.extend_from_slice(&buffer[..count]);
                let Ok(whole) = self.hello.as_slice().try_into() else { return true };
                self.token = wire::token_of(whole);
                self.token.map(|token| counter.connected(token)).is_some()
            }
            Err(error) => wait(&error),
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.channel.cancelled()
    }
}
