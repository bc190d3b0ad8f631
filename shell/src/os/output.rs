//! What a path that is to be written leads to, found out before anything is made or replaced.
//!
//! The kernel follows the links on the way to a file. This module follows the last name itself, link by link, because two
//! kinds of links must not be treated as names of files: a link to an open descriptor (`/dev/stdout`, `/proc/self/fd/1`),
//! and a link that another user planted.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The kernel follows no more links than this.
const MOST_LINKS: usize = 40;
/// What statfs(2) says of a proc file system.
const PROC: u64 = 0x9fa0;

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Output {
    /// A regular file, or nothing yet, or links that lead to either: the name can be given to a new file.
    Name,
    /// A directory.
    Directory,
    /// A device, a FIFO or a socket, opened for looking only.
    Special(OwnedFd),
    /// An open descriptor.
    Descriptor(Descriptor),
}

/// An open descriptor of some process, to which a link of a proc file system leads.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// What the descriptor refers to, opened for looking only.
    pub file: OwnedFd,
    /// Its number, if it is a descriptor of this process.
    number: Option<i32>,
}

/// Why a path cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum OutputError {
    /// Another user could have put it there.
    #[error(
        "it belongs to another user, in a directory that others may write; remove it or choose another name"
    )]
    Planted,
    /// A file that is not regular would be replaced.
    #[error("a device, FIFO or socket has this name and is not replaced; choose another name")]
    Special,
    /// A link to an open descriptor would be replaced.
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
    /// Finds out what `path`, seen from `directory`, leads to.
    ///
    /// # Errors
    /// Another user could have planted what was met; or a system call failed.
    pub fn find(directory: BorrowedFd<'_>, path: &Path) -> Result<Self, OutputError> {
        let mut path = path.to_owned();
        let mut base: Option<OwnedFd> = None;
        for link in 0..MOST_LINKS {
            let from = base.as_ref().map_or(directory, OwnedFd::as_fd);
            let Some(name) = path.file_name() else { return Ok(Self::Directory) };
            let opened = match path.parent().filter(|parent| *parent != Path::new("")) {
                Some(parent) => match open_parent(from, parent) {
                    // A link that leads nowhere.
                    Err(Errno::NOENT | Errno::NOTDIR) if link > 0 => return Ok(Self::Name),
                    opened => Some(opened?),
                },
                None => None,
            };
            let parent = opened.as_ref().map_or(from, OwnedFd::as_fd);
            // Most often this is all that has to be known.
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
                    if is_of_proc(&file)? {
                        return descriptor(parent, name.as_bytes());
                    }
                    refuse_planted(parent, &stat)?;
                    let to = rustix::fs::readlinkat(&file, "", Vec::new())?;
                    path = PathBuf::from(std::ffi::OsStr::from_bytes(to.as_bytes()));
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

    /// Checks that a new file can take the name.
    ///
    /// # Errors
    /// What has the name would be lost, or is not ours to replace.
    pub fn is_replaceable(directory: BorrowedFd<'_>, name: &Path) -> Result<(), OutputError> {
        match Self::find(directory, name)? {
            // A directory is left to the kernel, which does not replace it.
            Self::Name | Self::Directory => Ok(()),
            Self::Special(_) => Err(OutputError::Special),
            Self::Descriptor(_) => Err(OutputError::Descriptor),
        }
    }
}

/// Opens a file for writing at its end, as for a log; makes it, private to its user, if there is none. `more` are further
/// flags of open(2).
///
/// # Errors
/// Another user could have planted what has the name; or it cannot be opened.
pub fn open_to_append(path: &Path, more: OFlags) -> Result<OwnedFd, OutputError> {
    if !more.contains(OFlags::NOFOLLOW)
        && let Output::Descriptor(descriptor) = Output::find(CWD, path)?
        && let Some(own) = descriptor.duplicate(OFlags::WRONLY)?
    {
        return Ok(own);
    }
    let flags = more | OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?)
}

impl Descriptor {
    /// Finds the open descriptor that a path leads to, if it leads to one.
    pub fn at(path: &Path) -> Option<Self> {
        match Output::find(CWD, path) {
            Ok(Output::Descriptor(descriptor)) => Some(descriptor),
            _ => None,
        }
    }

    /// Duplicates it, so that both share their position. Nothing if it is not this process's own.
    ///
    /// # Errors
    /// `EBADF`: it is not open for this access. Its path could be opened for more than the descriptor allows; but the
    /// stream that stands for a closed one must not take or give anything.
    pub fn duplicate(&self, access: OFlags) -> Result<Option<OwnedFd>, Errno> {
        let Some(number) = self.number else { return Ok(None) };
        // SAFETY: only a duplicate is made. The kernel refuses a number that is no open descriptor.
        let own = unsafe { BorrowedFd::borrow_raw(number) };
        duplicate(own, access).map(Some)
    }
}

/// Duplicates a descriptor that is open for this access.
///
/// # Errors
/// `EBADF`: it is not.
pub(crate) fn duplicate(descriptor: BorrowedFd<'_>, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = rustix::fs::fcntl_getfl(descriptor)?;
    let mode = flags & (OFlags::WRONLY | OFlags::RDWR);
    let is_open = (mode == access || mode == OFlags::RDWR) && !flags.contains(OFlags::PATH);
    if is_open { rustix::io::fcntl_dupfd_cloexec(descriptor, 3) } else { Err(Errno::BADF) }
}

/// Opens the directory that holds the last name of a path.
fn open_parent(from: BorrowedFd<'_>, parent: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(from, parent, flags, Mode::empty())
}

fn is_of_proc(file: &OwnedFd) -> Result<bool, Errno> {
    rustix::fs::fstatfs(file).map(|system| system.f_type as u64 == PROC)
}

/// Opens what a link of a proc file system leads to. Only the kernel can follow such a link.
fn descriptor(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Output, OutputError> {
    let file = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Ok(Output::Directory);
    }
    let number = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
    let is_own = is_own_table(parent)?;
    Ok(Output::Descriptor(Descriptor { file, number: number.filter(|&number: &i32| is_own && number >= 0) }))
}

/// Whether a directory is this process's list of open descriptors.
fn is_own_table(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    let place = |stat: &Stat| (stat.st_dev, stat.st_ino);
    let there = place(&rustix::fs::statat(directory, "", AtFlags::EMPTY_PATH)?);
    let is_there = |path| rustix::fs::stat(path).is_ok_and(|stat| place(&stat) == there);
    Ok(["/proc/self/fd", "/proc/thread-self/fd"].into_iter().any(is_there))
}

/// The rules of `fs.protected_symlinks` and `fs.protected_fifos`, which some systems leave off: where others may make
/// files, only what belongs to us or to the directory's owner is used.
fn refuse_planted(directory: BorrowedFd<'_>, file: &Stat) -> Result<(), OutputError> {
    let directory = rustix::fs::statat(directory, "", AtFlags::EMPTY_PATH)?;
    let is_trusted = file.st_uid == geteuid().as_raw() || file.st_uid == directory.st_uid;
    if is_trusted || !others_may_write(directory.st_mode) { Ok(()) } else { Err(OutputError::Planted) }
}

/// Whether users that the owner did not choose may write a directory of this mode. A group without the sticky bit shares its
/// files by choice.
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
        Output::find(CWD, path.as_ref()).expect("it can be looked at")
    }

    #[test]
    fn chains_of_links_are_followed_to_what_they_lead_to() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let links = [
            ("to-file", "file"),
            ("to-nothing", "none"),
            ("to-nowhere", "none/none"),
            ("to-fifo", "directory/../fifo"),
            ("again", "to-fifo"),
            ("round", "round"),
            ("up", "directory/.."),
            ("null", "/dev/null"),
        ];
        for (name, to) in links {
            symlink(to, at(name)).unwrap();
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
        assert_eq!(Output::find(CWD, &at("round")).unwrap_err(), OutputError::System(Errno::LOOP));
        assert_eq!(Output::is_replaceable(CWD, &at("to-file")), Ok(()));
        assert_eq!(Output::is_replaceable(CWD, &at("again")), Err(OutputError::Special));
    }

    #[test]
    fn an_open_descriptor_is_known_by_every_path_to_it() {
        let place = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(place.path().join("file")).unwrap();
        let number = file.as_raw_fd();
        symlink(format!("/proc/self/fd/{number}"), place.path().join("one")).unwrap();
        symlink("one", place.path().join("two")).unwrap();
        let own = [
            format!("/proc/self/fd/{number}"),
            format!("/proc/thread-self/fd/{number}"),
            format!("/proc/{}/fd/{number}", std::process::id()),
            place.path().join("one").to_string_lossy().into_owned(),
            place.path().join("two").to_string_lossy().into_owned(),
        ];
        for path in own {
            let Output::Descriptor(found) = find(&path) else { panic!("{path}") };
            assert_eq!(found.number, Some(number), "{path}");
            assert!(matches!(found.duplicate(OFlags::WRONLY), Ok(Some(_))), "{path}");
            assert_eq!(found.duplicate(OFlags::RDONLY).unwrap_err(), Errno::BADF, "{path}");
            assert_eq!(Output::is_replaceable(CWD, Path::new(&path)), Err(OutputError::Descriptor));
        }
        let mut other = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let Output::Descriptor(found) = find(format!("/proc/{}/fd/0", other.id())) else {
            panic!("another's")
        };
        assert!(found.number.is_none() && matches!(found.duplicate(OFlags::RDONLY), Ok(None)));
        other.kill().unwrap();
        other.wait().unwrap();
        let none = Output::find(CWD, Path::new("/proc/self/fd/99999"));
        assert!(matches!(none, Ok(Output::Name)), "{none:?}");
    }

    #[test]
    fn others_may_write_where_the_mode_says_so() {
        for (mode, so) in
            [(0o755, false), (0o775, false), (0o2775, false), (0o1775, true), (0o1777, true), (0o777, true)]
        {
            assert_eq!(others_may_write(mode), so, "{mode:o}");
        }
    }
}
