//! Listening at TCP addresses, at a unix socket, or at sockets that a supervisor opened; and accepting clients.

use rustix::fd::{AsFd, FromRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use thiserror::Error;

use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::reason;
use crate::os::escape::shown;
use crate::os::file::{OpenError, SocketFile, remove_if};

/// The most connections that wait to be accepted. The kernel's own limit may be lower.
const BACKLOG: i32 = 4096;
/// How many ports to try until one is free at both loopback addresses.
const PAIRS: usize = 16;
/// The first descriptor that a supervisor passes.
const FIRST_INHERITED: i32 = 3;

/// Why the server cannot listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The port is in use.
    #[error("port {port} at {address} is in use; take another, or port 0 for any that is free")]
    InUse {
        /// The port.
        port: u16,
        /// The address.
        address: IpAddr,
    },
    /// Ordinary users may not use the port.
    #[error("port {0} needs privileges; take one from 1024 to 65535, or port 0 for any that is free")]
    Privileged(u16),
    /// No port was free at both loopback addresses.
    #[error("no port was found that is free at 127.0.0.1 and at ::1 ({PAIRS} tries); name one")]
    NoPair,
    /// Another error of TCP.
    #[error("cannot listen on {address}: {}", reason(*error))]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The kernel's error.
        error: Errno,
    },
    /// The unix socket's path is taken.
    #[error("{} {why}", shown(path))]
    Path {
        /// The path.
        path: PathBuf,
        /// The reason.
        why: &'static str,
    },
    /// Another error of the unix socket.
    #[error("cannot listen on {}: {}", shown(path), reason(*error))]
    Unix {
        /// The path.
        path: PathBuf,
        /// The kernel's error.
        error: Errno,
    },
    /// The sockets that the supervisor passed cannot be used.
    #[error("the sockets in LISTEN_FDS cannot be used: {0}")]
    Inherited(String),
}

/// The listening sockets that a supervisor passed. Forked children share them until a server takes them.
#[derive(Debug)]
pub struct Inherited {
    /// The TCP sockets.
    pub tcp: Vec<(OwnedFd, SocketAddr)>,
    /// The unix sockets.
    pub unix: Vec<OwnedFd>,
}

impl Inherited {
    /// Takes the sockets, so that forked children no longer share them.
    pub(super) fn keep(self) -> Result<Listeners, Errno> {
        let tcp = self.tcp.into_iter().map(|(socket, address)| Ok((CloseOnForkFd::of(socket)?, address)));
        let unix = self.unix.into_iter().map(|socket| Ok((CloseOnForkFd::of(socket)?, None)));
        Ok(Listeners { tcp: tcp.collect::<Result<_, _>>()?, unix: unix.collect::<Result<_, _>>()? })
    }
}

/// The listening sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    /// The TCP sockets: one, or those that a supervisor opened.
    pub tcp: Vec<(CloseOnForkFd, SocketAddr)>,
    /// The unix sockets, with their paths if the server made them.
    pub unix: Vec<(CloseOnForkFd, Option<PathBuf>)>,
}

impl Listeners {
    /// Returns the address and port that name this server.
    ///
    /// # Panics
    /// If it does not listen on TCP.
    pub fn address(&self) -> SocketAddr {
        self.tcp[0].1
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for path in self.unix.iter().filter_map(|(_, path)| path.as_deref()) {
            remove_own(path);
        }
    }
}

/// Listens at both loopback addresses with one port, at 127.0.0.1 first. If this machine has no IPv6, listens at
/// 127.0.0.1 alone. Port 0 becomes a port that is free at both.
///
/// # Errors
/// The port is in use at one of them, or this user may not use it.
pub fn loopbacks(port: u16) -> Result<Vec<(CloseOnForkFd, SocketAddr)>, ListenError> {
    // These stay open, so that the kernel does not pick the same port again.
    let mut tried = Vec::new();
    for _ in 0..PAIRS {
        let four = match tcp((Ipv4Addr::LOCALHOST, port).into()) {
            Err(ListenError::InUse { .. }) if port == 0 => break, // there are fewer numbers than tries
            four => four?,
        };
        match tcp((Ipv6Addr::LOCALHOST, four.1.port()).into()) {
            Ok(six) => return Ok(vec![four, six]),
            Err(ListenError::Tcp { error, .. }) if is_no_ipv6(error) => return Ok(vec![four]),
            Err(ListenError::InUse { .. }) if port == 0 => tried.push(four),
            Err(error) => return Err(error),
        }
    }
    Err(ListenError::NoPair)
}

/// Returns whether an error means that this process has no IPv6: the kernel lacks it, it is off, or a filter refuses
/// it.
fn is_no_ipv6(error: Errno) -> bool {
    matches!(error, Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::ADDRNOTAVAIL | Errno::PERM)
}

/// Listens at `address`. A port of 0 becomes a free one.
///
/// # Errors
/// The port is in use, or this user may not use it.
pub fn tcp(address: SocketAddr) -> Result<(CloseOnForkFd, SocketAddr), ListenError> {
    let failed = |error| match error {
        Errno::ADDRINUSE => ListenError::InUse { port: address.port(), address: address.ip() },
        Errno::ACCESS => ListenError::Privileged(address.port()),
        error => ListenError::Tcp { address, error },
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = || rustix::net::socket_with(family, SocketType::STREAM, flags, None);
    let socket = CloseOnForkFd::open(socket).map_err(failed)?;
    // A restart need not wait for old connections. Never SO_REUSEPORT, because two servers on one port are an error.
    sockopt::set_socket_reuseaddr(&socket, true).map_err(failed)?;
    rustix::net::bind(&socket, &address).map_err(failed)?;
    rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
    let bound = local_address(&socket).ok_or(failed(Errno::INVAL))?;
    Ok((socket, bound))
}

fn local_address(socket: &OwnedFd) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()
}

/// Listens at a path, for this user alone. Replaces a socket file on which no process listens.
///
/// # Errors
/// The path is taken, or cannot be used.
pub fn unix(path: &Path) -> Result<CloseOnForkFd, ListenError> {
    let failed = |error| ListenError::Unix { path: path.to_owned(), error };
    let taken = |why| ListenError::Path { path: path.to_owned(), why };
    let address = SocketAddrUnix::new(path).map_err(|error| match error {
        Errno::NAMETOOLONG => taken("is too long for a socket, at most 107 bytes are possible"),
        error => failed(error),
    })?;
    let listener = unix_socket().map_err(failed)?;
    let mut bound = bind_privately(&listener, &address);
    if bound == Err(Errno::ADDRINUSE) {
        // The kernel also refuses a connection to a file that is no socket, so a refusal alone does not make a file a
        // leftover.
        match SocketFile::open(CWD, path) {
            Ok(file) => match file.connect(unix_socket().map_err(failed)?) {
                Err(Errno::CONNREFUSED) => _ = remove_if(CWD, path, file.identity).map_err(failed)?,
                Ok(()) | Err(Errno::AGAIN) => return Err(taken("belongs to a running server")),
                Err(error) => return Err(failed(error)),
            },
            Err(OpenError::System(Errno::NOENT)) => {} // it went just now
            Err(OpenError::NotOwned) => {
                return Err(taken("exists and is not a socket owned by you; remove it and try again"));
            }
            Err(OpenError::System(error)) => return Err(failed(error)),
        }
        bound = bind_privately(&listener, &address);
    }
    bound.map_err(failed)?;
    rustix::net::listen(&listener, BACKLOG).map_err(failed)?;
    Ok(listener)
}

/// Binds a socket so that other users can never open its file, whatever the umask is.
pub fn bind_privately(socket: &OwnedFd, address: &SocketAddrUnix) -> Result<(), Errno> {
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let bound = rustix::net::bind(socket, address);
    rustix::process::umask(before);
    bound
}

/// Removes the file of a unix socket, unless another file has its name.
fn remove_own(path: &Path) {
    // A socket and its file are different inodes. So this checks whether the path still leads to this server.
    remove_where(path, |probe, connected| {
        connected.is_ok()
            && sockopt::socket_peercred(probe).is_ok_and(|peer| peer.pid == rustix::process::getpid())
    });
}

/// Removes the file of a unix socket on which no process listens.
pub fn remove_dead(path: &Path) {
    remove_where(path, |_, connected| connected == Err(Errno::CONNREFUSED));
}

/// Removes the file of a unix socket if a connection to it satisfies `is_so`.
fn remove_where(path: &Path, is_so: impl FnOnce(&OwnedFd, Result<(), Errno>) -> bool) {
    let (Ok(probe), Ok(file)) = (unix_socket(), SocketFile::open(CWD, path)) else { return };
    if is_so(&probe, file.connect(&probe)) {
        let _ = remove_if(CWD, path, file.identity);
    }
}

fn unix_socket() -> Result<CloseOnForkFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    CloseOnForkFd::open(|| rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None))
}

/// Returns the sockets that a supervisor opened for this process, if it did.
///
/// # Errors
/// They are not sockets that this server can listen at.
pub fn inherited() -> Result<Option<Inherited>, ListenError> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    let Some(count) = number("LISTEN_FDS").filter(|&count| count > 0) else { return Ok(None) };
    let wrong = |why: &str| ListenError::Inherited(why.to_owned());
    if count > 16 {
        return Err(wrong("there are more than 16"));
    }
    let mut listeners = Inherited { tcp: Vec::new(), unix: Vec::new() };
    for raw in FIRST_INHERITED..FIRST_INHERITED + count as i32 {
        let open = rustix::fs::statx(CWD, format!("/proc/self/fd/{raw}"), AtFlags::empty(), StatxFlags::TYPE);
        open.map_err(|_| wrong("one of them is not open"))?;
        // SAFETY: open, and passed to this process by the supervisor that set LISTEN_PID. No other code here owns a
        // descriptor that it did not open.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        let usable = sockopt::socket_type(&socket) == Ok(SocketType::STREAM)
            && sockopt::socket_acceptconn(&socket) == Ok(true);
        if !usable {
            return Err(wrong("one of them is not a listening stream socket"));
        }
        let prepared = rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)
            .and_then(|()| rustix::fs::fcntl_getfl(&socket))
            .and_then(|flags| rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK));
        prepared.map_err(|error| wrong(&reason(error)))?;
        match rustix::net::getsockname(&socket).map(|address| address.address_family()) {
            Ok(AddressFamily::UNIX) => listeners.unix.push(socket),
            Ok(AddressFamily::INET | AddressFamily::INET6) => {
                let address = local_address(&socket).ok_or_else(|| wrong("one has no address"))?;
                listeners.tcp.push((socket, address));
            }
            _ => return Err(wrong("one of them is neither TCP nor unix")),
        }
    }
    Ok(Some(listeners))
}

/// Returns the peer of a connection, for a log.
pub fn peer(client: &OwnedFd) -> String {
    use rustix::net::{AddressFamily, getpeername};
    let address = getpeername(client).ok().flatten();
    match address {
        Some(address) if address.address_family() != AddressFamily::UNIX => {
            SocketAddr::try_from(address).map_or("somewhere".into(), |address| address.to_string())
        }
        _ => match crate::os::socket::peer_credentials(client) {
            Ok(peer) => format!("pid {}", peer.pid),
            Err(_) => "somewhere".into(),
        },
    }
}

/// Returns the address of a client.
pub fn address(client: &OwnedFd) -> Option<IpAddr> {
    let address = rustix::net::getpeername(client).ok().flatten()?;
    SocketAddr::try_from(address).ok().map(|address| address.ip())
}

/// Accepts a client.
///
/// # Errors
/// No client waits (`EAGAIN`), or there is no descriptor for it.
pub fn accept(listener: &OwnedFd, is_tcp: bool) -> Result<CloseOnForkFd, Errno> {
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match CloseOnForkFd::open(|| rustix::net::accept_with(listener, flags)) {
            Ok(socket) => {
                if is_tcp {
                    // Both only improve the service: replies go out at once, and a machine that vanished is noticed.
                    let _ = sockopt::set_tcp_nodelay(&socket, true);
                    let _ = sockopt::set_socket_keepalive(&socket, true);
                }
                return Ok(socket);
            }
            // This client has gone, or a signal came. Try the next client.
            Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns whether the peer of a unix socket runs as this user.
pub fn is_same_user(socket: impl AsFd) -> bool {
    sockopt::socket_peercred(socket).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}
