//! Sending a source through a ring line by line: each line is a message, its newline included.

use super::send_loop::{SendFailure, check_interrupted, wait_while_moving};
use super::source::{Chunk, HashingReader, SourceError};
use crate::channel::{SendError, Sender};
use crate::os::signal::stop_signal;
use std::time::Duration;

/// The bytes that one read of the source asks for.
const READ: usize = 1 << 16;

/// Sends every line up to the end of the source, which the caller publishes. A last line without a newline is a message, too.
/// Receivers see the lines of one read together.
///
/// # Blocking
/// On the source, and on the slowest receiver.
///
/// # Errors
/// A line is longer than the longest message; else as [`send_blocks`](super::send_loop::send_blocks).
pub(super) fn send_lines(
    sender: &mut Sender,
    source: &mut HashingReader<'_>,
    needs_receivers: bool,
    timeout: Option<Duration>,
) -> Result<(), SendFailure> {
    let peers = sender.peers().clone();
    let mut lines = Lines { buffer: Vec::new(), length: 0, number: 1, most: sender.max_message_len() };
    loop {
        if stop_signal().is_some() {
            return Err(SendFailure::Interrupted);
        }
        if needs_receivers && !peers.has_receivers() {
            return Err(SendFailure::NoReceivers);
        }
        match source.next(lines.room(), peers.cancelled()) {
            Ok(Chunk::Bytes(count)) => lines.length += count,
            Ok(Chunk::Hole(zeros)) => lines.add_zeros(zeros)?,
            Ok(Chunk::End) => {
                lines.send(sender, true, timeout)?;
                sender.publish();
                return Ok(());
            }
            Err(SourceError::Interrupted) => check_interrupted(&peers)?,
            Err(error) => return Err(SendFailure::Source(error)),
        }
        lines.send(sender, false, timeout)?;
        sender.publish();
    }
}

/// What was read and is not sent yet: the beginning of a line, and the lines behind it.
struct Lines {
    buffer: Vec<u8>,
    /// The bytes of the buffer that were read.
    length: usize,
    /// The number of the first line in the buffer.
    number: u64,
    /// The longest message.
    most: usize,
}

impl Lines {
    /// Returns where the next bytes go.
    fn room(&mut self) -> &mut [u8] {
        if self.buffer.len() < self.length + READ {
            self.buffer.resize(self.length + READ, 0);
        }
        &mut self.buffer[self.length..]
    }

    /// Adds the zero bytes of a hole, which contain no newline.
    fn add_zeros(&mut self, zeros: u64) -> Result<(), SendFailure> {
        let length = self.length as u64 + zeros;
        // What was read ends with less than a line; the hole makes it a part of this one.
        if length > self.most as u64 {
            return Err(self.too_long());
        }
        self.length = length as usize;
        let behind = self.buffer.len().max(self.length);
        self.buffer.resize(behind, 0);
        self.buffer[self.length - zeros as usize..self.length].fill(0);
        Ok(())
    }

    /// Sends the complete lines, and with `all` the rest, too.
    fn send(&mut self, sender: &mut Sender, all: bool, timeout: Option<Duration>) -> Result<(), SendFailure> {
        let read = &self.buffer[..self.length];
        let mut start = 0;
        for line in read.split_inclusive(|&byte| byte == b'\n') {
            if line.len() > self.most {
                return Err(self.too_long());
            }
            if !line.ends_with(b"\n") && !all {
                break;
            }
            stage(sender, line, timeout)?;
            start += line.len();
            self.number += 1;
        }
        self.buffer.copy_within(start..self.length, 0);
        self.length -= start;
        Ok(())
    }

    fn too_long(&self) -> SendFailure {
        SendFailure::LineTooLong { number: self.number, most: self.most }
    }
}

/// Adds a line to the ring, and waits for room if there is none.
fn stage(sender: &mut Sender, line: &[u8], timeout: Option<Duration>) -> Result<(), SendFailure> {
    match sender.stage(line) {
        Err(SendError::Full) => {}
        other => return Ok(other?),
    }
    let size = sender.size_of(line)?;
    wait_while_moving(timeout, sender, |sender, deadline| sender.wait_for_space(size, deadline))?;
    Ok(sender.stage(line)?)
}
