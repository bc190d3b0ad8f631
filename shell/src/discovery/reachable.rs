//! Finds the address at which other machines reach this one, for a server that listens at every address.

use crate::os::netlink::{Netlink, NetlinkError, number};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address families at which a listening socket accepts connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Families {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

/// Returns the address at which other machines reach this one: the source address of the default route, or without such
/// a route the address of a network interface that is up. Returns `None` if there is no such address.
pub(super) fn reachable(families: Families) -> Option<IpAddr> {
    // Addresses for documentation.
    let far = [
        (families.ipv4, IpAddr::from(Ipv4Addr::new(192, 0, 2, 1))),
        (families.ipv6, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let ways_out = far.into_iter().filter(|(wanted, _)| *wanted).find_map(|(_, far)| way_out(far));
    ways_out.or_else(|| Interfaces::read().ok()?.best(families))
}

/// Returns the address from which datagrams to `far` are sent. Connecting such a socket sends nothing. It only reads
/// the routing table.
fn way_out(far: IpAddr) -> Option<IpAddr> {
    let any = if far.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(SocketAddr::new(far, 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

/// Requests for links and addresses, and the types of their replies; see rtnetlink(7).
const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
const GET_ADDRESS: u16 = 22;
const NEW_ADDRESS: u16 = 20;

/// Flags of a link.
const UP: u32 = 1;
const LOOPBACK: u32 = 8;
const RUNNING: u32 = 0x40;

/// An address of a network interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Address {
    interface: u32,
    ip: IpAddr,
    /// The address is valid everywhere, and not only within its own network.
    is_global: bool,
}

/// The network interfaces of this machine.
#[derive(Debug, Default)]
struct Interfaces {
    flags: HashMap<u32, u32>,
    addresses: Vec<Address>,
}

impl Interfaces {
    /// Asks the kernel for them.
    fn read() -> Result<Self, NetlinkError> {
        let mut found = Self::default();
        let mut netlink = Netlink::open(None).map_err(NetlinkError::System)?;
        netlink.list(GET_ADDRESS, &[0; 8], |kind, payload| {
            if kind == NEW_ADDRESS {
                found.addresses.extend(address(payload));
            }
        })?;
        netlink.list(GET_LINK, &[0; 16], |kind, payload| {
            if kind == NEW_LINK {
                found.flags.extend(link(payload));
            }
        })?;
        Ok(found)
    }

    /// The address that others reach most likely.
    fn best(&self, families: Families) -> Option<IpAddr> {
        let flags = |address: &Address| self.flags.get(&address.interface).copied().unwrap_or(0);
        let is_usable = |address: &&Address| {
            let wanted = match address.ip {
                IpAddr::V4(_) => families.ipv4,
                // A link-local IPv6 address needs the name of an interface, and that name differs on other machines.
                IpAddr::V6(_) => families.ipv6 && address.is_global,
            };
            wanted && flags(address) & (UP | LOOPBACK) == UP && !address.ip.is_loopback()
        };
        let rank = |address: &&Address| {
            (flags(address) & RUNNING == 0, !address.is_global, address.ip.is_ipv6(), address.interface)
        };
        self.addresses.iter().filter(is_usable).min_by_key(rank).map(|address| address.ip)
    }
}

/// Reads a link: its number and its flags.
fn link(payload: &[u8]) -> Option<(u32, u32)> {
    Some((number(payload, 4)?, number(payload, 8)?))
}

/// Reads an address. `None`: it is none, or none to be used.
fn address(payload: &[u8]) -> Option<Address> {
    /// Attributes: the address, and for a link between two points that of this end.
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const HEADER: usize = 8;
    /// Flags: the check for duplicates failed, the check is not over, and the address is deprecated.
    const UNUSABLE: u8 = 0x08 | 0x40 | 0x20;
    /// Scopes: valid everywhere, and valid within one network.
    const SCOPES: [u8; 2] = [0, 253];
    let &[family, _, flags, scope] = payload.first_chunk()?;
    let interface = number(payload, 4)?;
    if flags & UNUSABLE != 0 || !SCOPES.contains(&scope) {
        return None;
    }
    let (mut whole, mut local) = (None, None);
    let mut rest = payload.get(HEADER..)?;
    while let Some(&[low, high, kind_low, kind_high]) = rest.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let Some(value) = rest.get(4..length) else { break };
        let ip = match (family, value.len()) {
            (2, 4) => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
            (10, 16) => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
            _ => None,
        };
        match u16::from_ne_bytes([kind_low, kind_high]) {
            ADDRESS => whole = ip,
            LOCAL => local = ip,
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Address { interface, ip: local.or(whole)?, is_global: scope == SCOPES[0] })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Families = Families { ipv4: true, ipv6: true };

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = 4 + value.len() as u16;
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn header(family: u8, flags: u8, scope: u8, interface: u32) -> Vec<u8> {
        [&[family, 24, flags, scope][..], &interface.to_ne_bytes()].concat()
    }

    #[test]
    fn addresses_are_read_exactly_and_any_other_bytes_without_harm() {
        let label = attribute(3, b"eth0\0");
        let peer = attribute(1, &[10, 0, 0, 2]);
        let own = attribute(2, &[10, 0, 0, 1]);
        let whole = [header(2, 0, 0, 7), label, peer.clone(), own].concat();
        let ip = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(address(&whole), Some(Address { interface: 7, ip, is_global: true }));
        for cut in 0..whole.len() {
            assert!(
                address(&whole[..cut]).is_none_or(|address| address.ip == IpAddr::from([10, 0, 0, 2])),
                "{cut}"
            );
        }
        for flags in [0x08, 0x20, 0x40] {
            assert_eq!(address(&[header(2, flags, 0, 7), peer.clone()].concat()), None);
        }
        for (family, scope, value) in
            [(2, 254, &[1; 4][..]), (2, 0, &[1; 3]), (10, 0, &[1; 4]), (3, 0, &[1; 4])]
        {
            assert_eq!(address(&[header(family, 0, scope, 7), attribute(2, value)].concat()), None);
        }
        let mut seed = 1_u64;
        for round in 0..20_000_usize {
            let mut bytes = whole.clone();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 33) as usize % bytes.len();
            bytes[at] = (seed >> 50) as u8;
            bytes.truncate(8 + round % 40);
            let _ = (address(&bytes), link(&bytes));
        }
    }

    #[test]
    fn the_best_address_is_up_and_means_something_elsewhere() {
        let address =
            |interface, ip: &str, is_global| Address { interface, ip: ip.parse().unwrap(), is_global };
        let mut interfaces = Interfaces {
            flags: [(1, UP | RUNNING | LOOPBACK), (2, 0), (3, UP), (4, UP | RUNNING)].into(),
            addresses: vec![
                address(1, "10.0.0.1", true),
                address(2, "10.0.0.2", true),
                address(3, "10.0.0.3", true),
                address(4, "fe80::1", false),
                address(4, "2001:db8::4", true),
                address(4, "10.0.0.4", true),
                address(4, "169.254.1.1", false),
                address(9, "10.0.0.9", true),
            ],
        };
        let mut best = |families| {
            let best = interfaces.best(families);
            interfaces.addresses.retain(|address| Some(address.ip) != best);
            best.map(|ip| ip.to_string())
        };
        let next: Vec<_> = std::iter::from_fn(|| best(BOTH)).collect();
        assert_eq!(next, ["10.0.0.4", "2001:db8::4", "169.254.1.1", "10.0.0.3"]);
    }
}
