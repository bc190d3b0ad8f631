//! Netlink: requests to the kernel over a socket.
//!
//! A message is a header of 16 bytes and a payload, both in the byte order of the machine. One datagram may hold several messages.
//!
//! ```text
//! 0 length, header included   4 type   6 flags   8 sequence   12 port   16 payload, padded to a multiple of 4
//! ```

use crate::os::close_on_fork::CloseOnForkFd;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The length of a header in bytes.
const HEADER: usize = 16;
/// The length of the longest datagram in bytes, which is the kernel's own limit.
const MAX_DATAGRAM: usize = 32 << 10;
/// The most datagrams that are read for one reply.
const MAX_DATAGRAMS: usize = 1024;

/// The type of a reply that is an error, or that confirms a request.
const ERROR: u16 = 2;
/// The type of the message that ends a list.
const DONE: u16 = 3;
/// The flag of a request.
const REQUEST: u16 = 1;
/// The flags of a request for a list.
const DUMP: u16 = 0x300;

/// A received message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message<'a> {
    /// The type.
    pub kind: u16,
    /// The sequence number of the request that this message replies to.
    pub sequence: u32,
    /// The bytes after the header.
    pub payload: &'a [u8],
}

/// Why a request has no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NetlinkError {
    /// The kernel replied with an error.
    Answered(Errno),
    /// A system call on the socket failed.
    System(Errno),
    /// The reply is malformed.
    Malformed,
}

/// Parses the first message of a datagram. Returns it and the rest of the datagram, or `None` if there is no complete message.
pub(crate) fn first(datagram: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let header = datagram.get(..HEADER)?;
    let length = usize::try_from(number(header, 0)?).ok()?;
    let payload = datagram.get(HEADER..length)?;
    let kind = u16::from_ne_bytes(header.get(4..6)?.try_into().ok()?);
    let rest = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Message { kind, sequence: number(header, 8)?, payload }, rest))
}

/// Returns the 32-bit number at an offset, or `None` if `bytes` ends before it.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A netlink socket that is connected to the kernel, so that no process can reply in the kernel's place.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: CloseOnForkFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket for a protocol. `None` means the protocol of routes and addresses.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn open(protocol: Option<Protocol>) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let open = || rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol);
        let socket = CloseOnForkFd::open(open)?;
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; MAX_DATAGRAM] })
    }

    /// Sends a request. Returns the value that `parse` finds in the payload of the reply.
    ///
    /// The kernel replies within the send call, so this function does not wait.
    ///
    /// # Errors
    /// There is no reply, or `parse` returns `None`.
    pub(crate) fn request<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, NetlinkError> {
        let sequence = self.send(kind, REQUEST, payload)?;
        for _ in 0..MAX_DATAGRAMS {
            let mut datagram = self.receive()?;
            while let Some((message, rest)) = first(datagram) {
                datagram = rest;
                if message.sequence != sequence {
                    continue; // the reply to an earlier request that has failed
                }
                return match message.kind {
                    ERROR => Err(error_of(message.payload)),
                    found if found == kind => parse(message.payload).ok_or(NetlinkError::Malformed),
                    _ => Err(NetlinkError::Malformed),
                };
            }
        }
        Err(NetlinkError::Malformed)
    }

    /// Requests a list, and passes the type and payload of each entry to `each`.
    ///
    /// # Errors
    /// There is no reply, or the list does not end.
    pub(crate) fn list(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), NetlinkError> {
        let sequence = self.send(kind, REQUEST | DUMP, payload)?;
        for _ in 0..MAX_DATAGRAMS {
            let mut datagram = self.receive()?;
            while let Some((message, rest)) = first(datagram) {
                datagram = rest;
                match message.kind {
                    _ if message.sequence != sequence => {}
                    DONE => return Ok(()),
                    ERROR => return Err(error_of(message.payload)),
                    kind => each(kind, message.payload),
                }
            }
        }
        Err(NetlinkError::Malformed)
    }

    fn send(&mut self, kind: u16, flags: u16, payload: &[u8]) -> Result<u32, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = (HEADER + payload.len()) as u32;
        let mut message = Vec::with_capacity(HEADER + payload.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0_u32.to_ne_bytes());
        message.extend_from_slice(payload);
        loop {
            match rustix::net::send(&self.socket, &message, SendFlags::empty()) {
                Ok(_) => return Ok(self.sequence),
                Err(Errno::INTR) => {}
                Err(error) => return Err(NetlinkError::System(error)),
            }
        }
    }

    fn receive(&mut self) -> Result<&[u8], NetlinkError> {
        loop {
            match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((count, _)) => return Ok(&self.buffer[..count.min(MAX_DATAGRAM)]),
                Err(Errno::INTR) => {}
                Err(error) => return Err(NetlinkError::System(error)),
            }
        }
    }
}

/// Parses a reply of the type [`ERROR`]. It holds a negative error number. Or it holds 0 as a confirmation, which no request of
/// this module asks for.
fn error_of(payload: &[u8]) -> NetlinkError {
    let code = number(payload, 0).map_or(0, u32::cast_signed);
    match code.checked_neg() {
        Some(code @ 1..4096) => NetlinkError::Answered(Errno::from_raw_os_error(code)),
        _ => NetlinkError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_give_no_message_or_messages_within_them() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..20_000_usize {
            let mut bytes = vec![0; round % 80];
            for byte in &mut bytes {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                *byte = (seed >> 32) as u8;
            }
            if let Some(length) = bytes.first_chunk_mut::<4>()
                && round % 3 > 0
            {
                *length = ((seed >> 40) as u32 % 100).to_ne_bytes();
            }
            let mut datagram = &bytes[..];
            let mut count = 0;
            while let Some((message, rest)) = first(datagram) {
                assert!(rest.len() + HEADER + message.payload.len() <= datagram.len());
                datagram = rest;
                count += 1;
            }
            assert!(count <= bytes.len() / HEADER);
        }
        // A length that does not cover its own header, or wraps.
        for length in [0, 1, 15, 17, u32::MAX, u32::MAX - 3] {
            let mut bytes = [0; HEADER];
            bytes[..4].copy_from_slice(&u32::to_ne_bytes(length));
            assert_eq!(first(&bytes), None, "{length}");
        }
    }

    #[test]
    fn errors_are_error_numbers_or_malformed() {
        assert_eq!(error_of(&(-2_i32).to_ne_bytes()), NetlinkError::Answered(Errno::NOENT));
        for code in [0, 1, -4096, i32::MIN, i32::MAX] {
            assert_eq!(error_of(&i32::to_ne_bytes(code)), NetlinkError::Malformed, "{code}");
        }
        assert_eq!(error_of(&[0xff; 3]), NetlinkError::Malformed);
    }
}
