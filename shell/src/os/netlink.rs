//! Netlink: questions to the kernel over a socket. A message is a header of 16 bytes and a payload, both in the byte order
//! of the machine; several may lie in one datagram.
//!
//! ```text
//! 0 length, header included   4 type   6 flags   8 sequence   12 port   16 payload, padded to a multiple of 4
//! ```

use crate::os::close_on_fork::CloseOnForkFd;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Bytes of a header.
const HEADER: usize = 16;
/// The most bytes of one datagram that are read: the kernel's own limit.
const DATAGRAM: usize = 32 << 10;
/// The most datagrams that are read for one answer.
const DATAGRAMS: usize = 1024;

/// The answer is an error, or the confirmation of a request.
const ERROR: u16 = 2;
/// The end of a list.
const DONE: u16 = 3;
/// A message is a question.
const REQUEST: u16 = 1;
/// The answer is a list.
const DUMP: u16 = 0x300;

/// A message as it was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// What kind it is.
    pub kind: u16,
    /// Which question it answers.
    pub sequence: u32,
    /// The rest.
    pub payload: &'a [u8],
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetlinkError {
    /// The kernel's answer is an error.
    Answered(Errno),
    /// There is no such socket, or it does not work.
    System(Errno),
    /// The answer does not say what it should.
    Malformed,
}

/// Reads the first message of a datagram; returns it and what is left of the datagram.
/// `None`: there is no whole message.
pub fn first(datagram: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let header = datagram.get(..HEADER)?;
    let length = usize::try_from(number(header, 0)?).ok()?;
    let payload = datagram.get(HEADER..length)?;
    let kind = u16::from_ne_bytes(header.get(4..6)?.try_into().ok()?);
    let rest = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Message { kind, sequence: number(header, 8)?, payload }, rest))
}

/// The number of 32 bits at an offset.
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A netlink socket that is connected to the kernel, so that no process can answer in its place.
#[derive(Debug)]
pub struct Netlink {
    socket: CloseOnForkFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens one; without a protocol it is the one of routes and addresses.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open(protocol: Option<Protocol>) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let open = || rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol);
        let socket = CloseOnForkFd::open(open)?;
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; DATAGRAM] })
    }

    /// Asks, and returns what `read` makes of the payload of the one answer.
    ///
    /// The kernel answers while it is asked, so this does not wait.
    ///
    /// # Errors
    /// There is no answer, or `read` returns `None`.
    pub fn ask<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, NetlinkError> {
        let sequence = self.send(kind, REQUEST, payload)?;
        for _ in 0..DATAGRAMS {
            let mut rest = self.receive()?;
            while let Some((message, behind)) = first(rest) {
                rest = behind;
                if message.sequence != sequence {
                    continue; // the answer to a question that was given up
                }
                return match message.kind {
                    ERROR => Err(error_of(message.payload)),
                    kind_of if kind_of == kind => read(message.payload).ok_or(NetlinkError::Malformed),
                    _ => Err(NetlinkError::Malformed),
                };
            }
        }
        Err(NetlinkError::Malformed)
    }

    /// Asks for a list, and gives each entry's type and payload to `each`.
    ///
    /// # Errors
    /// There is no answer, or it has no end.
    pub fn list(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), NetlinkError> {
        let sequence = self.send(kind, REQUEST | DUMP, payload)?;
        for _ in 0..DATAGRAMS {
            let mut rest = self.receive()?;
            while let Some((message, behind)) = first(rest) {
                rest = behind;
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
                Ok((count, _)) => return Ok(&self.buffer[..count.min(DATAGRAM)]),
                Err(Errno::INTR) => {}
                Err(error) => return Err(NetlinkError::System(error)),
            }
        }
    }
}

/// What an answer of the kind [`ERROR`] says: a negative error number, or 0, which answers no question of ours.
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
    fn any_bytes_are_messages_that_lie_within_them_or_none() {
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
            let mut rest = &bytes[..];
            let mut steps = 0;
            while let Some((message, behind)) = first(rest) {
                assert!(behind.len() + HEADER + message.payload.len() <= rest.len());
                rest = behind;
                steps += 1;
            }
            assert!(steps <= bytes.len() / HEADER);
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
