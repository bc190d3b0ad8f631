//! Sending a source through a ring: one block of the source in each message.

use super::source::{Chunk, HashingReader, SourceError};
use crate::channel::control::peers::PeerTable;
use crate::channel::{SendError, Sender};
use crate::os::deadline;
use crate::os::error::OsError;
use crate::os::signal::stop_signal;
use std::time::{Duration, Instant};
use whorl_core::ring::ClaimSize;

/// Why a source was not sent to its end.
#[derive(Debug)]
pub(super) enum SendFailure {
    Source(SourceError),
    Send(SendError),
    /// A line is longer than the longest message.
    LineTooLong {
        number: u64,
        most: usize,
    },
    /// The last receiver has left.
    NoReceivers,
    /// A signal asked this process to stop.
    Interrupted,
    System(OsError),
}

impl From<SendError> for SendFailure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Interrupted => Self::Interrupted,
            error => Self::Send(error),
        }
    }
}

impl From<OsError> for SendFailure {
    fn from(error: OsError) -> Self {
        Self::System(error)
    }
}

/// Sends everything up to the end of the source, which the caller publishes.
///
/// # Blocking
/// On the source, and on the slowest receiver.
///
/// # Errors
/// The source failed; the last receiver left, and the sender needs one; no receiver moved for `timeout`; a signal came;
/// or another process asked the channel to end.
pub(super) fn send_blocks(
    sender: &mut Sender,
    source: &mut HashingReader<'_>,
    block: u32,
    needs_receivers: bool,
    timeout: Option<Duration>,
) -> Result<(), SendFailure> {
    let peers = sender.peers().clone();
    let size = size_of_claim(source.is_file(), block, sender.max_message_len());
    loop {
        if stop_signal().is_some() {
            return Err(SendFailure::Interrupted);
        }
        wait_while_moving(timeout, sender, |sender, deadline| sender.wait_for_space(size, deadline))?;
        if needs_receivers && !peers.has_receivers() {
            return Err(SendFailure::NoReceivers);
        }
        let mut claim = sender.try_claim_size(size)?;
        match source.next(claim.buffer(), peers.cancelled()) {
            Ok(Chunk::Bytes(count)) => claim.publish(count),
            Ok(Chunk::Hole(length)) => claim.publish_hole(length),
            Ok(Chunk::End) => return Ok(()),
            Err(SourceError::Interrupted) => check_interrupted(&peers)?,
            Err(error) => return Err(SendFailure::Source(error)),
        }
    }
}

/// Finds out why reading the source was interrupted.
///
/// # Errors
/// A signal came, or another process asked the channel to end.
pub(super) fn check_interrupted(peers: &PeerTable) -> Result<(), SendFailure> {
    if stop_signal().is_some() {
        return Err(SendFailure::Interrupted);
    }
    if peers.is_asked_to_stop() {
        return Err(SendError::Stopped.into());
    }
    // The last receiver left. The next round checks whether another one has joined since.
    peers.cancel_event().drain();
    Ok(())
}

/// Returns what the sender claims for a block. A block of whole pages of a file is aligned to pages, so that receivers can
/// write it past the page cache. A stream comes in pieces, and takes what the ring has before its end.
fn size_of_claim(is_file: bool, block: u32, most: usize) -> ClaimSize {
    const PAGE: u32 = 4096;
    let block = block.min(most as u32);
    match is_file {
        true if block.is_multiple_of(PAGE) && (block + PAGE) as usize <= most => {
            ClaimSize::exactly(block).aligned(PAGE)
        }
        true => ClaimSize::exactly(block),
        false => ClaimSize::between(block.min(PAGE), block),
    }
}

/// Waits for receivers until none has moved for `timeout`. They may be slow, but they must move.
pub(super) fn wait_while_moving(
    timeout: Option<Duration>,
    sender: &mut Sender,
    mut wait: impl FnMut(&mut Sender, Option<Instant>) -> Result<(), SendError>,
) -> Result<(), SendError> {
    let Some(timeout) = timeout else { return wait(sender, None) };
    // Usually there is nothing to wait for, so this does not compute the receivers' positions first.
    let mut deadline = Instant::now();
    let mut lag = None;
    loop {
        match wait(sender, Some(deadline)) {
            Err(SendError::TimedOut) if lag != Some(sender.lag()) => lag = Some(sender.lag()),
            other => return other,
        }
        deadline = deadline::after(timeout);
    }
}
