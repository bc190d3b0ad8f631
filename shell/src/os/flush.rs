//! Learns from the file system whether it has accepted the written bytes.
//!
//! NFS, AFS and many FUSE file systems keep written bytes back until a descriptor is closed. They report a full disk or an
//! exceeded quota only then. The kernel asks such a file system whenever a descriptor is closed, even if it is a duplicate and
//! the original stays open. So closing a duplicate reports the error early, while the file has no name yet and the program can
//! still fail. It does not wait for a disk. On a local file system it costs two short system calls.

use rustix::fd::{AsFd, IntoRawFd};
use rustix::fs::FileType;
use rustix::io::Errno;

/// Passes the bytes that were written to `file` to its file system, as close(2) does, and leaves the file open. Does nothing if
/// the file is a pipe, a terminal or a socket.
///
/// # Errors
/// - The file system's error about bytes that were written before, most often [`Errno::NOSPC`], [`Errno::DQUOT`] or [`Errno::IO`].
/// - [`Errno::MFILE`] if no descriptor is free for the duplicate.
///
/// # Blocking
/// Blocks as long as close(2) does. A network file system sends the bytes that it kept back.
pub(crate) fn flush(file: impl AsFd) -> Result<(), Errno> {
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    loop {
        let duplicate = rustix::io::fcntl_dupfd_cloexec(&file, 0)?.into_raw_fd();
        // SAFETY: the descriptor was created in the line before, and no other code knows its number. `into_raw_fd` has given up
        // the owner, so no code closes it a second time. The kernel frees the number even if it reports an error.
        match unsafe { rustix::io::try_close(duplicate) } {
            Err(Errno::INTR) if crate::os::signal::stop_signal().is_none() => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_flushed_file_stays_open_and_no_duplicate_is_left() {
        let file = tempfile::tempfile().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        // Other tests of this process open and close files, so the test compares the lowest of several counts.
        let least = |calls: usize| {
            (0..50)
                .map(|_| {
                    for _ in 0..calls {
                        flush(&file).unwrap();
                        flush(&writer).unwrap();
                    }
                    count()
                })
                .min()
        };
        let before = least(0).unwrap();
        assert!(least(100).unwrap() < before + 100);
        rustix::io::write(&file, b"text").unwrap();
        rustix::io::write(&writer, b"text").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }
}
