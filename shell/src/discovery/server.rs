//! A server: two messages for each client, and a file that says where.

use super::file::{FileError, InfoFile, Information};
use super::reachable::{Families, reachable};
use super::wire;
use crate::channel::owner::{ClientCounter, WaitEnd};
use crate::channel::{CreateError, ProgressObserver, SendError, Sender, SenderOptions};
use crate::os::close_on_fork::{CloseOnForkFd, ForkId};
use crate::os::dirs::CreatedDirs;
use crate::os::error::{OsError, cannot};
use crate::os::event_fd::{EventFd, try_poll};
use crate::os::socket_owner::{OwnerCheck, Refused};
use crate::os::thread::start_thread;
use crate::registry::protocol::Token;
use crate::registry::status::Kind;
use crate::registry::{Name, RuntimeDir};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::sockopt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use thiserror::Error;

/// What a server is to be.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where it announces itself; made, for this user alone, if it does not exist.
    pub directory: PathBuf,
    /// What it gives each client over TCP.
    pub socket_message: Vec<u8>,
    /// What it gives each client through shared memory.
    pub shm_message: Vec<u8>,
    /// Where the server listens. With the unspecified address it listens at every address, and its file names one that
    /// other machines reach, or 127.0.0.1 if there is none.
    pub address: IpAddr,
    /// On loopback, serve every user of this machine, and not only this process's user and root. On another address
    /// every client that reaches it is served.
    pub any_user: bool,
}

impl ServerOptions {
    /// A server that announces itself in a directory, listens to this machine alone, and has nothing to say.
    pub fn new(directory: PathBuf) -> Self {
        let (socket_message, shm_message, address) = (Vec::new(), Vec::new(), Ipv4Addr::LOCALHOST.into());
        Self { directory, socket_message, shm_message, address, any_user: false }
    }
}

/// Why there is no server.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The channel.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The channel's message.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A message is too long.
    #[error("a message has at most 1 MiB")]
    TooLong,
    /// It cannot listen.
    #[error("cannot listen at {address}: {error}")]
    Listen {
        /// Where.
        address: IpAddr,
        /// What the kernel said.
        error: String,
    },
    /// The information file.
    #[error("{}: {error}", crate::os::escape::shown(.path))]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        error: FileError,
    },
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
    /// A signal asked the program to stop.
    #[error("interrupted")]
    Interrupted,
    /// Somebody asked the server to end.
    #[error("asked to end by 'shell rm'")]
    Stopped,
}

/// A server. Dropping it removes its file and its channel.
///
/// ```no_run
/// use whorl::{Server, ServerOptions};
///
/// let options = ServerOptions { socket_message: b"hello".to_vec(), ..ServerOptions::new("servers".into()) };
/// let mut server = Server::start(&"greeter".parse()?, &options)?;
/// server.wait(Some(3), None)?; // until three clients came
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    /// Dropped first, and then the others in this order: nobody finds us, then nobody reaches us. The channel's control
    /// thread looks after it.
    announcement: Arc<Mutex<Option<InfoFile>>>,
    born: ForkId,
    counter: TcpResponder,
    channel: Sender,
    visits: Arc<ClientCounter>,
    address: IpAddr,
    port: u16,
}

impl Server {
    /// Starts a server, in threads of its own. It is announced once it can be reached.
    ///
    /// # Errors
    /// Its name is in use, or something is not to be had; nothing is left then.
    pub fn start(name: &Name, options: &ServerOptions) -> Result<Self, ServerError> {
        Self::start_in(RuntimeDir::open().map_err(CreateError::from)?, name, options)
    }

    /// The same, with its channel in a given runtime directory.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_in(
        directory: RuntimeDir,
        name: &Name,
        options: &ServerOptions,
    ) -> Result<Self, ServerError> {
        let longest = options.socket_message.len().max(options.shm_message.len());
        if longest as u64 > wire::LONGEST {
            return Err(ServerError::TooLong);
        }
        let visits = Arc::new(ClientCounter::default());
        let slot_size = (options.shm_message.len() as u32).max(1);
        let announced = Arc::new(Mutex::new(None));
        let watcher = Some(keeper(announced.clone()));
        let memory = SenderOptions { slot_size, slots: 2, seats: 256, watcher, ..SenderOptions::default() };
        let owner = (Kind::Server, Some(visits.clone()));
        let mut channel = Sender::create_as(owner, directory, name, memory)?;
        // One message in a ring of two: whoever comes reads it from the first byte to the end.
        channel.send(&options.shm_message, None)?;
        channel.close(None)?;
        channel.begin(false);
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
        let counter = TcpResponder::open(listener, &options.socket_message, visits.clone(), owners)?;
        let information = Information { address, port, channel: name.clone(), id: channel.id() };
        let mut made = CreatedDirs::all(&options.directory, 0o700).map_err(|error| ServerError::File {
            path: options.directory.clone(),
            error: FileError::System(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        })?;
        let announcement =
            InfoFile::make(&options.directory, name, &information).map_err(|error| ServerError::File {
                path: options.directory.join(format!("{name}{}", super::file::ENDING)),
                error,
            })?;
        made.keep();
        *held(&announced) = Some(announcement);
        Ok(Self { announcement: announced, born: ForkId::current(), counter, channel, visits, address, port })
    }

    /// Where it can be reached.
    pub fn address(&self) -> (IpAddr, u16) {
        (self.address, self.port)
    }

    /// How many clients came: each run that took a message, whatever way.
    pub fn clients(&self) -> u64 {
        self.visits.over()
    }

    /// Serves until so many clients came, or the deadline.
    ///
    /// # Blocking
    /// Until then, a signal, or until somebody asks the server to end.
    ///
    /// # Errors
    /// It was a signal, or somebody asked.
    pub fn wait(&mut self, clients: Option<u64>, deadline: Option<Instant>) -> Result<(), ServerError> {
        let enough = || clients.is_some_and(|clients| self.visits.over() >= clients);
        match self.channel.guests().wait_until(deadline, enough) {
            Ok(()) | Err(WaitEnd::TimedOut) => Ok(()),
            Err(WaitEnd::Interrupted) => Err(ServerError::Interrupted),
            Err(WaitEnd::Stopped) => Err(ServerError::Stopped),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // In a forked child nobody would ever give back what the control thread held when it was forked.
        if !self.born.has_forked() {
            *held(&self.announcement) = None;
        }
        self.counter.close();
    }
}

fn held(announced: &Mutex<Option<InfoFile>>) -> MutexGuard<'_, Option<InfoFile>> {
    announced.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks after the information file once a second; it is called ten times as often.
fn keeper(announced: Arc<Mutex<Option<InfoFile>>>) -> ProgressObserver {
    let mut calls = 0_u32;
    Box::new(move |_| {
        calls = calls.wrapping_add(1);
        if calls.is_multiple_of(10)
            && let Some(announcement) = &mut *held(&announced)
        {
            announcement.keep();
        }
    })
}

/// The address to announce for a listener: its own, or one of this machine where it means all of them.
fn address_of(listener: &TcpListener, address: IpAddr) -> IpAddr {
    if !address.is_unspecified() {
        return address;
    }
    let ipv6 = address.is_ipv6();
    let ipv4 = !ipv6 || sockopt::ipv6_v6only(listener) == Ok(false);
    reachable(Families { ipv4, ipv6 }).unwrap_or(LOOPBACK)
}

/// The address that is announced where this machine has no other.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The TCP side: one thread for all clients, none of which can hold up another.
struct TcpResponder {
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// A client that says nothing, or takes nothing, for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients at a time; others wait in the kernel's queue.
const MOST: usize = 512;

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
        visits: Arc<ClientCounter>,
        owners: Option<OwnerCheck>,
    ) -> Result<Self, ServerError> {
        let end = Arc::new(EventFd::new().map_err(cannot("make an event"))?);
        rustix::io::ioctl_fionbio(&listener, true).map_err(cannot("listen"))?;
        try_poll().map_err(cannot("wait for clients"))?;
        let (over, reply) = (end.clone(), wire::reply(message));
        let body = move || serve(&listener, &over, &reply, &visits, owners.as_ref());
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
    visits: &ClientCounter,
    owners: Option<&OwnerCheck>,
) {
    let mut customers: Vec<TcpClient> = Vec::new();
    let second = crate::os::timeout::timespec(Duration::from_secs(1));
    loop {
        let mut ready = vec![PollFd::new(over, PollFlags::IN)];
        let room = customers.len() < MOST || customers.iter().any(TcpClient::is_silent);
        ready.push(PollFd::new(listener, if room { PollFlags::IN } else { PollFlags::empty() }));
        ready.extend(customers.iter().map(|customer| {
            let writes = customer.token.is_some() && customer.sent < reply.len();
            PollFd::new(&customer.socket, if writes { PollFlags::OUT } else { PollFlags::IN })
        }));
        let _ = poll(&mut ready, Some(&second)); // EINTR: look around
        let is_ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(ready);
        if is_ready[0] {
            return;
        }
        let mut index = 2;
        customers.retain_mut(|customer| {
            let ready = is_ready[index];
            index += 1;
            let stays = !ready || customer.turn(reply, visits);
            let patient = customer.since.elapsed() < PATIENCE;
            if !(stays && patient)
                && let Some(token) = customer.token
            {
                visits.go(token, customer.sent == reply.len());
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
                        dismiss(socket, &refused);
                        continue;
                    }
                    tracing::debug!("connection from {from}");
                    if customers.len() >= MOST {
                        make_room(&mut customers);
                    }
                    let (since, hello, token, sent) = (Instant::now(), Vec::new(), None, 0);
                    customers.push(TcpClient { socket, since, hello, token, sent });
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) if make_room(&mut customers) => {}
                // No descriptors, most likely: the queue stays readable, so do not spin on it.
                Err(error) => {
                    tracing::warn!("cannot take clients in: {}", crate::os::error::reason_of(&error));
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

/// Sends a client away with one line. Reads what the client has sent, because the kernel would otherwise discard the line.
fn dismiss(socket: CloseOnForkFd<TcpStream>, refused: &Refused) {
    let mut socket: &TcpStream = &socket;
    let _ = socket.write(wire::refusal(refused).as_bytes());
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let _ = socket.read(&mut [0; 512]);
}

/// Sends the oldest client away that has not said who it is. False: there is none.
fn make_room(customers: &mut Vec<TcpClient>) -> bool {
    let oldest = customers.iter().position(TcpClient::is_silent);
    oldest.map(|oldest| customers.remove(oldest)).is_some()
}

impl TcpClient {
    /// Whether it has not said who it is.
    fn is_silent(&self) -> bool {
        self.token.is_none()
    }

    /// Goes on with one client; false when it is through.
    fn turn(&mut self, reply: &[u8], visits: &ClientCounter) -> bool {
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
        // After its hello a client says nothing more: it hangs up when its run is through.
        match (&*self.socket).read(&mut buffer[..room.max(1)]) {
            Ok(0) => false,
            Ok(_) if self.token.is_some() => false,
            Ok(count) => {
                self.hello.extend_from_slice(&buffer[..count]);
                let Ok(whole) = self.hello.as_slice().try_into() else { return true };
                self.token = wire::token_of(whole);
                self.token.map(|token| visits.come(token)).is_some()
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
