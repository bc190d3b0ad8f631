//! One source to many forked receivers, each writing a file of its own.
//!
//! ```text
//!  Plan --check--> CopyContext --fork--> receivers ... write files, report through a pipe, end
//!                   |
//!                   +-- data path (main thread): source -> ring slots | sockets
//!                   +-- control thread: deaths, reports, admissions, progress
//! ```
//!
//! Everything that can be refused is refused before the first fork.

mod checksum;
mod connections;
mod control;
mod crowd;
mod destination;
mod lifeline;
mod names;
mod receive;
mod recv;
mod report;
mod roster;
mod send;
mod serve;
mod serving;
mod shm;
mod socket;
mod source;
mod window;

pub use checksum::{Sum, hex};
pub use control::{Stalled, Watch};
pub use destination::{DestinationError, Warning, WriteOptions, write_file};
pub use names::{STDIN_NAME, Template, TemplateError};
pub use recv::{Receipt, RecvError, RecvPlan, recv};
pub use roster::{Fault, PeerOutcome};
pub use send::{SendPlan, SendingError, Sent, send};
pub use source::SourceError;

use crate::channel::control::progress::Progress;
use crate::os::dirs::CreatedDirs;
use crate::os::error::{OsError, cannot};
use crate::os::event_fd::EventFd;
use crate::os::new_file::{check_keep, part_name, token};
use crate::os::output::{Output, OutputError};
use crate::os::signal::stop_signal;
use crate::os::thread::start_scoped_thread;
use crate::shm::ring::SegmentError;
use crate::shm::{Geometry, LayoutError};
use control::{Control, Link};
use roster::Roster;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, AtFlags, FileType};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use source::Source;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use thiserror::Error;

/// The most peers a copy can have.
pub const MAX_PEERS: u32 = 1000;

/// How the bytes travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Through a ring in shared memory.
    Shm,
    /// Through a unix socket for each peer.
    Socket,
}

/// What to copy where, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file to read; `-` is the standard input.
    pub source: PathBuf,
    /// How many receivers, 1 to [`MAX_PEERS`].
    pub peers: u32,
    /// Where the files go; made if it does not exist.
    pub directory: PathBuf,
    /// What they are called.
    pub template: Template,
    /// How the bytes travel.
    pub transport: Transport,
    /// Bytes in one block, which is one slot of the ring.
    pub block: u32,
    /// Slots of the ring.
    pub slots: u32,
    /// How each file is made.
    pub care: WriteOptions,
    /// Give the files the source's times and extended attributes.
    pub preserve: bool,
}

/// What became of a copy whose source was read to its end, or until no receiver was left to read it for.
#[derive(Debug)]
pub struct Outcome {
    /// Bytes in the source, or those that were sent when the last receiver was lost.
    pub bytes: u64,
    /// How long it took, from before the first fork to after the last receiver ended.
    pub elapsed: Duration,
    /// What became of each receiver, in order.
    pub peers: Vec<PeerOutcome>,
}

/// Why nothing, or not everything, was copied.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The source.
    #[error("{}: {error}", crate::os::escape::shown(.path), error = .error)]
    Source {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: SourceError,
    },
    /// The template.
    #[error("the name template does not work: {0}")]
    Template(#[from] TemplateError),
    /// A name that the file system cannot take.
    #[error("the file name would have {length} bytes and {} takes {most}; use --name to choose a shorter one", crate::os::escape::shown(.directory))]
    NameTooLong {
        /// Its length.
        length: usize,
        /// The most there can be.
        most: u64,
        /// Where it was to be.
        directory: PathBuf,
    },
    /// The destination directory.
    #[error("{}: {}", crate::os::escape::shown(.0), crate::os::error::reason(*.1))]
    Directory(PathBuf, Errno),
    /// The file system has no way to keep existing files.
    #[error("{}: {}", crate::os::escape::shown(.0), crate::os::new_file::CANNOT_KEEP)]
    CannotKeep(PathBuf),
    /// A directory has the name of a file to be received.
    #[error("{}: a directory has this name", crate::os::escape::shown(.0))]
    TargetIsDirectory(PathBuf),
    /// What has the name of a file to be received is not replaced.
    #[error("{}: {error}", crate::os::escape::shown(.path), error = .error)]
    Target {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: OutputError,
    },
    /// Without /proc memory that is shared cannot be locked, which tells the dead from the living.
    #[error(
        "/proc is not mounted, and shared memory is locked through it; mount it: mount -t proc proc /proc"
    )]
    NoProc,
    /// The ring's measures.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The shared memory.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Too few descriptors for so many peers.
    #[error("{peers} peers need {needed} open descriptors, the limit is {limit}; raise it with ulimit -n")]
    Descriptors {
        /// Peers asked for.
        peers: u32,
        /// Descriptors needed.
        needed: u64,
        /// Descriptors there are.
        limit: u64,
    },
    /// A receiver could not be started.
    #[error("cannot start receiver {peer}: {}{}", crate::os::error::reason(*.error), match *.error {
        Errno::AGAIN => "; the limit of processes is reached",
        Errno::PERM | Errno::ACCESS | Errno::NOSYS => "; a filter refuses prctl(2), as a container's seccomp profile can: allow it there",
        _ => "",
    })]
    Fork {
        /// Which one.
        peer: u32,
        /// What the kernel said.
        error: Errno,
    },
    /// Some other system call.
    #[error(transparent)]
    System(#[from] OsError),
    /// No receiver was left to send to. Only within a copy: its result is an [`Outcome`] in which every peer failed.
    #[error("no receiver is left")]
    NobodyLeft,
    /// A signal asked us to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A plan that was checked, with what all its processes share. CreatedDirs before the first fork.
struct CopyContext<'p> {
    plan: &'p Plan,
    /// What the source is called, and its length where that is known.
    name: OsString,
    length: Option<u64>,
    directory: OwnedFd,
    /// What was made for it.
    made: CreatedDirs,
    /// The receivers' reports: one packet each.
    results: (OwnedFd, OwnedFd),
    /// Readable once the sender should stop reading: nobody is left.
    cancel: EventFd,
    /// Tells the temporary names of this run from those of others.
    token: String,
    started: Instant,
}

/// Copies the source to every peer, and returns when all of them have ended. Only for processes with one thread: it forks.
///
/// # Blocking
/// Until the source ends and the slowest receiver is done. A receiver that is stopped is waited for, and `watch` hears of it.
///
/// # Errors
/// Why there was nothing to copy, or why the copying stopped. No file has its final name then, except of receivers that
/// were done already.
pub fn copy(plan: &Plan, watch: &mut dyn Watch) -> Result<Outcome, CopyError> {
    if plan.transport == Transport::Shm && !crate::os::file::is_proc_mounted() {
        return Err(CopyError::NoProc);
    }
    let (mut job, mut source) = CopyContext::check(plan)?;
    let (bytes, peers) = match plan.transport {
        Transport::Shm => shm::run(&job, &mut source, watch),
        Transport::Socket => socket::run(&job, &mut source, watch),
    }?;
    if peers.iter().any(|peer| peer.fault.is_none()) {
        job.made.keep();
    }
    Ok(Outcome { bytes, elapsed: job.started.elapsed(), peers })
}

/// Runs a transport's data path beside the control thread, until every receiver has ended.
fn run_transfer(
    job: &CopyContext<'_>,
    roster: Roster,
    link: &impl Link,
    knock: Option<&EventFd>,
    flow: &Progress,
    watch: &mut dyn Watch,
    send_loop: impl FnOnce(&Roster) -> Result<u64, CopyError>,
) -> Result<(u64, Vec<PeerOutcome>), CopyError> {
    let control = match Control::new(job, &roster, knock) {
        Ok(control) => control,
        Err(error) => {
            roster.kill_all(job);
            return Err(error);
        }
    };
    let result = thread::scope(|scope| {
        let control = || control.run(job, &roster, link, knock, flow, watch);
        if let Err(error) = start_scoped_thread(thread::Builder::new(), scope, control) {
            roster.kill_all(job);
            return Err(OsError::io("start a thread", &error).into());
        }
        let result = send_loop(&roster);
        if result.is_err() || stop_signal().is_some() {
            roster.end_all();
        }
        result
    });
    if stop_signal().is_some() {
        return Err(CopyError::Interrupted);
    }
    match result {
        Ok(total) => Ok((total, roster.outcomes(job))),
        Err(CopyError::NobodyLeft) => Ok((flow.sent(), roster.outcomes(job))),
        Err(error) => Err(error),
    }
}

impl<'p> CopyContext<'p> {
    fn check(plan: &'p Plan) -> Result<(Self, Source), CopyError> {
        let started = Instant::now();
        let source = Source::open(&plan.source).map_err(|error| match error {
            SourceError::Interrupted => CopyError::Interrupted,
            error => CopyError::Source { path: plan.source.clone(), error },
        })?;
        plan.template.check(source.name(), plan.peers)?;
        plan.check_descriptors()?;
        let (made, directory) = open_directory(&plan.directory)?;
        plan.check_names(&source, &directory)?;
        let results =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::DIRECT).map_err(cannot("make a pipe"))?;
        let cancel = EventFd::new().map_err(cannot("make an event"))?;
        let token = token();
        if plan.care.no_clobber {
            check_keep(directory.as_fd(), &token).map_err(|error| match error {
                Errno::OPNOTSUPP => CopyError::CannotKeep(plan.directory.clone()),
                error => CopyError::Directory(plan.directory.clone(), error),
            })?;
        }
        let (name, length) = (source.name().to_owned(), source.length());
        Ok((Self { plan, name, length, directory, made, results, cancel, token, started }, source))
    }

    fn source_failed(&self, error: SourceError) -> CopyError {
        CopyError::Source { path: self.plan.source.clone(), error }
    }

    /// The final name of a peer's file.
    fn name(&self, peer: u32, pid: i32) -> OsString {
        self.plan.template.name(&self.name, peer, self.plan.peers, pid)
    }

    /// The temporary name of a peer's file, where it needs one. Short, so that a name of 255 bytes fits.
    fn part(&self, peer: u32) -> OsString {
        part_name(&format!("{}-{peer}", self.token))
    }

    /// Removes what a peer that was killed may have left.
    fn remove_part(&self, peer: u32) {
        let _ = rustix::fs::unlinkat(&self.directory, self.part(peer), AtFlags::empty());
    }
}

impl Plan {
    fn geometry(&self) -> Result<Geometry, LayoutError> {
        Geometry::new(self.block, self.slots, self.peers)
    }

    fn check_names(&self, source: &Source, directory: &OwnedFd) -> Result<(), CopyError> {
        let most = rustix::fs::fstatvfs(directory).map_or(255, |fs| fs.f_namemax);
        let length = self.template.longest(source.name(), self.peers);
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
        // One to watch each peer, one to talk to it, and some of our own.
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
    let made = CreatedDirs::all(path, 0o777).map_err(|error| {
        // A file in the way is "file exists" to mkdir; "not a directory" says what is wrong.
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        failed(if exists { Errno::NOTDIR } else { Errno::from_io_error(&error).unwrap_or(Errno::IO) })
    })?;
    let directory = destination::open_directory(path).map_err(failed)?;
    check_writable(&directory).map_err(failed)?;
    Ok((made, directory))
}

/// Looks whether files can be made in a directory, so that a refusal comes before the first fork.
fn check_writable(directory: &OwnedFd) -> Result<(), Errno> {
    let allowed = |flags| rustix::fs::accessat(directory, ".", Access::WRITE_OK | Access::EXEC_OK, flags);
    match allowed(AtFlags::EACCESS) {
        // A container's filter that is older than the call says this, and so does a directory that nobody may change. The
        // call without flags is as old as the others here.
        Err(Errno::PERM) => allowed(AtFlags::empty()),
        // Making the files will tell.
        Err(Errno::NOSYS) => Ok(()),
        other => other,
    }
}
