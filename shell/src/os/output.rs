//! Finds out what an output path leads to, before the program creates or replaces a file.
//!
//! The kernel follows the links in the directories of a path. This module follows the last name itself, link by link. Two kinds of
//! links must not count as names of files: a link to an open descriptor (`/dev/stdout`, `/proc/self/fd/1`), and a link that
//! another user planted.

use crate::os::file_id::FileId;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The most links that are followed, which is the kernel's own limit.
const MAX_LINKS: usize = 40;
/// The type that statfs(2) reports for a proc file system.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Output {
    /// A regular file, a free name, or links to either. A new file can take the name.
    Name,
    /// A directory.
    Directory,
    /// A device, a FIFO or a socket, opened with `O_PATH`.
    Special(OwnedFd),
    /// An open descriptor.
    Descriptor(Descriptor),
}

/// An open descriptor of a process, to which a link of a proc file system leads.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// The file of the descriptor, opened with `O_PATH`.
    pub file: OwnedFd,
    /// The number of the descriptor, if it is one of this process.
    number: Option<i32>,
}

/// Why a path cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum OutputError {
    /// Another user could have planted the file.
    #[error(
        "it belongs to another user, in a directory that others may write; remove it or choose another name"
    )]
    Planted,
    /// The new file would replace a device, FIFO or socket.
    #[error("a device, FIFO or socket has this name and is not replaced; choose another name")]
    Special,
    /// The new file would replace a link to an open descriptor.
    #[error("this name leads to an open descriptor and is not replaced; choose another name")]
    Descriptor,
    /// A system call failed.
    #[error("{}", crate::os::error::reason(*.0))]
    System(Errno),
}

impl From<Errno> for OutputError {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

impl Output {
    /// Returns what `path` leads to. A relative path starts at `directory`.
    ///
    /// # Errors
    /// - [`OutputError::Planted`] if another user could have planted a link or the file.
    /// - [`OutputError::System`] if a system call fails.
    pub(crate) fn find(directory: BorrowedFd<'_>, path: &Path) -> Result<Self, OutputError> {
        let mut path = path.to_owned();
        let mut base: Option<OwnedFd> = None;
        for link in 0..MAX_LINKS {
            let from = base.as_ref().map_or(directory, OwnedFd::as_fd);
            let Some(name) = path.file_name() else { return Ok(Self::Directory) };
            let opened = match path.parent().filter(|parent| *parent != Path::new("")) {
                Some(parent) => match open_parent(from, parent) {
                    // The target of the link does not exist.
                    Err(Errno::NOENT | Errno::NOTDIR) if link > 0 => return Ok(Self::Name),
                    opened => Some(opened?),
                },
                None => None,
            };
            let parent = opened.as_ref().map_or(from, OwnedFd::as_fd);
            // Most paths lead to a regular file or to a free name, so this cheap check comes first.
            match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(Self::Name),
                other if FileType::from_raw_mode(other?.st_mode) == FileType::RegularFile => {
                    return Ok(Self::Name);
                }
                _ => {}
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(Self::Name),
                other => other?,
            };
            let stat = rustix::fs::fstat(&file)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => return Ok(Self::Name),
                FileType::Directory => return Ok(Self::Directory),
                FileType::Symlink => {
                    if is_on_proc(&file)? {
                        return open_proc_link(parent, name.as_bytes());
                    }
                    refuse_planted(parent, &stat)?;
                    let target = rustix::fs::readlinkat(&file, "", Vec::new())?;
                    path = PathBuf::from(std::ffi::OsStr::from_bytes(target.as_bytes()));
                    base = opened.or(base);
                }
                _ => {
                    refuse_planted(parent, &stat)?;
                    return Ok(Self::Special(file));
                }
            }
        }
        Err(Errno::LOOP.into())
    }

    /// Checks that a new file can take a name.
    ///
    /// # Errors
    /// - [`OutputError::Planted`] if another user could have planted a link or the file.
    /// - [`OutputError::Special`] or [`OutputError::Descriptor`] if such a file would be replaced.
    /// - [`OutputError::System`] if a system call fails.
    pub(crate) fn check_replaceable(directory: BorrowedFd<'_>, name: &Path) -> Result<(), OutputError> {
        match Self::find(directory, name)? {
            // The kernel itself refuses to replace a directory.
            Self::Name | Self::Directory => Ok(()),
            Self::Special(_) => Err(OutputError::Special),
            Self::Descriptor(_) => Err(OutputError::Descriptor),
        }
    }
}

/// Opens a file for appending, for example a log. If the file does not exist, creates it with the mode 0600.
///
/// If the path leads to an open descriptor of this process, returns a duplicate of that descriptor. `extra_flags` are further
/// flags of open(2).
///
/// # Errors
/// - [`OutputError::Planted`] if another user could have planted a link or the file.
/// - [`OutputError::System`] if a system call fails.
pub fn open_to_append(path: &Path, extra_flags: OFlags) -> Result<OwnedFd, OutputError> {
    if !extra_flags.contains(OFlags::NOFOLLOW)
        && let Output::Descriptor(descriptor) = Output::find(CWD, path)?
        && let Some(own) = descriptor.duplicate(OFlags::WRONLY)?
    {
        return Ok(own);
    }
    let flags =
        extra_flags | OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?)
}

impl Descriptor {
    /// Returns the open descriptor that a path leads to, or `None` if it leads to another kind of file.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        match Output::find(CWD, path) {
            Ok(Output::Descriptor(descriptor)) => Some(descriptor),
            _ => None,
        }
    }

    /// Duplicates the descriptor, so that both share their position. Returns `None` if it is not a descriptor of this process.
    ///
    /// # Errors
    /// `EBADF` if the descriptor is not open for this access. Opening its path could give more access than the descriptor has.
    /// But the placeholder of a closed standard stream must refuse its use.
    pub(crate) fn duplicate(&self, access: OFlags) -> Result<Option<OwnedFd>, Errno> {
        let Some(number) = self.number else { return Ok(None) };
        // SAFETY: the borrow serves only to duplicate the descriptor. The kernel refuses a number that is not open.
        let own = unsafe { BorrowedFd::borrow_raw(number) };
        duplicate(own, access).map(Some)
    }
}

/// Duplicates a descriptor that is open for this access.
///
/// # Errors
/// `EBADF` if the descriptor is not open for this access, or another error of the kernel.
pub(crate) fn duplicate(descriptor: BorrowedFd<'_>, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = rustix::fs::fcntl_getfl(descriptor)?;
    let mode = flags & (OFlags::WRONLY | OFlags::RDWR);
    let is_open = (mode == access || mode == OFlags::RDWR) && !flags.contains(OFlags::PATH);
    if is_open { rustix::io::fcntl_dupfd_cloexec(descriptor, 3) } else { Err(Errno::BADF) }
}

/// Opens the directory that contains the last name of a path.
fn open_parent(from: BorrowedFd<'_>, parent: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(from, parent, flags, Mode::empty())
}

fn is_on_proc(file: &OwnedFd) -> Result<bool, Errno> {
    rustix::fs::fstatfs(file).map(|system| system.f_type as u64 == PROC_SUPER_MAGIC)
}

/// Opens the target of a link in a proc file system. Only the kernel can follow such a link.
fn open_proc_link(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Output, OutputError> {
    let file = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Ok(Output::Directory);
    }
    let number = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
    let is_own = is_own_table(parent)?;
    Ok(Output::Descriptor(Descriptor { file, number: number.filter(|&number: &i32| is_own && number >= 0) }))
}

/// Returns whether a directory is this process's list of open descriptors.
fn is_own_table(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    let id = FileId::of(&rustix::fs::statat(directory, "", AtFlags::EMPTY_PATH)?);
    let is_same = |path| rustix::fs::stat(path).is_ok_and(|stat| FileId::of(&stat) == id);
    Ok(["/proc/self/fd", "/proc/thread-self/fd"].into_iter().any(is_same))
}

/// Refuses a file that another user could have planted.
///
/// These are the rules of `fs.protected_symlinks` and `fs.protected_fifos`, which some systems turn off. In a directory in which
/// other users may create files, they allow only files of this user and of the directory's owner.
fn refuse_planted(directory: BorrowedFd<'_>, file: &Stat) -> Result<(), OutputError> {
    let directory = rustix::fs::statat(directory, "", AtFlags::EMPTY_PATH)?;
    let is_trusted = file.st_uid == geteuid().as_raw() || file.st_uid == directory.st_uid;
    if is_trusted || !others_may_write(directory.st_mode) { Ok(()) } else { Err(OutputError::Planted) }
}

/// Returns whether users that the owner did not choose may write to a directory of this mode. If the group may write and the
/// sticky bit is not set, the owner has chosen to share the files with the group.
fn others_may_write(mode: u32) -> bool {
    const STICKY_AND_GROUP: u32 = 0o1020;
    mode & 0o002 != 0 || mode & STICKY_AND_GROUP == STICKY_AND_GROUP
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    fn find(path: impl AsRef<Path>) -> Output {
        Output::find(CWD, path.as_ref()).expect("the path is readable")
    }

    #[test]
    fn chains_of_links_are_followed_to_their_end() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let links = [
            ("to-file", "file"),
            ("to-nothing", "none"),
            ("to-nowhere", "none/none"),
            ("to-fifo", "directory/../fifo"),
            ("again", "to-fifo"),
            ("loop", "loop"),
            ("up", "directory/.."),
            ("null", "/dev/null"),
        ];
        for (name, target) in links {
            symlink(target, at(name)).unwrap();
        }
        for name in ["file", "none", "to-file", "to-nothing", "to-nowhere"] {
            assert!(matches!(find(at(name)), Output::Name), "{name}");
        }
        for name in ["directory", "up", ".", "..", "/", "directory/.."] {
            assert!(matches!(find(at(name)), Output::Directory), "{name}");
        }
        for name in ["fifo", "to-fifo", "again", "null"] {
            assert!(matches!(find(at(name)), Output::Special(_)), "{name}");
        }
        assert_eq!(Output::find(CWD, &at("loop")).unwrap_err(), OutputError::System(Errno::LOOP));
        assert_eq!(Output::check_replaceable(CWD, &at("to-file")), Ok(()));
        assert_eq!(Output::check_replaceable(CWD, &at("again")), Err(OutputError::Special));
    }

    #[test]
    fn an_open_descriptor_is_found_by_each_path_to_it() {
        let temp = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(temp.path().join("file")).unwrap();
        let number = file.as_raw_fd();
        symlink(format!("/proc/self/fd/{number}"), temp.path().join("one")).unwrap();
        symlink("one", temp.path().join("two")).unwrap();
        let own = [
            format!("/proc/self/fd/{number}"),
            format!("/proc/thread-self/fd/{number}"),
            format!("/proc/{}/fd/{number}", std::process::id()),
            temp.path().join("one").to_string_lossy().into_owned(),
            temp.path().join("two").to_string_lossy().into_owned(),
        ];
        for path in own {
            let Output::Descriptor(found) = find(&path) else { panic!("{path}") };
            assert_eq!(found.number, Some(number), "{path}");
            assert!(matches!(found.duplicate(OFlags::WRONLY), Ok(Some(_))), "{path}");
            assert_eq!(found.duplicate(OFlags::RDONLY).unwrap_err(), Errno::BADF, "{path}");
            assert_eq!(Output::check_replaceable(CWD, Path::new(&path)), Err(OutputError::Descriptor));
        }
        let mut other = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let Output::Descriptor(found) = find(format!("/proc/{}/fd/0", other.id())) else {
            panic!("the descriptor of another process was not found")
        };
        assert!(found.number.is_none() && matches!(found.duplicate(OFlags::RDONLY), Ok(None)));
        other.kill().unwrap();
        other.wait().unwrap();
        let none = Output::find(CWD, Path::new("/proc/self/fd/99999"));
        assert!(matches!(none, Ok(Output::Name)), "{none:?}");
    }

    #[test]
    fn others_may_write_if_the_mode_allows_it() {
        for (mode, expected) in
            [(0o755, false), (0o775, false), (0o2775, false), (0o1775, true), (0o1777, true), (0o777, true)]
        {
            assert_eq!(others_may_write(mode), expected, "{mode:o}");
        }
    }
}
