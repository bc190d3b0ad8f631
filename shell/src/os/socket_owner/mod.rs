//! Finds the user at the other end of a TCP connection within this machine, and decides whether that user is served.
//!
//! Each user of the machine can connect over loopback, and TCP does not transmit the user. The kernel knows the owner of the
//! other socket, but its reply can mislead in three ways:
//!
//! 1. If a process has closed its socket, the kernel reports root as its owner, without an inode. Such an owner counts as
//!    unknown. So a client keeps its socket open until it has its reply. It may close its half of the connection.
//! 2. If the connection is gone, the kernel may reply with a listening socket, or with a newer connection from the same
//!    port. So the reply must name both addresses and the state of a connected socket. This end must also be connected
//!    after the lookup, because no other connection can have these addresses while it is.
//! 3. If a user has no number in this user namespace, the kernel reports the overflow user. So the overflow user never matches.

mod proc_net;
mod sock_diag;

use crate::os::error::reason;
use crate::os::netlink::NetlinkError;
use crate::os::thread::unpoisoned;
use rustix::fd::AsFd;
use rustix::io::Errno;
use sock_diag::SockDiag;
use std::net::SocketAddr;
use std::sync::Mutex;
use thiserror::Error;

/// The two addresses of a connection, seen from the socket that a lookup searches for. An IPv4 address that is mapped into IPv6
/// becomes an IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pair {
    local: SocketAddr,
    remote: SocketAddr,
}

impl Pair {
    fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { local: plain(local), remote: plain(remote) }
    }
}

/// What the kernel reports about a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Found {
    /// Its state, as in the kernel's `tcp_states.h`.
    state: u8,
    /// Its owner, as seen in this user namespace.
    user: u32,
    /// Its inode, or 0 if no process has it open.
    inode: u64,
}

impl Found {
    /// Returns whether this is an end of a connection that is established or is closing in order.
    fn is_connected(self) -> bool {
        /// Established, FIN wait 1 and 2, close wait, last acknowledgement, closing.
        const CONNECTED: [u8; 6] = [1, 4, 5, 8, 9, 11];
        CONNECTED.contains(&self.state)
    }
}

/// Why the owner of a socket is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unknown {
    /// The socket is closed, or in another network namespace.
    #[error("your socket is closed already, or in another network namespace")]
    NotFound,
    /// The owner has the user number of this process, but that number also means users without a number.
    #[error("user number {0} also stands for unknown users")]
    Overflow(u32),
    /// Neither source works.
    #[error("the kernel does not report the owner of your socket: {}", reason(*.0))]
    System(Errno),
}

/// The refusal to serve a client. The server sends its text to the client.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("this server serves user {user}; start it with --any-user to serve others{}",
    why.map_or(String::new(), |why| format!(" ({why})")))]
pub struct Refused {
    user: String,
    why: Option<Unknown>,
}

/// The source from which [`OwnerCheck`] gets the owners of sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// One lookup in the kernel's table.
    SockDiag,
    /// Reading the whole table.
    ProcNet {
        /// Why a lookup does not work.
        why: Errno,
    },
}

/// Decides whether a client that connected over loopback is served. It is served if its socket belongs to the user of this
/// process, or to root.
#[derive(Debug)]
pub struct OwnerCheck {
    diag: Option<Mutex<SockDiag>>,
    source: Source,
    own: u32,
    overflow: u32,
    user: String,
}

impl OwnerCheck {
    /// Chooses the source of owners. `listener` is the address of a listening socket of this process, which serves as a test.
    pub fn open(listener: SocketAddr) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let tested = SockDiag::open().and_then(|mut diag| {
            // A kernel without the module replies "not found" to each request. So this requests a socket that exists.
            match diag.find_listener(listener) {
                Ok(true) => Ok(diag),
                Ok(false) => Err(Errno::NOENT),
                Err(NetlinkError::Answered(error) | NetlinkError::System(error)) => Err(error),
                Err(NetlinkError::Malformed) => Err(Errno::BADMSG),
            }
        });
        let (diag, source) = match tested {
            Ok(diag) => (Some(Mutex::new(diag)), Source::SockDiag),
            Err(why) => (None, Source::ProcNet { why }),
        };
        let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
        let overflow = overflow.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW);
        Self { diag, source, own, overflow, user: name_of(own) }
    }

    /// Returns the source of owners.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Checks that a client may be served. `client` is this end of its connection.
    ///
    /// # Errors
    /// The client belongs to another user, or its owner is unknown.
    pub fn check(&self, client: impl AsFd) -> Result<(), Refused> {
        let refused = |why| Refused { user: self.user.clone(), why };
        match self.owner(client.as_fd()) {
            Ok(user) if user == self.own || user == ROOT => Ok(()),
            Ok(_) => Err(refused(None)),
            Err(why) => Err(refused(Some(why))),
        }
    }

    /// Returns the user that owns the other end of a connection. `client` is this end.
    ///
    /// # Errors
    /// The owner is unknown.
    pub fn owner(&self, client: impl AsFd) -> Result<u32, Unknown> {
        let client = client.as_fd();
        let address = |address: rustix::net::SocketAddrAny| SocketAddr::try_from(address).ok();
        let peer = || rustix::net::getpeername(client).ok().flatten().and_then(address);
        let own = rustix::net::getsockname(client).ok().and_then(address);
        let (Some(local), Some(remote)) = (peer(), own) else { return Err(Unknown::NotFound) };
        let found = self.find(Pair::new(local, remote)).map_err(Unknown::System)?;
        let found = found.filter(|found| found.is_connected() && found.inode != 0);
        let found = found.filter(|_| peer() == Some(local)).ok_or(Unknown::NotFound)?;
        let is_ambiguous = found.user == self.overflow && self.own == self.overflow;
        if is_ambiguous { Err(Unknown::Overflow(found.user)) } else { Ok(found.user) }
    }

    fn find(&self, pair: Pair) -> Result<Option<Found>, Errno> {
        if let Some(diag) = &self.diag
            && let Ok(found) = unpoisoned(diag).find(pair)
        {
            return Ok(found);
        }
        proc_net::find(pair)
    }
}

const ROOT: u32 = 0;
/// The overflow user if /proc does not show it.
const OVERFLOW: u32 = 65534;

/// Returns a user's name from /etc/passwd, or its number. It does not use name services, which may be slow.
fn name_of(user: u32) -> String {
    let users = std::fs::read("/etc/passwd").unwrap_or_default();
    let named = users.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (std::str::from_utf8(number).ok()?.parse() == Ok(user)).then(|| name.escape_ascii().to_string())
    });
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| user.to_string())
}
