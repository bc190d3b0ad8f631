//! What a receiver that was started by itself does with what it gets: write, check, commit, say so.

use super::checksum::Checksum;
use super::destination::{Destination, DestinationError, Warning, WriteOptions, open_directory};
use crate::channel::{JoinError, JoinOptions, Patience, Payload, ReceiveError, Received, Receiver};
use crate::os::deadline;
use crate::os::file::path_of;
use crate::os::file::write_raw;
use crate::os::flush::flush;
use crate::os::new_file::{check_keep, part_name, token};
use crate::os::output::{Descriptor, Output as Leads, OutputError};
use crate::os::signal::stop_signal;
use crate::registry::protocol::Start;
use crate::registry::{Name, RuntimeDir, RuntimeError};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use whorl_core::error::End;

/// What to receive, and where to put it.
#[derive(Clone, Debug)]
pub struct RecvPlan {
    /// The sender's name.
    pub name: Name,
    /// The file to write; `-` is the standard output.
    pub target: PathBuf,
    /// Where in the stream to begin.
    pub start: Start,
    /// The longest wait for the sender.
    pub timeout: Option<Duration>,
    /// How the file is made; `verify` insists on a checksum.
    pub care: WriteOptions,
}

/// Why nothing, or not everything, was received.
#[derive(Debug, Error)]
pub enum RecvError {
    /// The runtime directory.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There was no joining.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The stream broke off.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The target.
    #[error("{}: {error}", crate::os::escape::shown(.path), error = .error)]
    Target {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: DestinationError,
    },
    /// The target cannot be opened or written.
    #[error("{}: {}", crate::os::escape::shown(.path), crate::os::error::reason(*.error))]
    Output {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        error: Errno,
    },
    /// The file system has no way to keep an existing file.
    #[error("{}: {}", crate::os::escape::shown(.0), crate::os::new_file::CANNOT_KEEP)]
    CannotKeep(PathBuf),
    /// What the target leads to is not written.
    #[error("{}: {error}", crate::os::escape::shown(.path), error = .error)]
    Refused {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: OutputError,
    },
    /// What arrived is not as long as the sender says.
    #[error("{arrived} bytes arrived of {sent} that were sent")]
    Length {
        /// Bytes that arrived.
        arrived: u64,
        /// Bytes that the sender counted.
        sent: u64,
    },
    /// What arrived is not what was sent.
    #[error("what arrived has another checksum than what was sent")]
    Checksum,
    /// A checksum was asked for and there is none.
    #[error("the sender sends no checksum; start 'shell send' with --verify")]
    NoChecksum,
    /// Whoever reads our output has closed it.
    #[error("the output was closed")]
    Closed,
    /// A signal asked us to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Bytes of the stream.
    pub bytes: u64,
    /// What the file lacks.
    pub warning: Option<Warning>,
}

/// Receives a whole stream.
///
/// # Blocking
/// Until a sender of that name came, and its stream ended. `waiting` is called once if there is none yet.
///
/// # Errors
/// Why it is not whole; a file does not get its name then.
pub fn recv(plan: &RecvPlan, waiting: impl FnOnce()) -> Result<Receipt, RecvError> {
    let target = Target::of(&plan.target)?;
    let mut output = target.open(plan)?;
    let options = JoinOptions { from: plan.start, timeout: plan.timeout, confirms: true };
    let mut receiver = Receiver::join_in(&RuntimeDir::open()?, &plan.name, &options, waiting)?;
    let result = drain(plan, &mut receiver, &mut output).and_then(|end| output.conclude(plan, end));
    match &result {
        Ok(_) => receiver.confirm(),
        Err(RecvError::Closed) => {} // it leaves by being dropped
        Err(_) => receiver.give_up(),
    }
    result
}

fn drain(plan: &RecvPlan, receiver: &mut Receiver, output: &mut Output<'_>) -> Result<End, RecvError> {
    loop {
        if stop_signal().is_some() {
            return Err(RecvError::Interrupted);
        }
        let deadline = plan.timeout.map(deadline::after);
        match receiver.take(Patience::Until(deadline), |payload| output.put(payload))? {
            Received::End(end) => return Ok(end),
            Received::Bytes(_) | Received::Hole(_) => {}
        }
    }
}

/// Where the bytes go, with what has to live as long.
enum Target {
    Stdout,
    /// Something that is no regular file, as it was met: it is written as it is.
    Special(OwnedFd),
    /// What is open already: it is written from where it stands.
    Descriptor(Descriptor),
    File {
        directory: OwnedFd,
        name: OsString,
        part: OsString,
    },
}

impl Target {
    fn of(path: &Path) -> Result<Self, RecvError> {
        let failed = |error| RecvError::Output { path: path.to_owned(), error };
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        // Opened for looking only: what is written later is what was looked at, whatever has its name by then.
        match Leads::find(CWD, path) {
            Ok(Leads::Name) => {}
            Ok(Leads::Directory) => return Err(failed(Errno::ISDIR)),
            Ok(Leads::Special(_) | Leads::Descriptor(_)) if path.as_os_str().as_bytes().ends_with(b"/") => {}
            Ok(Leads::Special(met)) => return Ok(Self::Special(met)),
            Ok(Leads::Descriptor(met)) => return Ok(Self::Descriptor(met)),
            Err(OutputError::System(error)) => return Err(failed(error)),
            Err(error) => return Err(RecvError::Refused { path: path.to_owned(), error }),
        }
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(failed(Errno::NOTDIR));
        }
        let name = path.file_name().ok_or(failed(Errno::ISDIR))?.to_owned();
        let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        let directory = open_directory(parent).map_err(failed)?;
        let part = part_name(&token());
        Ok(Self::File { directory, name, part })
    }

    fn open<'t>(&'t self, plan: &RecvPlan) -> Result<Output<'t>, RecvError> {
        let failed = |error| RecvError::Output { path: plan.target.clone(), error };
        let way = match self {
            Self::Stdout => {
                let stdout = rustix::stdio::stdout().try_clone_to_owned();
                Way::Stream(
                    stdout.map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::BADF)))?,
                )
            }
            Self::Special(met) => Way::Stream(open_special(met, OFlags::empty(), failed)?),
            Self::Descriptor(met) => Way::Stream(match met.duplicate(OFlags::WRONLY).map_err(failed)? {
                Some(own) => own,
                // A file behind another process's descriptor: written as `cat > FILE` does.
                None => open_special(&met.file, OFlags::TRUNC, failed)?,
            }),
            Self::File { directory, name, part } => {
                let (name, part): (&OsStr, &OsStr) = (name, part);
                if plan.care.no_clobber {
                    check_keep(directory.as_fd(), &token()).map_err(|error| match error {
                        Errno::OPNOTSUPP => RecvError::CannotKeep(plan.target.clone()),
                        error => failed(error),
                    })?;
                }
                let new = Mode::from_raw_mode(0o666); // less the umask, as every new file
                let file = Destination::create(directory.as_fd(), name, part, new, plan.care);
                Way::File(file.map_err(|error| RecvError::Target { path: plan.target.clone(), error })?)
            }
        };
        if let Way::Stream(to) = &way {
            grow_pipe(to.as_fd());
        }
        let sum = (plan.care.verify && matches!(way, Way::Stream(_))).then(Checksum::new);
        Ok(Output { path: plan.target.clone(), way: Some(way), sum, scratch: Vec::new(), written: 0 })
    }
}

/// Opens for writing what was looked at. A FIFO is waited for until another process reads it.
fn open_special(
    met: &OwnedFd,
    more: OFlags,
    failed: impl FnOnce(Errno) -> RecvError,
) -> Result<OwnedFd, RecvError> {
    let flags = more | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    loop {
        match rustix::fs::open(path_of(met.as_fd()), flags, Mode::empty()) {
            Err(Errno::INTR) if stop_signal().is_some() => return Err(RecvError::Interrupted),
            Err(Errno::INTR) => {}
            other => return other.map_err(failed),
        }
    }
}

struct Output<'t> {
    path: PathBuf,
    /// `None` once concluded.
    way: Option<Way<'t>>,
    /// Of what went into a stream, which cannot be read back.
    sum: Option<Checksum>,
    scratch: Vec<u8>,
    written: u64,
}

enum Way<'t> {
    File(Destination<'t>),
    Stream(OwnedFd),
}

impl Output<'_> {
    fn put(&mut self, payload: Payload<'_>) -> Result<Received, RecvError> {
        let received = match payload {
            Payload::Hole(length) => Received::Hole(length),
            Payload::Bytes(bytes) => Received::Bytes(bytes.len()),
            Payload::Raw(_, length) => Received::Bytes(length),
        };
        let path = &self.path;
        let failed = |error| match stop_signal() {
            Some(_) => RecvError::Interrupted,
            None => RecvError::Target { path: path.clone(), error },
        };
        match (&mut self.way, &payload) {
            (Some(Way::File(file)), Payload::Hole(length)) => file.skip(*length),
            (Some(Way::File(file)), _) => file
                .append(length_of(&payload), |file, done, at| write(file, &payload, done, Some(at)))
                .map_err(failed)?,
            (Some(Way::Stream(to)), Payload::Hole(length)) => {
                zeros(to.as_fd(), *length, self.sum.as_mut()).map_err(|error| why(path, error))?;
            }
            (Some(Way::Stream(to)), _) => {
                if let Some(sum) = &mut self.sum {
                    match &payload {
                        Payload::Raw(item, length) => {
                            self.scratch.resize(*length, 0);
                            let copied = item.copy_to(&mut self.scratch);
                            let whole = matches!(copied, Ok(Ok(count)) if count == *length);
                            whole.then_some(()).ok_or(ReceiveError::Corrupt)?;
                            sum.update(&self.scratch);
                        }
                        Payload::Bytes(bytes) => sum.update(bytes),
                        Payload::Hole(_) => {}
                    }
                }
                stream(to.as_fd(), &payload).map_err(|error| why(path, error))?;
            }
            (None, _) => {}
        }
        self.written = self.written.saturating_add(match received {
            Received::Hole(length) => length,
            Received::Bytes(count) => count as u64,
            Received::End(_) => 0,
        });
        Ok(received)
    }

    /// Compares with the end record; only what matches gets its name.
    fn conclude(&mut self, plan: &RecvPlan, end: End) -> Result<Receipt, RecvError> {
        // Who joined later cannot know what it missed.
        let whole = plan.start == Start::First;
        if whole && self.written != end.total {
            return Err(RecvError::Length { arrived: self.written, sent: end.total });
        }
        if plan.care.verify && whole && end.checksum.is_none() {
            return Err(RecvError::NoChecksum);
        }
        let failed = |error| RecvError::Target { path: plan.target.clone(), error };
        let sum = match (&mut self.way, end.checksum.filter(|_| whole)) {
            (Some(Way::File(file)), Some(_)) => Some(file.checksum().map_err(failed)?),
            (_, Some(sum)) => Some(self.sum.as_ref().map_or(sum, Checksum::finish)),
            (_, None) => None,
        };
        if whole && sum != end.checksum {
            return Err(RecvError::Checksum);
        }
        let warning = match self.way.take() {
            Some(Way::File(file)) => file.commit().map_err(failed)?,
            Some(Way::Stream(to)) => {
                flush(to).map_err(|error| why(&self.path, error))?;
                None
            }
            None => None,
        };
        Ok(Receipt { bytes: self.written, warning })
    }
}

/// Gives a pipe room for more than one block, so that the two sides of it do not take turns for each: switching between
/// them costs more than copying. Anything else, and a user who has too many wide pipes, is left as it is.
pub(super) fn grow_pipe(pipe: BorrowedFd<'_>) {
    const ROOM: usize = 1 << 18;
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|room| room < ROOM) {
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, ROOM);
    }
}

fn why(path: &Path, error: Errno) -> RecvError {
    match error {
        Errno::PIPE => RecvError::Closed,
        Errno::INTR => RecvError::Interrupted,
        error => {
            let standard = path == Path::new("-");
            let path = if standard { PathBuf::from("standard output") } else { path.to_owned() };
            RecvError::Output { path, error }
        }
    }
}

fn length_of(payload: &Payload<'_>) -> usize {
    match payload {
        Payload::Bytes(bytes) => bytes.len(),
        Payload::Raw(_, length) => *length,
        Payload::Hole(_) => 0,
    }
}

/// Writes what is left of a payload after `done` bytes: to a place in a file, or to a stream.
fn write(to: BorrowedFd<'_>, payload: &Payload<'_>, done: usize, at: Option<u64>) -> Result<usize, Errno> {
    match (payload, at) {
        (Payload::Bytes(bytes), Some(at)) => rustix::io::pwrite(to, &bytes[done..], at),
        (Payload::Bytes(bytes), None) => rustix::io::write(to, &bytes[done..]),
        (Payload::Hole(_), _) => Ok(0),
        (Payload::Raw(item, length), at) => {
            let start = item.as_ptr().ok_or(Errno::FAULT)?;
            let (rest, left) = (start.wrapping_add(done), length.saturating_sub(done));
            // SAFETY: `length` bytes from `start` on lie in the slot, which is mapped while the item is borrowed; only the
            // kernel reads them.
            unsafe { write_raw(to, rest, left, at) }
        }
    }
}

fn stream(to: BorrowedFd<'_>, payload: &Payload<'_>) -> Result<(), Errno> {
    let mut done = 0;
    while done < length_of(payload) {
        done += write_retry(to, || write(to, payload, done, None))?;
    }
    Ok(())
}

fn zeros(to: BorrowedFd<'_>, mut length: u64, mut sum: Option<&mut Checksum>) -> Result<(), Errno> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while length > 0 {
        let step = length.min(ZEROS.len() as u64) as usize;
        let count = write_retry(to, || rustix::io::write(to, &ZEROS[..step]))?;
        if let Some(sum) = &mut sum {
            sum.update(&ZEROS[..count]);
        }
        length -= count as u64;
    }
    Ok(())
}

/// Writes once, to something that may take nothing just now. A signal that came during the write before, which had taken
/// some, is heeded here.
fn write_retry(to: BorrowedFd<'_>, mut write: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        if stop_signal().is_some() {
            return Err(Errno::INTR);
        }
        match write() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut ready = [to, crate::os::signal::stop_event()?]
                    .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT | PollFlags::IN));
                match poll(&mut ready, None) {
                    Ok(_) | Err(Errno::INTR) => {} // the next write, or the signal, tells
                    Err(error) => return Err(error),
                }
            }
            other => return other,
        }
    }
}
