//! A worker's view of the shared mailboxes, with a bound on every wait.
//!
//! A stopped program that is attached to the shared memory may hold a mailbox's lock for as long as it is stopped. A
//! request for that mailbox then gets `err fault` after one wait. Until the mailbox is free again, no other request
//! waits for it for long. So the worker's other clients hardly notice.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::out_buffer::OutBuffer;
use super::reply::Fault;
use super::session::MailboxStore;
use crate::shm::mailboxes::{MailboxError, Mailboxes};
use whorl_core::error::{LockError, MailReadError};

/// How long to wait for a mailbox, plus a second for each [`BYTES`] of its capacity, because other processes copy
/// inside.
const TIMEOUT: Duration = Duration::from_millis(500);
const BYTES: u64 = 256 << 20;
/// How long to wait for a mailbox whose last wait failed.
const SHORT_TIMEOUT: Duration = Duration::from_millis(1);
/// How long to pause if the library refuses the wait because the program is asked to stop.
const PAUSE: Duration = Duration::from_micros(200);

/// Mailboxes whose numbers agree modulo this share a guess of the next message's length.
const GUESSES: usize = 64;
/// The largest guess. Unused room costs time, because it is made by writing to it.
const GUESSED: usize = 128 << 10;

/// The mailboxes, for one worker.
#[derive(Debug)]
pub(crate) struct SharedMailboxes {
    mailboxes: Mailboxes,
    timeout: Duration,
    busy: HashSet<u32>,
    /// The last reply's head.
    line: OutBuffer,
    /// The lengths of the messages that were read last.
    sizes: [usize; GUESSES],
}

impl SharedMailboxes {
    /// Returns a worker's view, with a seat of its own.
    pub(crate) fn new(mailboxes: Mailboxes) -> Self {
        let copying = Duration::from_secs(1).mul_f64(mailboxes.capacity() as f64 / BYTES as f64);
        Self {
            mailboxes,
            timeout: TIMEOUT + copying,
            busy: HashSet::new(),
            line: OutBuffer::default(),
            sizes: [0; GUESSES],
        }
    }

    fn attempt<R>(
        &mut self,
        mailbox: u32,
        mut act: impl FnMut(&mut Mailboxes, Instant) -> Result<R, MailboxError>,
    ) -> Result<R, Fault> {
        let known = !self.busy.is_empty() && self.busy.contains(&mailbox);
        let deadline = Instant::now() + if known { SHORT_TIMEOUT } else { self.timeout };
        loop {
            let why = match act(&mut self.mailboxes, deadline) {
                Ok(done) => {
                    if known {
                        self.busy.remove(&mailbox);
                    }
                    return Ok(done);
                }
                Err(why) => why,
            };
            match why.lock_error() {
                Some(LockError::Interrupted) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Some(_) => {
                    self.busy.insert(mailbox);
                    return Err(Fault::Busy);
                }
                None if matches!(why, MailboxError::Memory(_)) => return Err(Fault::Memory),
                None => return Err(Fault::Damaged),
            }
        }
    }
}

impl MailboxStore for SharedMailboxes {
    fn version(&mut self, mailbox: u32) -> Result<u64, Fault> {
        self.mailboxes.version(mailbox).map_err(|_| Fault::Damaged)
    }

    /// Copies the message once, straight to its place in `out`, behind room for a head as long as the last one. If that
    /// guess was wrong, moves the message.
    fn read(
        &mut self,
        mailbox: u32,
        out: &mut OutBuffer,
        mut head: impl FnMut(&mut OutBuffer, u64, usize),
    ) -> Result<(), Fault> {
        let start = out.len();
        let mut line = std::mem::take(&mut self.line);
        let at = start + line.len();
        let last = mailbox as usize % GUESSES;
        let mut size = self.sizes[last];
        let done = self.attempt(mailbox, |mailboxes, deadline| {
            loop {
                out.truncate(start);
                // Plus the line end.
                out.room(line.len() + size + 1).map_err(|_| MailboxError::Memory(size))?;
                match mailboxes.read_into(mailbox, &mut out[at..at + size], Some(deadline)) {
                    Err(MailboxError::Read(MailReadError::TooShort(needed))) if needed > size => {
                        size = needed
                    }
                    other => return other,
                }
            }
        });
        let done = done.and_then(|(version, length)| {
            out.truncate(at + length);
            self.sizes[last] = length.min(GUESSED);
            line.clear();
            head(&mut line, version, length);
            let behind = start + line.len();
            if behind != at {
                let more = line.len().saturating_sub(at - start);
                out.room(more).map_err(|_| Fault::Memory)?;
                out.copy_within(at..at + length, behind);
                out.truncate(behind + length);
            }
            out[start..behind].copy_from_slice(&line);
            Ok(())
        });
        self.line = line;
        done
    }

    fn write(&mut self, mailbox: u32, message: &[u8]) -> Result<u64, Fault> {
        self.attempt(mailbox, |mailboxes, deadline| mailboxes.write_until(mailbox, message, Some(deadline)))
    }
}
