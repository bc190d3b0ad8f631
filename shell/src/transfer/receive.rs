//! One stream into one file or descriptor: writes what arrives, compares it with the end record, and gives the file its name.

use super::checksum::{Checksum, Sum};
use super::destination::{Destination, DestinationError, Warning};
use crate::channel::ReceiveError;
use crate::channel::transport::payload::{Payload, Taken};
use crate::os::flush::flush;
use crate::os::signal::{stop_event, stop_signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use whorl_core::error::End;

/// The destination of the bytes.
enum Target<'t> {
    File(Destination<'t>),
    /// A descriptor that cannot be read back, with the checksum of the written bytes, if one is wanted.
    Stream(OwnedFd, Option<Box<Checksum>>),
}

/// The output of one receiver.
pub(super) struct Output<'t> {
    target: Target<'t>,
    scratch: Vec<u8>,
    written: u64,
}

/// Why a stream was not received whole.
#[derive(Debug)]
pub(super) enum ReceiveFailure {
    /// The stream broke off.
    Receive(ReceiveError),
    /// The file cannot be written.
    File(DestinationError),
    /// The descriptor cannot be written.
    Stream(Errno),
    /// The stream has another length than the sender says.
    Length { arrived: u64, sent: u64 },
    /// The stream has another checksum than the sender says.
    Checksum,
    /// The sender gives no checksum.
    NoChecksum,
    /// A signal asked this process to stop.
    Interrupted,
}

impl From<ReceiveError> for ReceiveFailure {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Interrupted => Self::Interrupted,
            error => Self::Receive(error),
        }
    }
}

impl From<DestinationError> for ReceiveFailure {
    fn from(error: DestinationError) -> Self {
        match stop_signal() {
            Some(_) => Self::Interrupted,
            None => Self::File(error),
        }
    }
}

impl From<Errno> for ReceiveFailure {
    fn from(error: Errno) -> Self {
        match error {
            Errno::INTR => Self::Interrupted,
            error => Self::Stream(error),
        }
    }
}

/// What the receiver requires of the end record.
#[derive(Clone, Copy, Default)]
pub(super) struct Comparison {
    /// The receiver joined after the first byte, so it cannot know what it missed.
    pub is_partial: bool,
    /// A stream without a checksum is an error.
    pub needs_checksum: bool,
}

/// A stream that was received whole.
pub(super) struct Received {
    pub checksum: Option<Sum>,
    /// What is missing of the complete file.
    pub warnings: Vec<Warning>,
}

impl<'t> Output<'t> {
    /// Returns an output into a file, which gets its name in [`conclude`](Self::conclude).
    pub(super) fn file(file: Destination<'t>) -> Self {
        Self { target: Target::File(file), scratch: Vec::new(), written: 0 }
    }

    /// Returns an output into a pipe or another descriptor, with or without a checksum of the written bytes.
    pub(super) fn stream(to: OwnedFd, sums: bool) -> Self {
        grow_pipe(to.as_fd());
        Self { target: Target::Stream(to, sums.then(Box::default)), scratch: Vec::new(), written: 0 }
    }

    /// Returns how many bytes were written, holes included.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Writes everything up to the end record. `next` takes one payload, and passes it to [`put`](Self::put).
    ///
    /// # Errors
    /// The reason that the stream or the output broke off.
    pub(super) fn receive(
        &mut self,
        mut next: impl FnMut(&mut Self) -> Result<Taken<()>, ReceiveFailure>,
    ) -> Result<End, ReceiveFailure> {
        loop {
            if stop_signal().is_some() {
                return Err(ReceiveFailure::Interrupted);
            }
            if let Taken::End(end) = next(self)? {
                return Ok(end);
            }
        }
    }

    /// Appends one payload.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn put(&mut self, payload: &Payload<'_>) -> Result<(), ReceiveFailure> {
        match &mut self.target {
            Target::File(file) => file.put(payload)?,
            Target::Stream(to, sum) => match payload {
                Payload::Hole(length) => zeros(to.as_fd(), *length, sum.as_deref_mut())?,
                stored => {
                    if let Some(sum) = sum {
                        add_to_sum(sum, stored, &mut self.scratch)?;
                    }
                    let mut done = 0;
                    while done < stored.stored() {
                        done += write_retry(to.as_fd(), || stored.write_to(to.as_fd(), done, None))?;
                    }
                }
            },
        }
        self.written = self.written.saturating_add(payload.length());
        Ok(())
    }

    /// Compares the stream with the end record. Only a file that matches gets its name, after the times and attributes
    /// of `model`.
    ///
    /// # Errors
    /// It does not match, or the output cannot be completed.
    pub(super) fn conclude(
        self,
        end: End,
        comparison: Comparison,
        model: Option<BorrowedFd<'_>>,
    ) -> Result<Received, ReceiveFailure> {
        let Comparison { is_partial, needs_checksum } = comparison;
        if !is_partial && self.written != end.total {
            return Err(ReceiveFailure::Length { arrived: self.written, sent: end.total });
        }
        let sent = end.checksum.filter(|_| !is_partial);
        if needs_checksum && !is_partial && sent.is_none() {
            return Err(ReceiveFailure::NoChecksum);
        }
        match self.target {
            Target::File(mut file) => {
                let checksum = sent.map(|_| file.checksum()).transpose()?;
                if checksum != sent {
                    return Err(ReceiveFailure::Checksum);
                }
                let mut warnings = model.map_or(Ok(Vec::new()), |model| file.preserve(model))?;
                warnings.extend(file.commit()?);
                Ok(Received { checksum, warnings })
            }
            Target::Stream(to, sum) => {
                if let (Some(sum), Some(sent)) = (&sum, sent)
                    && sum.finish() != sent
                {
                    return Err(ReceiveFailure::Checksum);
                }
                flush(to)?;
                Ok(Received { checksum: sent, warnings: Vec::new() })
            }
        }
    }
}

/// Gives a pipe room for more than one block. Otherwise its two sides take turns for each block, and that costs more
/// than copying. If this user has too many large pipes, the pipe stays as it is.
pub(super) fn grow_pipe(pipe: BorrowedFd<'_>) {
    const ROOM: usize = 1 << 18;
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|room| room < ROOM) {
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, ROOM);
    }
}

fn add_to_sum(
    sum: &mut Checksum,
    payload: &Payload<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(), ReceiveFailure> {
    match payload {
        Payload::Shared(shared) => {
            scratch.resize(shared.len(), 0);
            shared.copy_to(scratch).map_err(|_| ReceiveError::Corrupt)?;
            sum.update(scratch);
        }
        Payload::Bytes(bytes) => sum.update(bytes),
        Payload::Hole(length) => sum.update_zeros(*length),
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

/// Writes once, to a descriptor that may not be ready. If a signal came during the previous write, which wrote some
/// bytes, this returns here.
fn write_retry(to: BorrowedFd<'_>, mut write: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        if stop_signal().is_some() {
            return Err(Errno::INTR);
        }
        match write() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut ready = [to, stop_event()?]
                    .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT | PollFlags::IN));
                match poll(&mut ready, None) {
                    Ok(_) | Err(Errno::INTR) => {} // the next write or the check of the signal decides
                    Err(error) => return Err(error),
                }
            }
            other => return other,
        }
    }
}
