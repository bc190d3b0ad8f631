//! Asks `sock_diag` for the owner of a TCP socket, by the two addresses of its connection. This is one exact lookup in the
//! kernel's table and needs no privilege; see sock_diag(7).
//!
//! ```text
//! question   0 family   1 protocol   2 wanted extras   4 wanted states   8 addresses
//! answer     0 family   1 state   2 timer   4 addresses   52 expiry, queues   64 user   68 inode
//! addresses  0 local port   2 remote port   4 local, 16 bytes   20 remote, 16 bytes   36 interface   40 cookie
//! ```

use super::{Found, Pair};
use crate::os::netlink::{Netlink, NetlinkError, number};
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr};

/// The type of question and answer.
const BY_FAMILY: u16 = 20;
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;
const TCP: u8 = 6;
/// Bytes of a question, and of the part of an answer that is always there.
const QUESTION: usize = 56;
const ANSWER: usize = 72;

/// A socket for such questions.
#[derive(Debug)]
pub struct SockDiag(Netlink);

impl SockDiag {
    /// Opens it.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open() -> Result<Self, Errno> {
        Netlink::open(Some(rustix::net::netlink::SOCK_DIAG)).map(Self)
    }

    /// Looks up a socket. `None`: there is none with these two addresses.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn find(&mut self, pair: Pair) -> Result<Option<Found>, NetlinkError> {
        match self.0.ask(BY_FAMILY, &question(pair), answer) {
            Ok((of, found)) => Ok((of == pair).then_some(found)),
            Err(NetlinkError::Answered(Errno::NOENT)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl SockDiag {
    /// Whether a listening socket is found, which tells whether the kernel can answer at all.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn find_listener(&mut self, address: SocketAddr) -> Result<bool, NetlinkError> {
        let none = SocketAddr::new(if address.is_ipv4() { NO_IPV4 } else { NO_IPV6 }, 0);
        let found = self.find(Pair { local: address, remote: none })?;
        Ok(found.is_some_and(|found| found.inode != 0))
    }
}

const NO_IPV4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
const NO_IPV6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

fn question(Pair { local, remote }: Pair) -> [u8; QUESTION] {
    let mut bytes = [0; QUESTION];
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

/// Reads an answer: the addresses of the socket, and what the kernel says about it. Returns `None` if the bytes are not an
/// answer. The caller compares the addresses, because the kernel may answer with a listening socket.
fn answer(bytes: &[u8]) -> Option<(Pair, Found)> {
    let bytes: &[u8; ANSWER] = bytes.first_chunk()?;
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

    /// What the kernel would answer.
    fn answered(family: u8, state: u8, pair: Pair, user: u32, inode: u32) -> [u8; ANSWER] {
        let mut bytes = [0; ANSWER];
        let asked = question(pair);
        (bytes[0], bytes[1]) = (family, state);
        bytes[4..52].copy_from_slice(&asked[8..56]);
        bytes[64..68].copy_from_slice(&user.to_ne_bytes());
        bytes[68..72].copy_from_slice(&inode.to_ne_bytes());
        bytes
    }

    #[test]
    fn answers_are_read_exactly_and_any_other_bytes_without_harm() {
        let asked = pair("127.0.0.1:40000", "127.0.0.1:9000");
        let whole = answered(FAMILY_IPV4, 1, asked, 1000, 77);
        let found = Found { state: 1, user: 1000, inode: 77 };
        assert_eq!(answer(&whole), Some((asked, found)));
        for cut in 0..ANSWER {
            assert_eq!(answer(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(answer(&[&whole[..], &[0xff; 40]].concat()), Some((asked, found)), "extras are ignored");
        for family in (0..=255).filter(|family| ![FAMILY_IPV4, FAMILY_IPV6].contains(family)) {
            assert_eq!(answer(&answered(family, 1, asked, 0, 1)), None, "family {family}");
        }
        for byte in 4..44 {
            let mut other = whole;
            other[byte] ^= 1;
            let ignored = (12..24).contains(&byte) || (28..44).contains(&byte);
            assert_eq!(answer(&other).is_some_and(|(pair, _)| pair == asked), ignored, "byte {byte}");
        }
        let six = pair("[::1]:40000", "[::1]:9000");
        assert_eq!(answer(&answered(FAMILY_IPV6, 4, six, 0, 9)).unwrap().0, six);
    }

    #[test]
    fn addresses_of_ipv4_within_ipv6_are_the_same() {
        let mapped = pair("[::ffff:127.0.0.1]:40000", "[::ffff:127.0.0.1]:9000");
        assert_eq!(mapped, pair("127.0.0.1:40000", "127.0.0.1:9000"));
        assert_eq!(question(mapped)[0], FAMILY_IPV4);
    }

    #[test]
    fn a_listening_socket_is_no_answer_to_the_question_for_a_connection() {
        let mut diag = SockDiag::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // The kernel answers with the listener, whose owner has nothing to do with a connection from its port.
        let answered =
            diag.0.ask(BY_FAMILY, &question(Pair::new(address, "127.0.0.1:9".parse().unwrap())), answer);
        assert_eq!(answered.unwrap().0, Pair::new(address, "0.0.0.0:0".parse().unwrap()));
        assert_eq!(diag.find(Pair::new(address, "127.0.0.1:9".parse().unwrap())), Ok(None));
        let client = TcpStream::connect(address).unwrap();
        let found = diag.find(Pair::new(client.local_addr().unwrap(), address)).unwrap().unwrap();
        assert_eq!((found.user, found.state), (rustix::process::geteuid().as_raw(), 1));
        assert_ne!(found.inode, 0);
    }
}
