//! One value behind the [seat lock](crate::rwlock): the latest message, which every participant may read.
//!
//! ```text
//! latest = 6      buffer 0: message 6   <- current: 6 is even
//!                 buffer 1: message 5, or whatever a writer has done of message 7
//! ```
//!
//! Messages have versions 1, 2, 3 and so on, 64 bits wide. Version 0 is the empty message of a fresh mailbox. Version v
//! lies in buffer v mod 2. A writer fills the buffer that is not current, with the message's length and the upper half
//! of its version beside it. Then it stores the lower half in `latest`: that one store is the *commit*. So a writer
//! that is killed at any point leaves either the old message whole or the new one, and no mailbox is ever poisoned. The
//! lock protects the readers of the old buffer: without it, the second of two quick writers would write into the buffer
//! that they read.
//!
//! A mailbox is not a queue. A reader sees from the version how many messages it missed.
//!
//! | name | one half | the other half |
//! |---|---|---|
//! | the lock's | a writer leaves | a reader or the next writer enters: everything below but the peek relies on it alone |
//! | *commit* | the writer stores `latest`, Release, after all else | a peek loads it, Acquire |
//! | *high* | the writer claims the lock, after the commit to the other buffer, fence, then stores a buffer's upper half | a peek loads it, Acquire, then looks at `latest` again |
//! | *changed* | commit, leave, fence, look for sleepers | announce, fence, peek ([`EventCount`]) |

use crate::error::{Corrupt, LockError, MailReadError, MailWriteError, WaitError};
use crate::event_count::EventCount;
use crate::host::{Futex, WaitResult};
use crate::rwlock::{self, Participant};
use crate::sync::{AtomicU32, Ordering};

type Deadline<P> = <<P as rwlock::Parts>::Host as Futex>::Deadline;

/// The words beside a mailbox's two buffers. Zeroed memory is a fresh mailbox. 128 bytes.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct MailboxHeader {
    /// The lower half of the current version. Its lowest bit says which buffer is current. Only the lock's owner
    /// changes it. *Commit*.
    latest: AtomicU32,
    _pad: u32,
    buffers: [BufferHeader; 2],
    _line: [u32; 8],
    /// Receives a notification after each commit.
    changed: EventCount,
}

/// The words beside one buffer. The lock's owner changes them while the other buffer is current.
#[repr(C)]
#[derive(Debug)]
struct BufferHeader {
    /// Bytes in the buffer. Relaxed: guarded by the lock.
    length: AtomicU32,
    /// The upper half of the version. *High*.
    high: AtomicU32,
}

impl BufferHeader {
    fn new() -> Self {
        Self { length: AtomicU32::new(0), high: AtomicU32::new(0) }
    }
}

impl MailboxHeader {
    /// Returns a fresh mailbox, which is zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self {
            latest: AtomicU32::new(0),
            _pad: 0,
            buffers: [BufferHeader::new(), BufferHeader::new()],
            _line: [0; 8],
            changed: EventCount::new(),
        }
    }

    /// Makes `version` the version of the empty message, instead of 0. Call it before any participant uses the mailbox.
    pub fn start_at(&self, version: u64) {
        // Relaxed: no other thread looks yet; handing the memory over orders it.
        self.buffer_header(version as u32).high.store((version >> 32) as u32, Ordering::Relaxed);
        self.latest.store(version as u32, Ordering::Relaxed);
    }

    /// Returns the version of the current message at one moment, for a caller outside the lock. It does not touch the
    /// lock.
    pub fn version(&self) -> u64 {
        let mut latest = self.latest.load(Ordering::Acquire); // Acquire: the peeking half of *commit*
        // Bounded: each round that fails has seen a commit. After 16 rounds any of the last few versions is a correct
        // answer.
        for _ in 0..16 {
            // Acquire: the peeking half of *high*. If a writer is filling this buffer again, the load below sees the
            // commit before it.
            let high = self.buffer_header(latest).high.load(Ordering::Acquire);
            // Acquire: *commit*, for the next round.
            let again = self.latest.load(Ordering::Acquire);
            if again == latest {
                return u64::from(high) << 32 | u64::from(latest);
            }
            latest = again;
        }
        u64::from(self.buffer_header(latest).high.load(Ordering::Relaxed)) << 32 | u64::from(latest)
    }

    /// Wakes the participants that wait for a newer message, if there are any. Call it after a commit.
    pub fn notify<F: Futex>(&self, futex: &F) {
        self.changed.notify(futex);
    }

    /// Wakes all participants that wait for a newer message. Call it after reclaiming a writer, which may have died
    /// between its commit and its notification.
    pub fn notify_all<F: Futex>(&self, futex: &F) {
        self.changed.notify_all(futex);
    }

    /// Waits for a message later than version `than`, and returns its version. It takes no part in the lock.
    ///
    /// # Blocking
    /// Waits for a writer, until `deadline`. If a writer dies between its commit and its wake, this call notices when a
    /// poll interval ends.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] or [`WaitError::Interrupted`].
    pub fn wait_newer<F: Futex>(
        &self,
        futex: &F,
        than: u64,
        deadline: Option<F::Deadline>,
    ) -> Result<u64, WaitError> {
        loop {
            let ticket = self.changed.prepare_wait();
            let version = self.version();
            if version > than {
                return Ok(version);
            }
            let verdict = match self.changed.wait(futex, ticket, deadline) {
                WaitResult::Woken | WaitResult::PollInterval => continue,
                WaitResult::TimedOut => WaitError::TimedOut,
                WaitResult::Interrupted => WaitError::Interrupted,
            };
            // A commit just before the deadline still counts.
            let version = self.version();
            return if version > than { Ok(version) } else { Err(verdict) };
        }
    }

    fn buffer_header(&self, version: u32) -> &BufferHeader {
        &self.buffers[buffer(version)]
    }

    /// Returns the current version, for a caller inside the lock. Relaxed: the lock guards it.
    fn current(&self) -> u64 {
        let latest = self.latest.load(Ordering::Relaxed);
        u64::from(self.buffer_header(latest).high.load(Ordering::Relaxed)) << 32 | u64::from(latest)
    }
}

/// Returns the buffer of a version. The lower half of the version is enough.
fn buffer(version: u32) -> usize {
    (version & 1) as usize
}

/// A mailbox's two buffers.
///
/// # Safety
/// - [`capacity`](Self::capacity) always returns the same number, at most 2^31.
pub unsafe trait Payload {
    /// Returns the length of each buffer in bytes.
    fn capacity(&self) -> usize;

    /// Copies a message into buffer `index`.
    ///
    /// # Safety
    /// - `index` is 0 or 1, `message` is not longer than the capacity;
    /// - the caller owns the mailbox's lock, and the other buffer is current.
    unsafe fn fill(&self, index: usize, message: &[u8]);

    /// Copies the beginning of buffer `index` to `into`.
    ///
    /// # Safety
    /// - `index` is 0 or 1, `into` is not longer than the capacity;
    /// - the caller is in the mailbox's lock as a reader or as a writer.
    unsafe fn copy(&self, index: usize, into: &mut [u8]);
}

/// The parts of a mailbox: the parts of its lock, and its own.
///
/// # Safety
/// - As [`rwlock::Parts`]: each method always returns the same part, and all of them are parts of one mailbox.
pub unsafe trait Parts: rwlock::Parts {
    /// The buffers.
    type Payload: Payload;

    /// Returns the words beside the buffers.
    fn header(&self) -> &MailboxHeader;
    /// Returns the buffers.
    fn payload(&self) -> &Self::Payload;
    /// Returns the event count that any of several mailboxes notifies, or `None` if this mailbox is the only one.
    fn any_changed(&self) -> Option<&EventCount> {
        None
    }
}

// SAFETY: each part is one of `P`'s.
unsafe impl<P: Parts> Parts for &P {
    type Payload = P::Payload;

    fn header(&self) -> &MailboxHeader {
        P::header(self)
    }
    fn payload(&self) -> &P::Payload {
        P::payload(self)
    }
    fn any_changed(&self) -> Option<&EventCount> {
        P::any_changed(self)
    }
}

/// A message that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The version of the message.
    pub version: u64,
    /// The length of the message. The reader's buffer holds this many bytes of it.
    pub length: usize,
}

/// A mailbox, as the occupant of one seat uses it.
#[derive(Debug)]
pub struct Mailbox<P: Parts> {
    participant: Participant<P>,
}

impl<P: Parts> Mailbox<P> {
    /// Makes the mailbox for the occupant of `seat`.
    ///
    /// # Safety
    /// - As [`Participant::new`].
    ///
    /// # Panics
    /// If `seat` does not exist.
    pub unsafe fn new(parts: P, seat: u32) -> Self {
        // SAFETY: by the caller's contract.
        Self { participant: unsafe { Participant::new(parts, seat) } }
    }

    /// Returns the most bytes that a message can have.
    pub fn capacity(&self) -> usize {
        self.parts().payload().capacity()
    }

    /// Copies the latest message to the beginning of `buffer`.
    ///
    /// # Blocking
    /// As [`Participant::read`].
    ///
    /// # Errors
    /// Why no message was read. `buffer` may then hold anything.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        deadline: Option<Deadline<P>>,
    ) -> Result<Message, MailReadError> {
        let guard = self.participant.read(deadline)?;
        copy_out(guard.parts(), buffer)
    }

    /// Reads like [`read`](Self::read), unless a writer owns the lock.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`LockError::Busy`].
    pub fn try_read(&mut self, buffer: &mut [u8]) -> Result<Message, MailReadError> {
        let guard = self.participant.try_read()?;
        copy_out(guard.parts(), buffer)
    }

    /// Replaces the latest message, and returns the version of the new one.
    ///
    /// # Blocking
    /// As [`Participant::write`].
    ///
    /// # Errors
    /// Why no message was written.
    pub fn write(&mut self, message: &[u8], deadline: Option<Deadline<P>>) -> Result<u64, MailWriteError> {
        self.write_by(message, |participant| participant.write(deadline))
    }

    /// Writes like [`write`](Self::write), unless another participant is in the lock or comes first.
    ///
    /// # Errors
    /// As [`write`](Self::write), and [`LockError::Busy`].
    pub fn try_write(&mut self, message: &[u8]) -> Result<u64, MailWriteError> {
        self.write_by(message, Participant::try_write)
    }

    /// Returns the version of the latest message. It takes no part in the lock.
    pub fn version(&self) -> u64 {
        self.parts().header().version()
    }

    /// Waits for a message later than version `than`; see [`MailboxHeader::wait_newer`].
    ///
    /// # Blocking
    /// Waits for a writer, until `deadline`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] or [`WaitError::Interrupted`].
    pub fn wait_newer(&self, than: u64, deadline: Option<Deadline<P>>) -> Result<u64, WaitError> {
        self.parts().header().wait_newer(self.parts().host(), than, deadline)
    }

    fn parts(&self) -> &P {
        self.participant.parts()
    }

    fn write_by(
        &mut self,
        message: &[u8],
        enter: impl FnOnce(&mut Participant<P>) -> Result<rwlock::WriteGuard<'_, P>, LockError>,
    ) -> Result<u64, MailWriteError> {
        if message.len() > self.capacity() {
            return Err(MailWriteError::TooLong);
        }
        let guard = enter(&mut self.participant)?;
        // SAFETY: this participant owns the lock, and the length was checked.
        let version = unsafe { fill(guard.parts(), message) };
        // SAFETY: this participant owns the lock, and has filled that version.
        unsafe { commit(guard.parts(), version) };
        drop(guard);
        // After leaving, so that the participants that this wakes find the lock free.
        let parts = self.parts();
        parts.header().notify(parts.host());
        // The fence in `notify` also orders this look.
        if let Some(changed) = parts.any_changed().filter(|changed| changed.has_waiters()) {
            changed.notify_all(parts.host());
        }
        Ok(version)
    }
}

/// Copies the current message to `buffer`. The caller is in the lock.
fn copy_out<P: Parts>(parts: &P, buffer: &mut [u8]) -> Result<Message, MailReadError> {
    let (header, payload) = (parts.header(), parts.payload());
    let version = header.current();
    let length = header.buffer_header(version as u32).length.load(Ordering::Relaxed) as usize; // Relaxed: guarded by the lock
    if length > payload.capacity() {
        return Err(Corrupt.into());
    }
    let buffer = buffer.get_mut(..length).ok_or(MailReadError::TooShort(length))?;
    // SAFETY: the index is 0 or 1, the length was checked, and the caller is in the lock.
    unsafe { payload.copy(self::buffer(version as u32), buffer) };
    Ok(Message { version, length })
}

/// Fills the buffer that is not current with the next message, and returns its version.
///
/// # Safety
/// - The caller owns the lock, and `message` is not longer than the capacity.
pub unsafe fn fill<P: Parts>(parts: &P, message: &[u8]) -> u64 {
    let header = parts.header();
    let version = header.current().wrapping_add(1);
    let buffer_header = header.buffer_header(version as u32);
    // Relaxed: the writer's half of *high* is the fence after the claim of the lock.
    buffer_header.high.store((version >> 32) as u32, Ordering::Relaxed);
    buffer_header.length.store(message.len() as u32, Ordering::Relaxed); // Relaxed: guarded by the lock
    // SAFETY: the index is 0 or 1 and not the current one; the rest is the caller's contract.
    unsafe { parts.payload().fill(buffer(version as u32), message) };
    version
}

/// Makes the filled message of `version` the current one.
///
/// # Safety
/// - The caller owns the lock, and has [filled](fill) that version.
pub unsafe fn commit<P: Parts>(parts: &P, version: u64) {
    // Release: the writer's half of *commit*. If the writer is killed, a message that is current is whole.
    parts.header().latest.store(version as u32, Ordering::Release);
}
