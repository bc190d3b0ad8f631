//! Finds the owner of a TCP socket in `/proc/net/tcp` and `tcp6`, the kernel's tables of TCP sockets as text.
//!
//! They hold the same data as `sock_diag`, but a lookup reads the whole table. So this module is used only where netlink is
//! refused.
//!
//! ```text
//!   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
//!    0: 0100007F:2328 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 77 ...
//! ```

use super::{Found, Pair};
use crate::os::error::OsError;
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};

/// The longest line that is parsed.
const MAX_LINE: u64 = 4096;

/// Looks up a socket. Returns `None` if there is no socket with these two addresses.
///
/// # Errors
/// The tables cannot be read.
pub(super) fn find(pair: Pair) -> Result<Option<Found>, Errno> {
    // The second table also holds IPv6 sockets with mapped IPv4 addresses.
    let tables: &[&str] =
        if pair.local.is_ipv4() { &["/proc/net/tcp", "/proc/net/tcp6"] } else { &["/proc/net/tcp6"] };
    // The kernel may skip an entry if earlier entries vanish during the reads. So this reads the tables twice.
    for _ in 0..2 {
        for (number, table) in tables.iter().enumerate() {
            match File::open(table).and_then(|table| scan(BufReader::with_capacity(64 << 10, table), pair)) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                // A kernel without IPv6 has no second table.
                Err(error) if number > 0 && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(OsError::io("read the table", &error).errno()),
            }
        }
    }
    Ok(None)
}

fn scan(mut table: impl BufRead, pair: Pair) -> std::io::Result<Option<Found>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if std::io::Read::take(&mut table, MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if let Some((found_pair, found)) = entry(&line)
            && found_pair == pair
        {
            return Ok(Some(found));
        }
    }
}

/// Parses one line. Returns `None` if it is not an entry.
fn entry(line: &[u8]) -> Option<(Pair, Found)> {
    let line = std::str::from_utf8(line).ok()?;
    let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let &[_, local, remote, state, _, _, _, user, _, inode] = &fields[..] else { return None };
    let state = u8::from_str_radix(state, 16).ok()?;
    let found = Found { state, user: user.parse().ok()?, inode: inode.parse().ok()? };
    Some((Pair::new(address(local)?, address(remote)?), found))
}

/// Parses an address: 32-bit words in the byte order of the machine, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |index: usize| {
        let digits = ip.get(index * 8..index * 8 + 8)?;
        let has_only_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        Some(u32::from_str_radix(has_only_digits.then_some(digits)?, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut octets = [0; 16];
            for (index, bytes) in octets.chunks_mut(4).enumerate() {
                bytes.copy_from_slice(&word(index)?);
            }
            IpAddr::from(octets)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn the_tables_have_the_owner_of_a_connection() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let pair = Pair::new(client.local_addr().unwrap(), client.peer_addr().unwrap());
            let found = find(pair).unwrap().expect(host);
            assert_eq!((found.user, found.state), (rustix::process::geteuid().as_raw(), 1));
            assert_ne!(found.inode, 0);
            drop(client);
            // A child that another test forks just now keeps a copy of the socket for a moment.
            let is_closed = || find(pair).unwrap().is_none_or(|found| found.inode == 0);
            let closes = (0..1000).any(|_| {
                is_closed() || {
                    std::thread::sleep(Duration::from_millis(5));
                    false
                }
            });
            assert!(closes, "{:?}", find(pair));
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_are_parsed_exactly_and_other_text_is_refused() {
        let line = "   0: 0100007F:2328 0200007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 77 1 \
                    ffff 20 4 30 10 -1\n";
        let pair = Pair::new("127.0.0.1:9000".parse().unwrap(), "127.0.0.2:40000".parse().unwrap());
        assert_eq!(entry(line.as_bytes()), Some((pair, Found { state: 1, user: 1000, inode: 77 })));
        let mapped = line.replace("0100007F:2328", "0000000000000000FFFF00000100007F:2328");
        let mapped = mapped.replace("0200007F:9C40", "0000000000000000FFFF00000200007F:9C40");
        assert_eq!(entry(mapped.as_bytes()).unwrap().0, pair);
        let loopback = "00000000000000000000000001000000:2328";
        assert_eq!(address(loopback), Some("[::1]:9000".parse().unwrap()));
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        assert_eq!(entry(heading.as_bytes()), None);
        let whole = &line[..line.find(" 77").unwrap() + 3];
        for cut in 0..whole.len() - 1 {
            assert_eq!(entry(&whole.as_bytes()[..cut]), None, "{cut}");
        }
        for broken in
            ["", ":", "+100007F:2328", "0100007F", "0100007F:12328", "0100007\u{e4}:1", "0:0", "0100007F:"]
        {
            assert_eq!(address(broken), None, "{broken}");
        }
        // The scan finds the line after a line that is too long.
        let long = format!("{}\n{line}", "x".repeat(10_000));
        assert!(scan(long.as_bytes(), pair).unwrap().is_some());
        assert_eq!(scan(&b"\xff\0\n"[..], pair).unwrap(), None);
    }
}
