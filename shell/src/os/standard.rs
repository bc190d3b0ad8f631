//! The three standard streams, as the command uses them.
//!
//! Standard streams belong to open file descriptions that other processes share. So any of them may be non-blocking
//! (ssh and node leave them so), and the flag is never changed here: it would change for the others too. Instead the
//! reader and the writer of this module wait with poll(2) when the kernel says `EAGAIN`.
//!
//! - [`output`] and [`errors`] write everything or say why not. What was lost is remembered, so that the command does
//!   not end in success: see [`Output::has_lost`].
//! - [`input`] reads.
//! - [`occupy_missing`] keeps a file that is opened later from becoming a standard stream that was closed at the start.

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

/// The longest sleep before the stop signal is looked at again.
const POLL_INTERVAL: Timespec = timespec(Duration::from_millis(50));

/// What happened to standard output and standard error: bits of `WROTE` and `LOST`, shifted by the descriptor.
static HISTORY: AtomicU8 = AtomicU8::new(0);
/// Something was written.
const WROTE: u8 = 1;
/// Something could not be written.
const LOST: u8 = 1 << 4;

/// A writer to standard output or standard error, without a buffer: one call writes everything, in one write(2) where
/// the kernel takes it whole.
#[derive(Clone, Copy, Debug)]
pub struct Output(RawFd);

/// A reader of standard input, without a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Input(());

/// Standard output.
pub fn output() -> Output {
    Output(1)
}

/// Standard error.
pub fn errors() -> Output {
    Output(2)
}

/// Standard input.
pub fn input() -> Input {
    Input(())
}

impl Output {
    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.as_fd().is_terminal()
    }

    /// Whether something was written to it.
    pub fn was_written(&self) -> bool {
        self.has(WROTE)
    }

    /// Whether something that was written to it was lost. A reader that closed its end wanted no more, so that is no
    /// loss; neither is a message to a standard error that was closed from the start.
    pub fn has_lost(&self) -> bool {
        self.has(LOST)
    }

    /// Reports what a file system tells only when a descriptor is closed: that the disk is full, or over quota.
    ///
    /// # Errors
    /// What was written to it did not all arrive.
    pub fn finish(self) -> Result<()> {
        let finished = flush(self.as_fd()).map_err(Error::from);
        self.note(&finished);
        finished
    }

    fn has(self, what: u8) -> bool {
        HISTORY.load(Ordering::Relaxed) & (what << self.0) != 0
    }

    fn note<T>(self, result: &Result<T>) {
        let what = match result {
            Ok(_) => WROTE,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return,
            Err(error) if self.0 == 2 && is_closed(error) => return,
            Err(_) => LOST,
        };
        HISTORY.fetch_or(what << self.0, Ordering::Relaxed);
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
    /// Writes some bytes.
    ///
    /// # Blocking
    /// Until the stream takes some. A signal that asks this process to stop ends the wait.
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = wait(self.as_fd(), PollFlags::OUT, || rustix::io::write(*self, bytes));
        self.note(&written);
        written
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Input {
    /// Whether it is a terminal.
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
    /// Reads some bytes; 0 is the end.
    ///
    /// # Blocking
    /// Until there are some. A signal that asks this process to stop ends the wait.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        wait(self.as_fd(), PollFlags::IN, || rustix::io::read(*self, &mut *buffer))
    }
}

/// Calls when the stream is ready, until the call is neither interrupted nor told to come again later.
///
/// Also a blocking stream is asked with poll(2) first. Otherwise a signal that comes before the call would be noted, and the
/// call would block all the same.
fn wait(
    on: BorrowedFd<'_>,
    until: PollFlags,
    mut call: impl FnMut() -> rustix::io::Result<usize>,
) -> Result<usize> {
    loop {
        let is_stopped = stop_signal().is_some();
        let patience = if is_stopped { &NOW } else { &POLL_INTERVAL };
        match poll(&mut [PollFd::from_borrowed_fd(on, until)], Some(patience)) {
            // Not `Interrupted`: the standard library's loops would begin again, without end.
            Ok(0) if is_stopped => return Err(Error::other("interrupted by a signal")),
            Ok(0) | Err(Errno::INTR) => continue,
            // Where poll(2) fails, the call tells why.
            Ok(_) | Err(_) => {}
        }
        match call() {
            Err(Errno::INTR | Errno::AGAIN) => {}
            other => return other.map_err(Error::from),
        }
    }
}

/// Whether an error says that the stream was closed before this process was started.
pub fn is_closed(error: &Error) -> bool {
    error.raw_os_error() == Some(Errno::BADF.raw_os_error())
}

/// Why a standard stream cannot be read or written, in words.
pub fn reason(error: &Error) -> String {
    if is_closed(error) { "it is closed".into() } else { crate::os::error::reason_of(error) }
}

/// Occupies the standard streams that are closed, each with a descriptor that refuses its use with `EBADF`, as a closed
/// one does. Otherwise the next file that is opened would become a standard stream.
///
/// It has to run before the runtime of the standard library, which puts `/dev/null` there, so that output to a closed
/// stream would be lost without an error; and which aborts without a word where there is no `/dev/null`. So it uses
/// nothing that needs that runtime.
pub fn occupy_missing() {
    // In this order, so that the descriptor opened is the missing one: the lowest that is free.
    for (number, flags) in [(0, OFlags::WRONLY), (1, OFlags::RDONLY), (2, OFlags::RDONLY)] {
        // SAFETY: only asked whether it is open; the borrow ends before anything is closed.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        if rustix::io::fcntl_getfd(stream) != Err(Errno::BADF) {
            continue;
        }
        let opened = rustix::fs::open("/dev/null", flags, Mode::empty());
        if let Ok(opened) = opened.or_else(|_| wrong_end_of_pipe(number)) {
            let _ = opened.into_raw_fd(); // stays open as long as the process
        }
    }
}

/// The end of a pipe that does not do what this standard stream is for, as that stream: where there is no `/dev/null`.
fn wrong_end_of_pipe(number: RawFd) -> rustix::io::Result<OwnedFd> {
    let (reader, writer) = rustix::pipe::pipe()?;
    let (kept, other) = if number == 0 { (writer, reader) } else { (reader, writer) };
    drop(other);
    if kept.as_raw_fd() == number { Ok(kept) } else { rustix::io::dup(&kept) }
}
