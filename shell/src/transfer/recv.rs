//! Receiving a named channel into a file or a descriptor.

use super::destination::{Destination, DestinationError, Warning, WriteOptions, open_directory};
use super::receive::{Comparison, Output, ReceiveFailure};
use crate::channel::transport::payload::Deadline;
use crate::channel::{JoinError, ReceiveError, Receiver, ReceiverOptions};
use crate::os::deadline;
use crate::os::file::path_of;
use crate::os::new_file::{check_keep, part_name, token};
use crate::os::output::{Descriptor, Output as OutputPath, OutputError};
use crate::os::signal::stop_signal;
use crate::registry::protocol::Start;
use crate::registry::{Name, RuntimeDir, RuntimeError};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// The plan of a receiver.
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
    /// How the file is made; `verify` requires a checksum.
    pub write: WriteOptions,
}

/// Why nothing, or not everything, was received.
#[derive(Debug, Error)]
pub enum RecvError {
    /// The runtime directory cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The channel could not be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The stream broke off.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The target cannot be made or written.
    #[error("{}: {error}", crate::os::escape::shown(.path), error = .error)]
    Target {
        /// The path of the target.
        path: PathBuf,
        /// The reason.
        error: DestinationError,
    },
    /// The target cannot be opened or written.
    #[error("{}: {}", crate::os::escape::shown(.path), crate::os::error::reason(*.error))]
    Output {
        /// The path of the target.
        path: PathBuf,
        /// The error of the system call.
        error: Errno,
    },
    /// The file system has no way to keep an existing file.
    #[error("{}: {}", crate::os::escape::shown(.0), crate::os::new_file::CANNOT_KEEP)]
    CannotKeep(PathBuf),
    /// The target leads to a file that is never written.
    #[error("{}: {error}", crate::os::escape::shown(.path), error = .error)]
    Refused {
        /// The path of the target.
        path: PathBuf,
        /// The reason.
        error: OutputError,
    },
    /// The stream has another length than the sender reports.
    #[error("{arrived} bytes arrived of {sent} that were sent")]
    Length {
        /// Bytes that arrived.
        arrived: u64,
        /// Bytes that the sender counted.
        sent: u64,
    },
    /// The stream has another checksum than the sender reports.
    #[error("what arrived has another checksum than what was sent")]
    Checksum,
    /// A checksum is required, and the sender sends none.
    #[error("the sender sends no checksum; start 'shell send' with --verify")]
    NoChecksum,
    /// The reader of the output has closed it.
    #[error("the output was closed")]
    Closed,
    /// A signal asked this process to stop.
    #[error("interrupted")]
    Interrupted,
}

/// The result of a receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Bytes of the stream.
    pub bytes: u64,
    /// What is missing of the complete file.
    pub warning: Option<Warning>,
}

/// Receives a whole stream.
///
/// # Blocking
/// Until a sender takes the name and its stream ends. Calls `waiting` once if there is no sender yet.
///
/// # Errors
/// The reason that the stream is not whole. Then a file does not get its name.
pub fn recv(plan: &RecvPlan, waiting: impl FnOnce()) -> Result<Receipt, RecvError> {
    let target = Target::of(&plan.target)?;
    let output = target.open(plan)?;
    let mut options = ReceiverOptions::new().start(plan.start).confirms(true);
    if let Some(timeout) = plan.timeout {
        options = options.timeout(timeout);
    }
    let mut receiver = Receiver::join_in(&RuntimeDir::open()?, &plan.name, &options, waiting)?;
    let result = receive(plan, &mut receiver, output).map_err(|failure| RecvError::of(failure, plan));
    match &result {
        Ok(_) => receiver.confirm(),
        Err(RecvError::Closed) => {} // dropping it leaves the channel
        Err(_) => receiver.give_up(),
    }
    result
}

fn receive(
    plan: &RecvPlan,
    receiver: &mut Receiver,
    mut output: Output<'_>,
) -> Result<Receipt, ReceiveFailure> {
    let end = output.receive(|output| {
        let deadline = plan.timeout.map(deadline::after);
        receiver.take(Deadline::Until(deadline), true, |payload| output.put(&payload))
    })?;
    let bytes = output.written();
    let comparison = Comparison { is_partial: plan.start != Start::First, needs_checksum: plan.write.verify };
    let mut received = output.conclude(end, comparison, None)?;
    Ok(Receipt { bytes, warning: received.warnings.pop() })
}

impl RecvError {
    fn of(failure: ReceiveFailure, plan: &RecvPlan) -> Self {
        match failure {
            ReceiveFailure::Receive(error) => Self::Receive(error),
            ReceiveFailure::File(error) => Self::Target { path: plan.target.clone(), error },
            ReceiveFailure::Stream(Errno::PIPE) => Self::Closed,
            ReceiveFailure::Stream(error) => {
                let is_standard = plan.target == Path::new("-");
                let path = if is_standard { "standard output".into() } else { plan.target.clone() };
                Self::Output { path, error }
            }
            ReceiveFailure::Length { arrived, sent } => Self::Length { arrived, sent },
            ReceiveFailure::Checksum => Self::Checksum,
            ReceiveFailure::NoChecksum => Self::NoChecksum,
            ReceiveFailure::Interrupted => Self::Interrupted,
        }
    }
}

/// The destination of the bytes, with everything that must live as long as the output.
enum Target {
    Stdout,
    /// A file that is not regular. It is written in place.
    Special(OwnedFd),
    /// A descriptor that is open already: it is written from its position.
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
        // Opened only to check it. The later write goes to the checked file, even if the name then leads to another
        // one.
        match OutputPath::find(CWD, path) {
            Ok(OutputPath::Name) => {}
            Ok(OutputPath::Directory) => return Err(failed(Errno::ISDIR)),
            Ok(OutputPath::Special(_) | OutputPath::Descriptor(_))
                if path.as_os_str().as_bytes().ends_with(b"/") => {}
            Ok(OutputPath::Special(found)) => return Ok(Self::Special(found)),
            Ok(OutputPath::Descriptor(found)) => return Ok(Self::Descriptor(found)),
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
        let sums = plan.write.verify;
        Ok(match self {
            Self::Stdout => {
                let stdout = rustix::stdio::stdout().try_clone_to_owned();
                let to = stdout.map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::BADF)));
                Output::stream(to?, sums)
            }
            Self::Special(found) => Output::stream(open_special(found, OFlags::empty(), failed)?, sums),
            Self::Descriptor(found) => {
                let to = match found.duplicate(OFlags::WRONLY).map_err(failed)? {
                    Some(own) => own,
                    // A file behind another process's descriptor is written as `cat > FILE` does it.
                    None => open_special(&found.file, OFlags::TRUNC, failed)?,
                };
                Output::stream(to, sums)
            }
            Self::File { directory, name, part } => {
                let (name, part): (&OsStr, &OsStr) = (name, part);
                if plan.write.no_clobber {
                    check_keep(directory.as_fd(), &token()).map_err(|error| match error {
                        Errno::OPNOTSUPP => RecvError::CannotKeep(plan.target.clone()),
                        error => failed(error),
                    })?;
                }
                let new = Mode::from_raw_mode(0o666); // less the umask, like every new file
                let file = Destination::create(directory.as_fd(), name, part, new, plan.write);
                Output::file(file.map_err(|error| RecvError::Target { path: plan.target.clone(), error })?)
            }
        })
    }
}

/// Opens a checked file for writing. On a FIFO the call waits until another process reads it.
fn open_special(
    found: &OwnedFd,
    more: OFlags,
    failed: impl FnOnce(Errno) -> RecvError,
) -> Result<OwnedFd, RecvError> {
    let flags = more | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    loop {
        match rustix::fs::open(path_of(found.as_fd()), flags, Mode::empty()) {
            Err(Errno::INTR) if stop_signal().is_some() => return Err(RecvError::Interrupted),
            Err(Errno::INTR) => {}
            other => return other.map_err(failed),
        }
    }
}
