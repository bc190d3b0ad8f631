//! Asking the file system whether it has taken what was written.
//!
//! NFS, AFS and many FUSE file systems keep written bytes back until a descriptor is closed. They report a full disk or an
//! exceeded quota only then. The kernel asks such a file system for each descriptor that is closed, also for a duplicate
//! whose original stays open. So closing a duplicate tells early, while the file has no name yet and the program can still
//! fail. It waits for no disk, and on a local file system it costs two short system calls.

use rustix::fd::{AsFd, IntoRawFd};
use rustix::fs::FileType;
use rustix::io::Errno;

/// Passes what was written to `file` on to its file system, as closing it would, and leaves it open. Where the file is a
/// pipe, a terminal or a socket, there is nothing to pass on.
///
/// # Errors
/// What the file system says about bytes that were written before: most often [`Errno::NOSPC`], [`Errno::DQUOT`] or
/// [`Errno::IO`]. [`Errno::MFILE`] if no descriptor is left for the duplicate.
///
/// # Blocking
/// As long as close(2) would: a network file system sends what it kept back.
pub fn flush(file: impl AsFd) -> Result<(), Errno> {
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    loop {
        let duplicate = rustix::io::fcntl_dupfd_cloexec(&file, 0)?.into_raw_fd();
        // SAFETY: The descriptor was made in the line before, and nothing else knows its number. `into_raw_fd` has given up
        // its owner, so nothing closes it a second time; the kernel frees the number also when it reports an error.
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
    fn what_is_flushed_stays_open_and_no_descriptor_is_left() {
        let file = tempfile::tempfile().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        // Other tests of this process open and close files, so the least of several counts is compared.
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
