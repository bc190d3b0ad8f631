//! The identity of the file that a name or a descriptor leads to.

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;
use rustix::path::Arg;

/// The device and inode numbers of a file. They distinguish it from files that had or will have its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }

    /// Returns the id of the file that has a name now. It does not follow a symbolic link.
    pub(crate) fn at(directory: impl AsFd, name: impl Arg) -> Result<Self, Errno> {
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Self::of(&stat))
    }
}
