//! Unix sockets: messages that carry descriptors, who is at the other end, and what was not read yet.

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

/// Sends `bytes` with `descriptors` attached to the first of them. Returns how many bytes were taken.
///
/// # Blocking
/// As the socket does.
///
/// # Errors
/// What the kernel said.
///
/// # Panics
/// With more than [`MAX_DESCRIPTORS`].
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

/// Receives at most `buffer` bytes, if they are there. 0 bytes: the other side has gone. Descriptors that came with them are
/// closed.
///
/// # Errors
/// What the kernel said; `EAGAIN` if nothing is there.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::recv(&socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            other => return other.map(|(count, _)| count),
        }
    }
}

/// Receives at most `buffer` bytes, if they are there, and the descriptors that came with them, all of them close-on-exec and
/// kept from forked children. 0 bytes: the other side has gone.
///
/// # Errors
/// What the kernel said; `EAGAIN` if nothing is there; `EMSGSIZE` if more descriptors came than [`MAX_DESCRIPTORS`]: all are
/// closed then.
pub fn receive_with_descriptors(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(usize, Vec<CloseOnForkFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut descriptors = Vec::with_capacity(MAX_DESCRIPTORS);
    // Declared after `descriptors`, so that it has ended when they are dropped.
    let mut forks_wait = ForkLock::begin(MAX_DESCRIPTORS)?;
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let arrived = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(some) => Some(some),
        _ => None,
    });
    for descriptor in arrived.flatten() {
        descriptors.push(forks_wait.keep(descriptor)?);
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok((received.bytes, descriptors))
}

/// The most bytes of a client that is sent away that are discarded.
pub(crate) const MAX_DISCARD: usize = 64 << 10;

/// Sends a last line, and closes this side's half of the connection. What the socket does not take at once is not sent.
pub(crate) fn send_last(socket: impl AsFd, line: &[u8]) {
    let _ = rustix::net::send(&socket, line, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    let _ = rustix::net::shutdown(&socket, Shutdown::Write);
}

/// Discards what a peer has sent, `left` bytes at most. Returns `false` if the peer has gone, or has sent more.
///
/// The kernel takes a last line back from a peer that has not read it yet, if the socket is closed with unread input.
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

/// Sends a client away with one line, where its socket must be closed at once.
pub(crate) fn cancel(socket: impl AsFd, line: &[u8]) {
    send_last(&socket, line);
    discard(&socket, &mut { MAX_DISCARD });
}

/// Who is at the other end of a unix socket, as the kernel saw it when the connection was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its process id in our namespace; 0 if it has none there.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

/// Asks who is at the other end of a unix socket.
///
/// # Errors
/// What the kernel said.
pub fn peer_credentials(socket: impl AsFd) -> Result<Peer, Errno> {
    // Not rustix's: a process of another namespace has pid 0, which its type cannot hold.
    // SAFETY: `ucred` is plain integers, for which zero is a value.
    let mut found: libc::ucred = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let (socket, to) = (socket.as_fd().as_raw_fd(), (&raw mut found).cast());
    // SAFETY: writes at most `length` bytes to `found`, which lives through the call.
    let result =
        unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, to, &raw mut length) };
    if result == -1 {
        return Err(last_error());
    }
    Ok(Peer { pid: found.pid.try_into().unwrap_or(0), uid: found.uid })
}

/// How much of what was sent through a unix stream socket lies unread at its other end: as the kernel counts memory, so
/// only 0, and whether it changes, mean something.
///
/// # Errors
/// What the kernel said.
pub fn unread(socket: impl AsFd) -> Result<u32, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: writes one integer to `count`, which lives through the call.
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
        std::fs::File::from(descriptors.remove(0).share()).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert_eq!(receive_with_descriptors(&there, &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn the_kernel_says_who_is_at_the_other_end() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = peer_credentials(&here).unwrap();
        assert_eq!(peer, Peer { pid: std::process::id(), uid: rustix::process::geteuid().as_raw() });
    }

    #[test]
    fn the_kernel_says_whether_everything_was_read() {
        let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(unread(&here), Ok(0));
        here.write_all(b"text").unwrap();
        assert!(unread(&here).unwrap() > 0);
        there.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(unread(&here), Ok(0));
    }
}
