//! Messages over a unix socket that carry descriptors.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
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

/// Receives at most `buffer` bytes, and the descriptors that came with them, all of them close-on-exec. 0 bytes: the other
/// side has gone.
///
/// # Blocking
/// As the socket does.
///
/// # Errors
/// What the kernel said; `EMSGSIZE` if more descriptors came than [`MAX_DESCRIPTORS`]: all are closed then.
pub fn receive_with_descriptors(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok((received.bytes, descriptors))
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
        std::fs::File::from(descriptors.remove(0)).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert_eq!(receive_with_descriptors(&there, &mut buffer).unwrap().0, 0);
    }
}
