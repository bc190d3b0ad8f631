//! The three standard streams, as the command uses them.
//!
//! Other processes share the open file descriptions of the standard streams. So a stream may be non-blocking, because programs
//! such as ssh and node leave it so. This module never changes that flag, because the change would affect the other processes.
//! Instead its reader and writer wait with poll(2) when the kernel reports `EAGAIN`.
//!
//! - [`output`] and [`errors`] write all bytes or return an error. They record lost output, so that the command does not report
//!   success: see [`Output::has_lost`].
//! - [`input`] reads.
//! - [`occupy_missing`] occupies the standard streams that were closed at the start. Otherwise a file that is opened later would
//!   become one of them.

use crate::os::flush::flush;
use crate::os::signal::stop_signal;
use crate::os::timeout::{NOW, timespec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io::{Error, ErrorKind, IsTerminal, Read, Result, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// The longest sleep before a wait checks for a stop signal again.
const POLL_INTERVAL: Timespec = timespec(Duration::from_millis(50));

/// The history of standard output and standard error: the bits `WROTE` and `LOST`, shifted by the number of the descriptor.
static HISTORY: AtomicU8 = AtomicU8::new(0);
/// A write succeeded.
const WROTE: u8 = 1;
/// A write failed.
const LOST: u8 = 1 << 4;

/// A writer to standard output or standard error, without a buffer. Each call is one write(2), unless it has to wait.
#[derive(Clone, Copy, Debug)]
pub struct Output(RawFd);

/// A reader of standard input, without a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Input(());

/// Returns a writer to standard output.
pub fn output() -> Output {
    Output(1)
}

/// Returns a writer to standard error.
pub fn errors() -> Output {
    Output(2)
}

/// Returns a reader of standard input.
pub fn input() -> Input {
    Input(())
}

impl Output {
    /// Returns whether the stream is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.as_fd().is_terminal()
    }

    /// Returns whether a write to the stream has succeeded.
    pub fn was_written(&self) -> bool {
        self.has(WROTE)
    }

    /// Returns whether output to the stream was lost.
    ///
    /// Two failed writes do not count as lost. In the first, the reader of a pipe has closed its end. In the second, standard error
    /// was closed when the process started.
    pub fn has_lost(&self) -> bool {
        self.has(LOST)
    }

    /// Reports an error that a file system reports only when a descriptor is closed, such as a full disk or an exceeded quota.
    ///
    /// # Errors
    /// The file system has not accepted all of the written bytes.
    ///
    /// # Blocking
    /// Blocks as long as [`flush`] does.
    pub fn finish(self) -> Result<()> {
        let finished = flush(self.as_fd()).map_err(Error::from);
        self.record(&finished);
        finished
    }

    fn has(self, bit: u8) -> bool {
        HISTORY.load(Ordering::Relaxed) & (bit << self.0) != 0
    }

    fn record<T>(self, result: &Result<T>) {
        let bit = match result {
            Ok(_) => WROTE,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return,
            Err(error) if self.0 == 2 && is_closed(error) => return,
            Err(_) => LOST,
        };
        HISTORY.fetch_or(bit << self.0, Ordering::Relaxed);
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.0 {
            1 => rustix::stdio::stdout(),
            _ => rustix::stdio::stderr(),
        }
    }
}

impl Write for Output {
    /// Writes bytes, and returns how many the stream has taken.
    ///
    /// # Blocking
    /// Blocks until the stream takes at least one byte, or until the process receives a stop signal.
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = wait(self.as_fd(), PollFlags::OUT, || rustix::io::write(*self, bytes));
        self.record(&written);
        written
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Input {
    /// Returns whether the stream is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.as_fd().is_terminal()
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        rustix::stdio::stdin()
    }
}

impl Read for Input {
    /// Reads bytes, and returns their number. 0 means the end of the stream.
    ///
    /// # Blocking
    /// Blocks until the stream has bytes or ends, or until the process receives a stop signal.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        wait(self.as_fd(), PollFlags::IN, || rustix::io::read(*self, &mut *buffer))
    }
}

/// Waits until the stream is ready, then makes the call. Repeats this while the call returns `EINTR` or `EAGAIN`.
///
/// A blocking stream is polled first too. Otherwise a stop signal that arrives just before the call would not end it, and the call
/// would block.
///
/// # Errors
/// The error of the call, or an error of the kind `Other` if a stop signal has ended the wait.
fn wait(
    stream: BorrowedFd<'_>,
    readiness: PollFlags,
    mut call: impl FnMut() -> rustix::io::Result<usize>,
) -> Result<usize> {
    loop {
        let is_stopped = stop_signal().is_some();
        let timeout = if is_stopped { &NOW } else { &POLL_INTERVAL };
        match poll(&mut [PollFd::from_borrowed_fd(stream, readiness)], Some(timeout)) {
            // The kind is not `Interrupted`, because the loops of the standard library would then try again forever.
            Ok(0) if is_stopped => return Err(Error::other("interrupted by a signal")),
            Ok(0) | Err(Errno::INTR) => continue,
            // If poll(2) fails, the error of the call is the better one.
            Ok(_) | Err(_) => {}
        }
        match call() {
            Err(Errno::INTR | Errno::AGAIN) => {}
            other => return other.map_err(Error::from),
        }
    }
}

/// Returns whether an error means that the stream was closed before this process started.
fn is_closed(error: &Error) -> bool {
    error.raw_os_error() == Some(Errno::BADF.raw_os_error())
}

/// Describes why a standard stream cannot be read or written.
pub fn reason(error: &Error) -> String {
    if is_closed(error) { "it is closed".into() } else { crate::os::error::reason_of(error) }
}

/// Opens a placeholder for each standard stream that is closed, so that a file that is opened later cannot become that stream.
/// Using a placeholder fails with `EBADF`, as using a closed stream does.
///
/// The program calls this before the runtime of the standard library starts. That runtime would open `/dev/null` instead, so that
/// output to a closed stream would be lost without an error. If `/dev/null` is missing, the runtime aborts without a message. So
/// this function uses nothing that needs the runtime.
pub fn occupy_missing() {
    // The kernel opens the lowest free number. In ascending order, that is always the number of the missing stream.
    for (number, flags) in [(0, OFlags::WRONLY), (1, OFlags::RDONLY), (2, OFlags::RDONLY)] {
        // SAFETY: the borrow serves only one call, which fails with `EBADF` if the number is not open. No code closes the number
        // meanwhile.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        if rustix::io::fcntl_getfd(stream) != Err(Errno::BADF) {
            continue;
        }
        let opened = rustix::fs::open("/dev/null", flags, Mode::empty());
        if let Ok(opened) = opened.or_else(|_| wrong_end_of_pipe(number)) {
            let _ = opened.into_raw_fd(); // stays open until the process ends
        }
    }
}

/// Opens the end of a pipe that refuses the use of this standard stream. It is the placeholder if `/dev/null` is
/// missing.
fn wrong_end_of_pipe(number: RawFd) -> rustix::io::Result<OwnedFd> {
    let (reader, writer) = rustix::pipe::pipe()?;
    let (kept, other) = if number == 0 { (writer, reader) } else { (reader, writer) };
    drop(other);
    if kept.as_raw_fd() == number { Ok(kept) } else { rustix::io::dup(&kept) }
}
