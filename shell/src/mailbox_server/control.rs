//! The control socket: how the same user's programs on the same machine stop a server, ask it, and attach to its
//! mailboxes. One request and one answer, each a packet; the kernel says who asks.
//!
//! ```text
//! whorl 1 stop      ok                 and the server goes down; it is gone when its information file's lock is free
//! whorl 1 attach    ok                 with the mailboxes' memory
//! whorl 1 status    ok key=value ...
//! any other version version 1
//! ```

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::path::Path;
use std::time::{Duration, Instant};
use thiserror::Error;

use super::server_registry::{ServerRegistry, name_of};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::reason;
use crate::os::file::{FileId, OpenError, SocketFile};
use crate::os::socket::{receive_with_descriptors, send_with_descriptors};
use crate::os::timeout::timespec;

/// The version of these requests.
const VERSION: u32 = 1;
/// Longer packets are cut, and then understood by nobody.
const PACKET: usize = 1024;
/// A server that does not answer for so long is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Go down.
    Stop,
    /// Hand over the mailboxes' memory.
    Attach,
    /// Say how things are.
    Status,
}

impl Request {
    fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Attach => "attach",
            Self::Status => "status",
        }
    }
}

/// Why a server did not do what was asked.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no server answers: {}", reason(*.0))]
    NoAnswer(Errno),
    /// It speaks another version.
    #[error("the server speaks version {theirs} of the control requests, this program version {VERSION}")]
    Version {
        /// Its version.
        theirs: String,
    },
    /// It answered something else.
    #[error("the server refused: {0}")]
    Refused(String),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// What follows `ok`.
    pub text: String,
    /// What was handed over.
    pub object: Option<OwnedFd>,
    /// The connection. While it is open the server counts us as attached, and it looks for dead users when it closes.
    pub socket: CloseOnForkFd,
}

/// Asks the server of `port`.
///
/// # Blocking
/// Until it answers, at most 5 s.
///
/// # Errors
/// It did not.
pub fn ask(registry: &ServerRegistry, port: u16, request: Request) -> Result<Answer, AskError> {
    let file =
        SocketFile::open(registry.directory(), socket_name(port)).map_err(|refused| match refused {
            OpenError::NotOwned => AskError::NoAnswer(Errno::NOTSOCK),
            OpenError::System(error) => AskError::NoAnswer(error),
        })?;
    ask_at(&file.path(), request)
}

/// The control socket of `port`.
pub fn socket_name(port: u16) -> String {
    format!("{}.sock", name_of(port))
}

/// Asks the server whose control socket is at `path`.
///
/// # Blocking
/// As [`ask`].
///
/// # Errors
/// As [`ask`].
pub fn ask_at(path: &Path, request: Request) -> Result<Answer, AskError> {
    let socket = control_socket(SocketFlags::empty()).map_err(AskError::NoAnswer)?;
    let both = [sockopt::Timeout::Recv, sockopt::Timeout::Send];
    for timeout in both {
        sockopt::set_socket_timeout(&socket, timeout, Some(PATIENCE)).map_err(AskError::NoAnswer)?;
    }
    let address = SocketAddrUnix::new(path).map_err(AskError::NoAnswer)?;
    rustix::net::connect(&socket, &address).map_err(AskError::NoAnswer)?;
    let line = format!("whorl {VERSION} {}", request.word());
    rustix::net::send(&socket, line.as_bytes(), SendFlags::NOSIGNAL).map_err(AskError::NoAnswer)?;
    let mut bytes = [0; PACKET];
    let (length, objects) =
        receive_by(&socket, &mut bytes, Instant::now() + PATIENCE).map_err(AskError::NoAnswer)?;
    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
    // Memory: nobody's life hangs on it.
    let object = objects.into_iter().next().map(CloseOnForkFd::share);
    match text.split_once(' ').unwrap_or((&text, "")) {
        ("ok", rest) => Ok(Answer { text: rest.to_owned(), object, socket }),
        ("version", theirs) => Err(AskError::Version { theirs: theirs.escape_debug().to_string() }),
        ("", _) => Err(AskError::NoAnswer(Errno::CONNRESET)),
        _ => Err(AskError::Refused(text.escape_debug().to_string())),
    }
}

fn control_socket(flags: SocketFlags) -> Result<CloseOnForkFd, Errno> {
    let flags = flags | SocketFlags::CLOEXEC;
    CloseOnForkFd::open(|| rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None))
}

/// Receives a packet. Waits for it without taking it: forks of this process need not wait for a descriptor to come.
fn receive_by(
    socket: &CloseOnForkFd,
    bytes: &mut [u8],
    deadline: Instant,
) -> Result<(usize, Vec<CloseOnForkFd>), Errno> {
    loop {
        match receive_with_descriptors(socket, bytes) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::AGAIN);
        }
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timespec(left))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Listens on the control socket of `port`; returns it with what tells its file from others. A leftover in its place goes:
/// who holds the information file owns the name.
///
/// # Errors
/// What the kernel said.
pub fn listen(registry: &ServerRegistry, port: u16) -> Result<(CloseOnForkFd, FileId), Errno> {
    let name = socket_name(port);
    registry.remove(&name);
    let socket = control_socket(SocketFlags::NONBLOCK)?;
    // The file gets the socket's mode, less the umask.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    registry.directory().bind(&socket, &name)?;
    rustix::net::listen(&socket, 64)?;
    let file = SocketFile::open(registry.directory(), &*name).map_err(|refused| match refused {
        OpenError::NotOwned => Errno::EXIST,
        OpenError::System(error) => error,
    })?;
    // The socket had its mode before it had a name. Some file systems refuse to change it.
    let _ = file.make_private();
    Ok((socket, file.identity))
}

/// Reads the request of a client that is ready. Nothing: it is not to be answered, and to be closed.
pub fn request(socket: &OwnedFd) -> Option<Request> {
    if !super::listen::is_same_user(socket) {
        answer(socket, "err only the user who runs the server may ask", None);
        return None;
    }
    let mut bytes = [0; PACKET];
    let (length, _) = rustix::net::recv(socket, &mut bytes[..], RecvFlags::empty()).ok()?;
    let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
    let mut words = text.split(' ');
    if words.next() != Some("whorl") {
        return None;
    }
    if words.next().and_then(|version| version.parse().ok()) != Some(VERSION) {
        answer(socket, &format!("version {VERSION}"), None);
        return None;
    }
    let word = words.next()?;
    let known = [Request::Stop, Request::Attach, Request::Status];
    let request = known.into_iter().find(|request| request.word() == word);
    if request.is_none() {
        answer(socket, "err unknown request", None);
    }
    request
}

/// Answers, handing over an object if there is one. A client that has gone needs no answer.
pub fn answer(socket: &OwnedFd, text: &str, object: Option<BorrowedFd<'_>>) {
    let _ = send_with_descriptors(socket, text.as_bytes(), object.as_slice());
}
