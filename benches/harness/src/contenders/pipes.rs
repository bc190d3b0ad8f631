//! Pipes: one for each receiver. The sender writes every message once into each.

use crate::contender::{Contender, Latency, LatencyCase, Stream, StreamCase, Unavailable, Wait};
use crate::contenders::byte_streams::{ByteStreams, Duplex};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

pub struct Pipes;

impl Contender for Pipes {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        let (mut readers, mut writers) = (Vec::new(), Vec::new());
        for _ in 0..case.receivers {
            let (reader, writer) = pipe()?;
            widen(&writer, case.slots * case.size);
            readers.push(reader);
            writers.push(writer);
        }
        Ok(Stream::Processes(Box::new(ByteStreams { writers, readers, case: *case })))
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        if case.wait == Wait::Spin {
            return Err(Unavailable::cannot("reads sleep"));
        }
        let (there_reader, there_writer) = pipe()?;
        let (back_reader, back_writer) = pipe()?;
        let duplex = Duplex { ping: (there_writer, back_reader), pong: (back_writer, there_reader) };
        Ok(Latency::Processes(Box::new(duplex)))
    }
}

pub fn pipe() -> std::io::Result<(File, File)> {
    let mut fds = [0; 2];
    // SAFETY: two descriptors' worth of writable memory.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: fresh, and owned by no other code.
    let reader = unsafe { File::from_raw_fd(fds[0]) };
    // SAFETY: as above.
    let writer = unsafe { File::from_raw_fd(fds[1]) };
    Ok((reader, writer))
}

/// Gives the pipe room for `bytes` bytes if the system allows it, and never less than the default of 64 KiB. Returns
/// the room in pages.
pub fn widen(pipe: &File, bytes: usize) -> usize {
    const MOST: usize = 1 << 20;
    let wanted = bytes.next_power_of_two().clamp(64 * 1024, MOST) as libc::c_int;
    // SAFETY: a plain call; a refusal leaves the pipe as it was.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, wanted) };
    // SAFETY: a plain call.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) as usize / 4096 }
}
