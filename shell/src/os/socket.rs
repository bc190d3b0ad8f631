//! Unix sockets: messages that carry descriptors, the credentials of the peer, and the number of unread bytes.

use super::close_on_fork::{CloseOnForkFd, ForkLock};
use super::error::last_error;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, recvmsg, sendmsg,
};
use std::mem::MaybeUninit;

/// The most descriptors in one message.
pub const MAX_DESCRIPTORS: usize = 4;

/// Sends `bytes` with `descriptors` attached to the first byte. Returns how many bytes the kernel has taken.
///
/// # Errors
/// The kernel's error.
///
/// # Blocking
/// Blocks if the socket is a blocking one and its buffer is full.
///
/// # Panics
/// Panics if there are more than [`MAX_DESCRIPTORS`] descriptors.
pub fn send_with_descriptors(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "too many descriptors");
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Receives at most `buffer.len()` bytes without waiting, and returns their number. 0 means that the peer has closed the
/// connection. The kernel closes the descriptors that come with the bytes.
///
/// # Errors
/// The kernel's error. It is `EAGAIN` if there are no bytes to receive.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::recv(&socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            other => return other.map(|(count, _)| count),
        }
    }
}

/// Receives at most `buffer.len()` bytes and their descriptors, without waiting.
///
/// Returns the number of bytes, and the descriptors. 0 bytes mean that the peer has closed the connection. An executed program and
/// a forked child do not inherit the descriptors.
///
/// # Errors
/// - `EAGAIN` if there are no bytes to receive.
/// - `EMSGSIZE` if the message has more than [`MAX_DESCRIPTORS`] descriptors. All of them are closed.
/// - Another error of the kernel.
pub fn receive_with_descriptors(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(usize, Vec<CloseOnForkFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut descriptors = Vec::with_capacity(MAX_DESCRIPTORS);
    // Declared after `descriptors`, so it is dropped first. Dropping a descriptor under this lock would deadlock.
    let mut fork_lock = ForkLock::begin(MAX_DESCRIPTORS)?;
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let arrived = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(received) => Some(received),
        _ => None,
    });
    for descriptor in arrived.flatten() {
        descriptors.push(fork_lock.keep(descriptor)?);
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok((received.bytes, descriptors))
}

/// The most bytes of a rejected client that are discarded.
pub(crate) const MAX_DISCARD: usize = 64 << 10;

/// Sends a last line, and closes this side's half of the connection. Bytes that the socket does not accept at once are
/// not sent.
pub(crate) fn send_last(socket: impl AsFd, line: &[u8]) {
    let _ = rustix::net::send(&socket, line, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    let _ = rustix::net::shutdown(&socket, Shutdown::Write);
}

/// Discards what a peer has sent, `left` bytes at most. Returns `false` if the peer has gone, or has sent more.
///
/// If a socket is closed with unread input, the kernel drops a last line that the peer has not read yet.
pub(crate) fn discard(socket: impl AsFd, left: &mut usize) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match receive(&socket, &mut bytes) {
            Ok(count) if count > 0 && count < *left => *left -= count,
            Err(Errno::AGAIN) => return true,
            Ok(_) | Err(_) => return false,
        }
    }
}

/// Sends a client one line, if its socket must be closed at once.
pub(crate) fn cancel(socket: impl AsFd, line: &[u8]) {
    send_last(&socket, line);
    discard(&socket, &mut { MAX_DISCARD });
}

/// The process that has connected or created the other end of a unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its process id in this process's pid namespace, or 0 if it has none there.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
}

/// Returns the credentials that the peer of a unix socket had when the connection was made.
///
/// # Errors
/// The kernel's error.
pub fn peer_credentials(socket: impl AsFd) -> Result<Peer, Errno> {
    // The type that rustix returns cannot hold pid 0, which a process of another namespace has.
    // SAFETY: `ucred` consists of integers, for which zero is a valid value.
    let mut credentials: libc::ucred = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let (socket, to) = (socket.as_fd().as_raw_fd(), (&raw mut credentials).cast());
    // SAFETY: the call writes at most `length` bytes to `credentials` and the new length to `length`. Both live through the call.
    let result =
        unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, to, &raw mut length) };
    if result == -1 {
        return Err(last_error());
    }
    Ok(Peer { pid: credentials.pid.try_into().unwrap_or(0), uid: credentials.uid })
}

/// Returns how much of the sent data the peer of a unix stream socket has not read yet.
///
/// The kernel counts the memory that it uses for the data, not the bytes. So a caller can only use whether the number is 0, and
/// whether it changes.
///
/// # Errors
/// The kernel's error.
pub fn unread(socket: impl AsFd) -> Result<u32, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: the call writes one integer to `count`, which lives through it.
    match unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) } {
        -1 => Err(last_error()),
        _ => Ok(count.try_into().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_and_works() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        assert_eq!(send_with_descriptors(&here, b"hi", &[writer.as_fd()]), Ok(2));
        drop((here, writer));
        let mut buffer = [0; 8];
        let (count, mut descriptors) = receive_with_descriptors(&there, &mut buffer).unwrap();
        assert_eq!((&buffer[..count], descriptors.len()), (&b"hi"[..], 1));
        std::fs::File::from(descriptors.remove(0).share()).write_all(b"text").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert_eq!(receive_with_descriptors(&there, &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn peer_credentials_are_those_of_the_other_end() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = peer_credentials(&here).unwrap();
        assert_eq!(peer, Peer { pid: std::process::id(), uid: rustix::process::geteuid().as_raw() });
    }

    #[test]
    fn unread_is_zero_once_the_peer_has_read_all_bytes() {
        let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(unread(&here), Ok(0));
        here.write_all(b"text").unwrap();
        assert!(unread(&here).unwrap() > 0);
        there.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(unread(&here), Ok(0));
    }
}
