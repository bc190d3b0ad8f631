//! Mailboxes in a memory object: create, map, take a seat, read and write.
//!
//! One memfd, which every attached process can write. It is reserved in full before it is mapped, and sealed against
//! resizing. An attached process has a seat, and holds that seat's byte lock. If it dies, other processes reclaim the
//! seat.

use crate::os::close_on_fork::{CloseOnForkFd, ForkId};
use crate::os::memory;
use crate::os::ofd_lock::ByteLocks;
use crate::shm::liveness::{Owner, SharedHost};
use crate::shm::ring::{SegmentError, mapping, nonce, object, system};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::SealFlags;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;
use whorl_core::error::{LockError, MailReadError, MailWriteError, WaitError};
use whorl_core::host::WaitResult;
use whorl_core::layout::{self as core, MailGeometry, Region};

/// Why mailboxes cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MailboxError {
    /// The memory cannot be made or mapped.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Every seat is taken.
    #[error("all {0} seats at these mailboxes are taken; end another program that is attached to them")]
    Seats(u32),
    /// Reading a mailbox failed.
    #[error("cannot read: {0}")]
    Read(#[from] MailReadError),
    /// Writing a mailbox failed.
    #[error("cannot write: {0}")]
    Write(#[from] MailWriteError),
    /// Waiting for a mailbox failed.
    #[error("cannot wait: {0}")]
    Wait(WaitError),
    /// There is no memory for a message of this size.
    #[error("no memory for a message of {0} bytes")]
    Memory(usize),
    /// The process that forked this one attached to these mailboxes.
    #[error("these mailboxes belong to the parent process: attach again after forking")]
    Forked,
}

/// The memory of some mailboxes.
#[derive(Clone)]
pub struct MailSegment {
    mailboxes: core::Mailboxes<'static, SharedHost>,
    object: Arc<OwnedFd>,
    /// The memory of `mailboxes`. Declared after it, so it is dropped after it.
    _memory: Arc<MmapRaw>,
}

impl MailSegment {
    /// Makes new mailboxes.
    ///
    /// # Errors
    /// There is not enough memory, or a system call failed. Nothing is left then.
    pub fn create(geometry: MailGeometry) -> Result<Self, SegmentError> {
        let needed = geometry.length();
        let free = memory::available();
        if needed > free {
            return Err(SegmentError::NoMemory { needed, free });
        }
        let object = object("whorl-mailboxes", needed)?;
        rustix::fs::fcntl_add_seals(&object, SealFlags::SEAL).map_err(system("seal shared memory"))?;
        Self::with(object, |region, host| {
            // SAFETY: a fresh mapping of a fresh object, writable; every other process comes through `attach`.
            unsafe { core::Mailboxes::create(region, geometry, nonce(), host) }
        })
    }

    /// Maps mailboxes that another process made.
    ///
    /// # Errors
    /// The object is not sealed, holds no mailboxes, or cannot be mapped.
    pub fn open(object: OwnedFd) -> Result<Self, SegmentError> {
        let seals =
            rustix::fs::fcntl_get_seals(&object).map_err(system("check the seals of shared memory"))?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(SegmentError::Unsealed);
        }
        // SAFETY: mapped writable. The contents may be any bytes of a peer, and are checked.
        Self::with(object, |region, host| unsafe { core::Mailboxes::attach(region, host) })
    }

    fn with(
        object: OwnedFd,
        make: impl FnOnce(
            Region<'static>,
            SharedHost,
        ) -> Result<core::Mailboxes<'static, SharedHost>, core::LayoutError>,
    ) -> Result<Self, SegmentError> {
        let memory = Arc::new(MmapOptions::new().map_raw(&object).map_err(mapping)?);
        let locks = ByteLocks::open(&object).map_err(system("open a lock on shared memory"))?;
        let start = NonNull::new(memory.as_mut_ptr()).ok_or(core::LayoutError::TooShort)?;
        // SAFETY: mapped over its whole length, from an object sealed against shrinking. Only core uses it, and it is
        // kept as long as the result.
        let region = unsafe { Region::new(start, memory.len()) };
        let mailboxes = make(region, SharedHost::new(locks, Owner::ThisProcess))?;
        Ok(Self { mailboxes, object: Arc::new(object), _memory: memory })
    }

    /// Takes a seat.
    ///
    /// # Errors
    /// Every seat is taken, or a system call failed.
    pub fn sit(&self) -> Result<Mailboxes, MailboxError> {
        let locks = ByteLocks::open(&self.object).map_err(system("open a lock on shared memory"))?;
        let (pid, fork) = (std::process::id(), ForkId::current());
        let seats = self.mailboxes.geometry().seats();
        let sit = |seat: u32| {
            let is_free = || self.mailboxes.is_free(seat);
            locks.occupy(seat, is_free, || self.mailboxes.occupy(seat, pid).ok()).transpose()
        };
        let mut sat = (0..seats).find_map(sit);
        if sat.is_none() {
            self.mailboxes.reclaim_dead();
            sat = (0..seats).find_map(sit);
        }
        let user = sat.ok_or(MailboxError::Seats(seats))?.map_err(system("lock a seat of shared memory"))?;
        Ok(Mailboxes {
            user: ManuallyDrop::new(user),
            _locks: locks,
            segment: self.clone(),
            buffer: Vec::new(),
            fork,
            connection: None,
        })
    }

    /// Returns the geometry.
    pub fn geometry(&self) -> MailGeometry {
        self.mailboxes.geometry()
    }

    /// Returns the version of the latest message of a mailbox. Needs no seat.
    pub fn version(&self, index: u32) -> Option<u64> {
        self.mailboxes.version(index)
    }

    /// Sleeps until some mailbox may have a new message, at most 50 ms, and not at all if `look` returns true.
    pub fn sleep_unless(&self, look: impl FnOnce() -> bool) -> WaitResult {
        self.mailboxes.sleep_unless(look, None)
    }

    /// Reclaims the seats of dead processes. Returns how many there were.
    pub fn reclaim_dead(&self) -> u32 {
        self.mailboxes.reclaim_dead()
    }
}

impl fmt::Debug for MailSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailSegment").field("geometry", &self.geometry()).finish_non_exhaustive()
    }
}

impl AsFd for MailSegment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.object.as_fd()
    }
}

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its version: 0 for a mailbox that was never written, then 1, 2, 3, and so on.
    pub version: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The mailboxes, for one user. It has a seat, and does one thing at a time. Another thread [takes a seat of its
/// own](Mailboxes::try_clone).
///
/// A program attaches to a server's mailboxes by its port, `Mailboxes::attach(9000)`. It makes its own like this:
///
/// ```
/// use whorl::{MailGeometry, MailSegment};
///
/// let segment = MailSegment::create(MailGeometry::new(8, 1024, 16)?)?;
/// let (mut writer, mut reader) = (segment.sit()?, segment.sit()?);
/// assert_eq!(writer.write(3, b"hello")?, 1);
/// assert_eq!(writer.write(3, b"hello again")?, 2);
/// let message = reader.read(3)?;
/// assert_eq!((message.version, &message.bytes[..]), (2, &b"hello again"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mailboxes {
    /// Dropped first, and by hand, because a forked child must not leave its parent's seat.
    user: ManuallyDrop<core::User<'static, SharedHost>>,
    /// Holds the seat's byte. Dropped after the seat is left, and before the memory is unmapped.
    _locks: ByteLocks,
    segment: MailSegment,
    buffer: Vec<u8>,
    fork: ForkId,
    /// The connection to the server. It breaks when this process dies, so that the server reclaims the seat at once.
    connection: Option<Arc<CloseOnForkFd>>,
}

impl Mailboxes {
    /// Returns the number of mailboxes, which are numbered from 0.
    pub fn count(&self) -> u32 {
        self.segment.geometry().boxes()
    }

    /// Returns the most bytes that a message can have.
    pub fn capacity(&self) -> usize {
        self.segment.geometry().capacity() as usize
    }

    /// Takes another seat at these mailboxes.
    ///
    /// # Errors
    /// Every seat is taken, or a system call failed.
    pub fn try_clone(&self) -> Result<Self, MailboxError> {
        let mut other = self.segment.sit()?;
        other.connection.clone_from(&self.connection);
        Ok(other)
    }

    /// Keeps the connection to the server open for as long as the mailboxes are in use.
    pub(crate) fn with_connection(mut self, connection: CloseOnForkFd) -> Self {
        self.connection = Some(Arc::new(connection));
        self
    }

    /// Returns the latest message of mailbox `index`, and leaves it in the mailbox.
    ///
    /// # Blocking
    /// Waits for at most one writer. A writer that dies is detected and reclaimed. The call waits for a stopped one.
    ///
    /// # Errors
    /// There is no such mailbox, or no memory.
    pub fn read(&mut self, index: u32) -> Result<Message, MailboxError> {
        self.read_with(index, None, |message, version| Message { version, bytes: message.to_vec() })
    }

    /// Passes the latest message, which is in private memory, and its version to `look`.
    ///
    /// # Blocking
    /// Waits for at most one writer, until `deadline`.
    ///
    /// # Errors
    /// There is no such mailbox, no memory, or the deadline passed.
    pub fn read_with<R>(
        &mut self,
        index: u32,
        deadline: Option<Instant>,
        look: impl FnOnce(&[u8], u64) -> R,
    ) -> Result<R, MailboxError> {
        self.check()?;
        // Each round but the last makes the buffer longer, up to the capacity.
        loop {
            match self.user.read(index, &mut self.buffer, deadline) {
                Ok(message) => {
                    return Ok(look(self.buffer.get(..message.length).unwrap_or_default(), message.version));
                }
                Err(MailReadError::TooShort(needed)) => self.grow(needed)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Copies the latest message to the beginning of `buffer`. Returns its version and length. If it does not fit, the
    /// error holds its length.
    ///
    /// # Blocking
    /// Waits for at most one writer, until `deadline`.
    ///
    /// # Errors
    /// There is no such mailbox, the deadline passed, or [`MailReadError::TooShort`].
    pub fn read_into(
        &mut self,
        index: u32,
        buffer: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<(u64, usize), MailboxError> {
        self.check()?;
        let message = self.user.read(index, buffer, deadline)?;
        Ok((message.version, message.length))
    }

    /// Replaces the message of mailbox `index`, as a whole. Returns its version.
    ///
    /// # Blocking
    /// Waits for the writers that come first and the readers that are in. A process that dies is detected and
    /// reclaimed. The call waits for a stopped one.
    ///
    /// # Errors
    /// There is no such mailbox, or the message is longer than its capacity.
    pub fn write(&mut self, index: u32, message: &[u8]) -> Result<u64, MailboxError> {
        self.write_until(index, message, None)
    }

    /// Replaces the message of mailbox `index`, as a whole, until `deadline`. Returns its version.
    ///
    /// # Errors
    /// There is no such mailbox, the message is longer than its capacity, or the deadline passed.
    pub fn write_until(
        &mut self,
        index: u32,
        message: &[u8],
        deadline: Option<Instant>,
    ) -> Result<u64, MailboxError> {
        self.check()?;
        Ok(self.user.write(index, message, deadline)?)
    }

    /// Returns the version of the latest message of mailbox `index`.
    ///
    /// # Errors
    /// There is no such mailbox.
    pub fn version(&self, index: u32) -> Result<u64, MailboxError> {
        self.segment.version(index).ok_or(MailboxError::Wait(WaitError::NoSuchBox))
    }

    /// Returns the latest message of mailbox `index` when it is newer than version `than`, or `None` if it could not be
    /// read before `deadline`. The growth of its version shows how many messages were missed.
    ///
    /// # Blocking
    /// Waits for a new message, and then for at most one writer, until `deadline`.
    ///
    /// # Errors
    /// There is no such mailbox, or no memory.
    pub fn wait_newer(
        &mut self,
        index: u32,
        than: u64,
        deadline: Option<Instant>,
    ) -> Result<Option<Message>, MailboxError> {
        self.check()?;
        if self.wait_for_version(index, than, deadline)?.is_none() {
            return Ok(None);
        }
        // A writer may own the mailbox by now, and may be stopped.
        match self.read_with(index, deadline, |message, version| Message { version, bytes: message.to_vec() })
        {
            Err(error) if error.lock_error() == Some(LockError::TimedOut) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Returns the version of the latest message of mailbox `index` when it is newer than version `than`, or `None` if
    /// there is none before `deadline`. Reads no message, so no writer delays it.
    ///
    /// # Blocking
    /// Waits for a new message, until `deadline`.
    ///
    /// # Errors
    /// There is no such mailbox, or a signal asks this process to stop.
    pub fn wait_for_version(
        &mut self,
        index: u32,
        than: u64,
        deadline: Option<Instant>,
    ) -> Result<Option<u64>, MailboxError> {
        self.check()?;
        match self.user.wait_newer(index, than, deadline) {
            Ok(version) => Ok(Some(version)),
            Err(WaitError::TimedOut) => Ok(None),
            Err(error) => Err(MailboxError::Wait(error)),
        }
    }

    /// Makes room for a message, at least twice as much as before. Otherwise a hostile peer that makes its message one
    /// byte longer each time could keep the caller here.
    fn grow(&mut self, needed: usize) -> Result<(), MailboxError> {
        let needed = needed.max(2 * self.buffer.len()).min(self.capacity());
        let more = needed.saturating_sub(self.buffer.len());
        self.buffer.try_reserve_exact(more).map_err(|_| MailboxError::Memory(needed))?;
        self.buffer.resize(needed, 0);
        Ok(())
    }

    fn check(&self) -> Result<(), MailboxError> {
        if self.fork.has_forked() { Err(MailboxError::Forked) } else { Ok(()) }
    }
}

impl fmt::Debug for Mailboxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailboxes").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Drop for Mailboxes {
    fn drop(&mut self) {
        if self.check().is_ok() {
            // SAFETY: dropped nowhere else, and not used after this.
            unsafe { ManuallyDrop::drop(&mut self.user) };
        }
    }
}

impl MailboxError {
    /// Returns the error of the lock, if its deadline passed or the wait was interrupted.
    pub fn lock_error(&self) -> Option<LockError> {
        match self {
            Self::Read(MailReadError::Lock(why)) | Self::Write(MailWriteError::Lock(why)) => Some(*why),
            _ => None,
        }
    }
}
