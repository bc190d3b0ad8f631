//! Requests the owner of a TCP socket from `sock_diag`, by the two addresses of its connection. This is one exact lookup in the
//! kernel's table, and it needs no privilege. See sock_diag(7).
//!
//! ```text
//! request    0 family   1 protocol   2 wanted extras   4 wanted states   8 addresses
//! reply      0 family   1 state   2 timer   4 addresses   52 expiry, queues   64 user   68 inode
//! addresses  0 local port   2 remote port   4 local, 16 bytes   20 remote, 16 bytes   36 interface   40 cookie
//! ```

use super::{Found, Pair};
use crate::os::netlink::{Netlink, NetlinkError, number};
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr};

/// The type of request and reply.
const BY_FAMILY: u16 = 20;
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;
const TCP: u8 = 6;
/// The length of a request in bytes.
const REQUEST: usize = 56;
/// The length of the fixed part of a reply in bytes.
const REPLY: usize = 72;

/// A socket for such requests.
#[derive(Debug)]
pub(super) struct SockDiag(Netlink);

impl SockDiag {
    /// Opens the socket.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn open() -> Result<Self, Errno> {
        Netlink::open(Some(rustix::net::netlink::SOCK_DIAG)).map(Self)
    }

    /// Looks up a socket. Returns `None` if there is no socket with these two addresses.
    ///
    /// # Errors
    /// The request fails.
    pub(super) fn find(&mut self, pair: Pair) -> Result<Option<Found>, NetlinkError> {
        match self.0.request(BY_FAMILY, &request(pair), parse_reply) {
            Ok((found_pair, found)) => Ok((found_pair == pair).then_some(found)),
            Err(NetlinkError::Answered(Errno::NOENT)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether the kernel finds a listening socket. If the socket exists, this shows whether lookups work.
    ///
    /// # Errors
    /// The request fails.
    pub(super) fn find_listener(&mut self, address: SocketAddr) -> Result<bool, NetlinkError> {
        let none = SocketAddr::new(if address.is_ipv4() { NO_IPV4 } else { NO_IPV6 }, 0);
        let found = self.find(Pair { local: address, remote: none })?;
        Ok(found.is_some_and(|found| found.inode != 0))
    }
}

const NO_IPV4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
const NO_IPV6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

fn request(Pair { local, remote }: Pair) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0] = if local.is_ipv4() { FAMILY_IPV4 } else { FAMILY_IPV6 };
    bytes[1] = TCP;
    bytes[4..8].fill(0xff); // any state
    for (address, port, at) in [(local, 8, 12), (remote, 10, 28)] {
        bytes[port..port + 2].copy_from_slice(&address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => bytes[at..at + 4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes[at..at + 16].copy_from_slice(&ip.octets()),
        }
    }
    bytes[48..56].fill(0xff); // any cookie
    bytes
}

/// Parses a reply: the addresses of the socket, and what the kernel knows about it. Returns `None` if the bytes are not a reply.
/// The caller compares the addresses, because the kernel may reply with a listening socket.
fn parse_reply(bytes: &[u8]) -> Option<(Pair, Found)> {
    let bytes: &[u8; REPLY] = bytes.first_chunk()?;
    let address = |port: usize, at: usize| {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        let ip = match bytes[0] {
            FAMILY_IPV4 => IpAddr::from(*octets.first_chunk::<4>()?),
            FAMILY_IPV6 => IpAddr::from(octets),
            _ => return None,
        };
        let port = u16::from_be_bytes(bytes.get(port..port + 2)?.try_into().ok()?);
        Some(SocketAddr::new(ip, port))
    };
    let pair = Pair::new(address(4, 8)?, address(6, 24)?);
    let found = Found { state: bytes[1], user: number(bytes, 64)?, inode: number(bytes, 68)?.into() };
    Some((pair, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn pair(local: &str, remote: &str) -> Pair {
        Pair::new(local.parse().unwrap(), remote.parse().unwrap())
    }

    /// Builds a reply as the kernel does.
    fn reply(family: u8, state: u8, pair: Pair, user: u32, inode: u32) -> [u8; REPLY] {
        let mut bytes = [0; REPLY];
        let requested = request(pair);
        (bytes[0], bytes[1]) = (family, state);
        bytes[4..52].copy_from_slice(&requested[8..56]);
        bytes[64..68].copy_from_slice(&user.to_ne_bytes());
        bytes[68..72].copy_from_slice(&inode.to_ne_bytes());
        bytes
    }

    #[test]
    fn replies_are_parsed_exactly_and_other_bytes_are_refused() {
        let requested = pair("127.0.0.1:40000", "127.0.0.1:9000");
        let whole = reply(FAMILY_IPV4, 1, requested, 1000, 77);
        let found = Found { state: 1, user: 1000, inode: 77 };
        assert_eq!(parse_reply(&whole), Some((requested, found)));
        for cut in 0..REPLY {
            assert_eq!(parse_reply(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(
            parse_reply(&[&whole[..], &[0xff; 40]].concat()),
            Some((requested, found)),
            "extras are ignored"
        );
        for family in (0..=255).filter(|family| ![FAMILY_IPV4, FAMILY_IPV6].contains(family)) {
            assert_eq!(parse_reply(&reply(family, 1, requested, 0, 1)), None, "family {family}");
        }
        for byte in 4..44 {
            let mut other = whole;
            other[byte] ^= 1;
            let ignored = (12..24).contains(&byte) || (28..44).contains(&byte);
            assert_eq!(
                parse_reply(&other).is_some_and(|(pair, _)| pair == requested),
                ignored,
                "byte {byte}"
            );
        }
        let six = pair("[::1]:40000", "[::1]:9000");
        assert_eq!(parse_reply(&reply(FAMILY_IPV6, 4, six, 0, 9)).unwrap().0, six);
    }

    #[test]
    fn addresses_of_ipv4_within_ipv6_are_the_same() {
        let mapped = pair("[::ffff:127.0.0.1]:40000", "[::ffff:127.0.0.1]:9000");
        assert_eq!(mapped, pair("127.0.0.1:40000", "127.0.0.1:9000"));
        assert_eq!(request(mapped)[0], FAMILY_IPV4);
    }

    #[test]
    fn a_listening_socket_does_not_count_as_a_connection() {
        let mut diag = SockDiag::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let none = Pair::new(address, "127.0.0.1:9".parse().unwrap());
        // The kernel replies with the listener. Its owner has no relation to a connection from its port.
        let replied = diag.0.request(BY_FAMILY, &request(none), parse_reply);
        assert_eq!(replied.unwrap().0, Pair::new(address, "0.0.0.0:0".parse().unwrap()));
        assert_eq!(diag.find(none), Ok(None));
        let client = TcpStream::connect(address).unwrap();
        let found = diag.find(Pair::new(client.local_addr().unwrap(), address)).unwrap().unwrap();
        assert_eq!((found.user, found.state), (rustix::process::geteuid().as_raw(), 1));
        assert_ne!(found.inode, 0);
    }
}
