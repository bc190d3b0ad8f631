//! The plan of a copy, and every check before the first fork.

use super::destination::{self, WriteOptions};
use super::names::{Template, TemplateError};
use super::source::{Source, SourceError};
use crate::os::dirs::CreatedDirs;
use crate::os::error::OsError;
use crate::os::new_file::{check_keep, part_name, token};
use crate::os::output::{Output, OutputError};
use crate::registry::status::TransportKind;
use crate::shm::ring::SegmentError;
use crate::shm::{Geometry, LayoutError};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, AtFlags, FileType};
use rustix::io::Errno;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;

/// The most peers of a copy.
pub const MAX_PEERS: u32 = 1000;

/// The plan of a copy.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file to read; `-` is the standard input.
    pub source: PathBuf,
    /// How many receivers, 1 to [`MAX_PEERS`].
    pub peers: u32,
    /// The directory for the files. It is created if it does not exist.
    pub directory: PathBuf,
    /// The names of the files.
    pub template: Template,
    /// How the bytes travel.
    pub transport: TransportKind,
    /// The most bytes that are read and sent at once.
    pub block: u32,
    /// Bytes of the ring, a power of two.
    pub ring: u64,
    /// How each file is written.
    pub write: WriteOptions,
    /// Give the files the source's times and extended attributes.
    pub preserve: bool,
}

/// Why nothing, or not everything, was copied.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The source failed.
    #[error("{}: {error}", crate::os::escape::shown(.path), error = .error)]
    Source {
        /// The path of the source.
        path: PathBuf,
        /// The reason.
        error: SourceError,
    },
    /// The template does not work.
    #[error("the name template does not work: {0}")]
    Template(#[from] TemplateError),
    /// The file system does not accept so long a name.
    #[error("the file name would have {length} bytes and {} takes {most}; use --name to choose a shorter one", crate::os::escape::shown(.directory))]
    NameTooLong {
        /// Its length.
        length: usize,
        /// The most there can be.
        most: u64,
        /// The directory.
        directory: PathBuf,
    },
    /// The destination directory cannot be used.
    #[error("{}: {}", crate::os::escape::shown(.0), crate::os::error::reason(*.1))]
    Directory(PathBuf, Errno),
    /// The file system has no way to keep existing files.
    #[error("{}: {}", crate::os::escape::shown(.0), crate::os::new_file::CANNOT_KEEP)]
    CannotKeep(PathBuf),
    /// A directory has the name of a file to be received.
    #[error("{}: a directory has this name", crate::os::escape::shown(.0))]
    TargetIsDirectory(PathBuf),
    /// A received file would replace a file that is never replaced.
    #[error("{}: {error}", crate::os::escape::shown(.path), error = .error)]
    Target {
        /// Its path.
        path: PathBuf,
        /// The reason.
        error: OutputError,
    },
    /// Without /proc shared memory cannot be locked. The locks show whether a process lives.
    #[error(
        "/proc is not mounted, and shared memory is locked through it; mount it: mount -t proc proc /proc"
    )]
    NoProc,
    /// The sizes of the ring are out of range.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The shared memory cannot be made.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Too few descriptors for this number of peers.
    #[error("{peers} peers need {needed} open descriptors, the limit is {limit}; raise it with ulimit -n")]
    Descriptors {
        /// Peers asked for.
        peers: u32,
        /// Descriptors needed.
        needed: u64,
        /// The limit of this process.
        limit: u64,
    },
    /// A receiver could not be started.
    #[error("cannot start receiver {peer}: {}{}", crate::os::error::reason(*.error), match *.error {
        Errno::AGAIN => "; the limit of processes is reached",
        Errno::PERM | Errno::ACCESS | Errno::NOSYS => "; a filter refuses prctl(2), as a container's seccomp profile can: allow it there",
        _ => "",
    })]
    Fork {
        /// The number of the receiver.
        peer: u32,
        /// The error of the system call.
        error: Errno,
    },
    /// Another system call failed.
    #[error(transparent)]
    System(#[from] OsError),
    /// A signal asked this process to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A plan that was checked, and what all processes of the copy share. It is made before the first fork.
pub(super) struct CopyContext<'p> {
    pub plan: &'p Plan,
    pub started: Instant,
    /// The directory for the files.
    pub directory: Arc<Directory>,
    /// The directories that were created for it.
    pub created: CreatedDirs,
    /// The source's name.
    name: OsString,
}

/// The destination directory of one run.
pub(super) struct Directory {
    pub fd: OwnedFd,
    /// Distinguishes the temporary names of this run from those of other runs.
    token: String,
}

impl Directory {
    /// Returns the temporary name of a peer's file, if it needs one. It is short, so that a name of 255 bytes fits.
    pub(super) fn part(&self, peer: u32) -> OsString {
        part_name(&format!("{}-{peer}", self.token))
    }

    /// Removes the temporary file of a killed peer, if there is one.
    pub(super) fn remove_part(&self, peer: u32) {
        let _ = rustix::fs::unlinkat(&self.fd, self.part(peer), AtFlags::empty());
    }
}

impl<'p> CopyContext<'p> {
    /// Checks a plan, and opens its source.
    ///
    /// # Errors
    /// The reason that the copy cannot begin.
    pub(super) fn check(plan: &'p Plan) -> Result<(Self, Source), CopyError> {
        let started = Instant::now();
        let source = Source::open(&plan.source).map_err(|error| source_failed(plan, error))?;
        plan.template.check(source.name(), plan.peers)?;
        plan.check_descriptors()?;
        let (created, fd) = open_directory(&plan.directory)?;
        plan.check_names(&source, &fd)?;
        let token = token();
        if plan.write.no_clobber {
            check_keep(fd.as_fd(), &token).map_err(|error| match error {
                Errno::OPNOTSUPP => CopyError::CannotKeep(plan.directory.clone()),
                error => CopyError::Directory(plan.directory.clone(), error),
            })?;
        }
        let (name, directory) = (source.name().to_owned(), Arc::new(Directory { fd, token }));
        Ok((Self { plan, started, directory, created, name }, source))
    }

    /// Returns the final name of a peer's file.
    pub(super) fn name(&self, peer: u32, pid: i32) -> OsString {
        self.plan.template.name(&self.name, peer, self.plan.peers, pid)
    }
}

/// Returns the error of a source that failed.
pub(super) fn source_failed(plan: &Plan, error: SourceError) -> CopyError {
    match error {
        SourceError::Interrupted => CopyError::Interrupted,
        error => CopyError::Source { path: plan.source.clone(), error },
    }
}

impl Plan {
    pub(super) fn geometry(&self) -> Result<Geometry, LayoutError> {
        Geometry::new(self.ring, self.peers)
    }

    fn check_names(&self, source: &Source, directory: &OwnedFd) -> Result<(), CopyError> {
        let most = rustix::fs::fstatvfs(directory).map_or(255, |fs| fs.f_namemax);
        let length = self.template.max_length(source.name(), self.peers);
        if length as u64 > most {
            return Err(CopyError::NameTooLong { length, most, directory: self.directory.clone() });
        }
        if self.template.needs_pid() {
            return Ok(());
        }
        for peer in 1..=self.peers {
            let name = self.template.name(source.name(), peer, self.peers, 0);
            let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW);
            if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                return Err(CopyError::TargetIsDirectory(self.directory.join(name)));
            }
            Output::check_replaceable(directory.as_fd(), name.as_ref())
                .map_err(|error| CopyError::Target { path: self.directory.join(&name), error })?;
        }
        Ok(())
    }

    fn check_descriptors(&self) -> Result<(), CopyError> {
        // One descriptor to watch each peer, one to send to it, and some for the rest of the process.
        let needed = 64 + 2 * u64::from(self.peers);
        let limit = crate::os::limits::raise_descriptor_limit();
        if needed > limit {
            return Err(CopyError::Descriptors { peers: self.peers, needed, limit });
        }
        Ok(())
    }
}

fn open_directory(path: &Path) -> Result<(CreatedDirs, OwnedFd), CopyError> {
    let failed = |error| CopyError::Directory(path.to_owned(), error);
    let created = CreatedDirs::all(path, 0o777).map_err(|error| {
        // If a file has the name, mkdir reports "file exists". "not a directory" says what is wrong.
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        failed(if exists { Errno::NOTDIR } else { Errno::from_io_error(&error).unwrap_or(Errno::IO) })
    })?;
    let directory = destination::open_directory(path).map_err(failed)?;
    check_writable(&directory).map_err(failed)?;
    Ok((created, directory))
}

/// Checks whether files can be created in a directory, so that a refusal comes before the first fork.
fn check_writable(directory: &OwnedFd) -> Result<(), Errno> {
    let allowed = |flags| rustix::fs::accessat(directory, ".", Access::WRITE_OK | Access::EXEC_OK, flags);
    match allowed(AtFlags::EACCESS) {
        // An immutable directory returns this error, and so does a container's filter that does not know the call. The
        // call without flags is as old as the other calls here.
        Err(Errno::PERM) => allowed(AtFlags::empty()),
        // Creating the files will show it.
        Err(Errno::NOSYS) => Ok(()),
        other => other,
    }
}
