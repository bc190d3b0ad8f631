//! The sender of a named channel.

use super::claim::Claim;
use super::error::{CreateError, SendError};
use super::options::SenderOptions;
use crate::channel::control::peers::{PeerSummary, PeerTable, WaitEnd};
use crate::channel::control::progress::SendStatus;
use crate::channel::control::state::ProgressObserver;
use crate::channel::control::thread::{ControlThread, Receivers};
use crate::channel::transport::Transport;
use crate::channel::transport::ring::RingTransport;
use crate::os::close_on_fork::ForkId;
use crate::os::deadline;
use crate::os::error::{OsError, cannot};
use crate::os::ofd_lock::ByteLocks;
use crate::registry::status::Kind;
use crate::registry::{Listener, Name, RuntimeDir};
use crate::shm::Geometry;
use crate::shm::liveness::OWNER;
use crate::shm::ring::{OwnedSharedRing, Segment};
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use whorl_core::error::{ClaimError, End};
use whorl_core::ring::{CELL, ClaimSize, Sender as CoreSender};

/// The sender of a named channel. Receivers find it by its name. They may start before or after it is created.
///
/// It sends through shared memory. It writes each message once, in place, and sending returns at once while the ring has
/// room. No message is lost: the sender waits for the slowest receiver, unless the channel
/// [evicts](SenderOptions::evict_after) slow ones.
///
/// Dropping it without [`finish`](Self::finish) or [`close`](Self::close) tells the receivers that the stream is not
/// complete. It belongs to the process that created it: in a forked child every call returns [`SendError::Forked`].
///
/// ```
/// # let home = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("XDG_RUNTIME_DIR", home.path()) };
/// use whorl::{Received, Receiver, Sender};
///
/// let reader = std::thread::spawn(move || {
///     let mut receiver = Receiver::join(&"greetings".parse().unwrap())?;
///     let mut text = vec![0; receiver.max_message_len()];
///     let Received::Bytes(length) = receiver.recv(&mut text)? else { panic!("a message") };
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(String::from_utf8_lossy(&text[..length]).into_owned())
/// });
/// let mut sender = Sender::create(&"greetings".parse()?)?;
/// sender.wait_for_receivers(1)?;
/// sender.send(b"hello")?;
/// assert_eq!(reader.join().unwrap().unwrap(), "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sender {
    inner: ManuallyDrop<Inner>,
    born: ForkId,
}

/// The fields are dropped in this order: the stream is abandoned if it was not closed, the control thread closes and
/// releases the name, then the owner's byte is unlocked.
struct Inner {
    ring: CoreSender<OwnedSharedRing>,
    _control: ControlThread,
    transport: Arc<RingTransport>,
    peers: Arc<PeerTable>,
    status: Arc<SendStatus>,
    name: Option<Name>,
    nonce: u64,
    closed: bool,
    checksum: Option<[u8; 16]>,
    /// For rings that evict: an evicted receiver may still read what the sender claims, so core writes there.
    scratch: Option<Vec<u8>>,
    _owner: Option<ByteLocks>,
}

/// What a sender needs to start.
pub(crate) struct SenderSetup {
    pub segment: Segment,
    pub ring: OwnedSharedRing,
    /// Holds the byte by which receivers check whether the sender lives. Children check their parent instead.
    pub owner: Option<ByteLocks>,
    pub kind: Kind,
    /// The name under which receivers find it, if it has one.
    pub name: Option<Name>,
    pub receivers: Receivers,
    pub peers: Arc<PeerTable>,
    pub evict_after: Option<Duration>,
    pub observer: Option<ProgressObserver>,
}

impl SenderOptions {
    /// Takes a name and opens a channel under it.
    ///
    /// # Errors
    /// The name is in use, a measure is out of range, or a system call failed. Nothing is left behind.
    pub fn create(self, name: &Name) -> Result<Sender, CreateError> {
        Sender::create_in(self.open_dir()?, name, self)
    }
}

impl Sender {
    /// Takes a name in the user's runtime directory and opens a channel under it, with the default options.
    ///
    /// # Errors
    /// The name is in use, or a system call failed. Nothing is left behind.
    pub fn create(name: &Name) -> Result<Self, CreateError> {
        SenderOptions::new().create(name)
    }

    /// Returns the default options.
    pub fn options() -> SenderOptions {
        SenderOptions::new()
    }

    /// Creates a channel in an opened runtime directory.
    pub(crate) fn create_in(
        directory: RuntimeDir,
        name: &Name,
        options: SenderOptions,
    ) -> Result<Self, CreateError> {
        let ring = options.ring.checked_next_power_of_two().unwrap_or(0);
        let mut geometry = Geometry::new(ring, options.seats)?;
        if options.evict_after.is_some() {
            geometry = geometry.evictable();
        }
        let (segment, ring) = Segment::create(geometry)?;
        let peers = Arc::new(PeerTable::new(options.clients).map_err(cannot("make an event"))?);
        // Locked before a receiver can find the name, because receivers check by the lock whether the sender lives.
        let owner = segment.byte_locks()?;
        if owner.try_lock(OWNER) != Ok(true) {
            return Err(cannot("lock")(rustix::io::Errno::AGAIN).into());
        }
        let receivers = Receivers::Named(Listener::bind(directory, name)?);
        Ok(Self::over(SenderSetup {
            segment,
            ring,
            owner: Some(owner),
            kind: options.kind,
            name: Some(name.clone()),
            receivers,
            peers,
            evict_after: options.evict_after,
            observer: options.observer,
        })?)
    }

    /// Creates a sender over the ring of a segment.
    pub(crate) fn over(setup: SenderSetup) -> Result<Self, OsError> {
        let born = ForkId::current();
        let SenderSetup { segment, ring, owner, kind, name, receivers, peers, evict_after, observer } = setup;
        let shared = ring.ring();
        let (nonce, geometry) = (shared.nonce(), shared.geometry());
        let (ring, membership) = ring.into_sender();
        let transport = RingTransport::new(segment, shared, membership, kind, evict_after);
        let status = Arc::new(SendStatus::default());
        let control =
            ControlThread::start(receivers, transport.clone(), peers.clone(), status.clone(), observer)?;
        let scratch = geometry.is_evictable().then(Vec::new);
        let inner = Inner {
            ring,
            _control: control,
            transport,
            peers,
            status,
            name,
            nonce,
            closed: false,
            checksum: None,
            scratch,
            _owner: owner,
        };
        Ok(Self { inner: ManuallyDrop::new(inner), born })
    }

    /// Returns the channel's name.
    pub fn name(&self) -> &Name {
        self.inner.name.as_ref().expect("only this crate creates senders without a name")
    }

    /// Returns the channel's number, which distinguishes it from other channels of the same name.
    pub fn id(&self) -> u64 {
        self.inner.nonce
    }

    /// Returns the number of receivers that take part now.
    pub fn receivers(&self) -> usize {
        self.inner.peers.joined()
    }

    /// Returns how the receivers that have left ended.
    pub fn summary(&self) -> PeerSummary {
        self.inner.peers.summary()
    }

    /// Waits until this many receivers have joined.
    ///
    /// # Blocking
    /// Until they have, a signal comes, or `shell rm` asks the channel to end.
    ///
    /// # Errors
    /// A signal came, or `shell rm` asked the channel to end.
    pub fn wait_for_receivers(&mut self, count: u32) -> Result<(), SendError> {
        self.wait_for_receivers_until(count, None)
    }

    /// Waits until this many receivers have joined, at most this long.
    ///
    /// # Errors
    /// The time limit passed, a signal came, or `shell rm` asked the channel to end.
    pub fn wait_for_receivers_timeout(&mut self, count: u32, timeout: Duration) -> Result<(), SendError> {
        self.wait_for_receivers_until(count, Some(deadline::after(timeout)))
    }

    pub(crate) fn wait_for_receivers_until(
        &mut self,
        count: u32,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        let inner = self.here()?;
        inner.status.want(count);
        Ok(inner.peers.wait_joined(count as usize, deadline)?)
    }

    /// Records for `shell ls` that the sender has begun, and how many bytes it has to send. If `needs_receivers`, the
    /// descriptor of [`cancelled`](Self::cancelled) becomes readable when the last receiver has gone.
    pub(crate) fn begin(&mut self, needs_receivers: bool, total: Option<u64>) {
        self.inner.status.set_total(total);
        self.inner.status.begin(needs_receivers);
    }

    /// Returns a descriptor that becomes readable when `shell rm` asks the channel to end. An event loop can wait for
    /// it.
    pub fn cancelled(&self) -> BorrowedFd<'_> {
        self.inner.peers.cancelled()
    }

    /// Returns whether `shell rm` asked the channel to end.
    pub fn is_stopped(&self) -> bool {
        self.inner.peers.is_asked_to_stop()
    }

    /// Sends one message to every receiver that takes part. If none does, the message is kept only for receivers that
    /// join [from the first message](crate::Start::First) while the ring still holds that message.
    ///
    /// # Blocking
    /// Waits for the slowest receiver while the ring is full, until a signal comes, or `shell rm` asks the channel to end.
    /// The sender notices a receiver that dies within milliseconds, and waits for one that is stopped.
    ///
    /// # Errors
    /// The message is too long, or the wait ended early. Then nothing was sent.
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_until(message, None)
    }

    /// Sends one message if the ring has room. Never waits.
    ///
    /// # Errors
    /// [`SendError::Full`], or an error of [`send`](Self::send).
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let size = self.size_of(message)?;
        self.open()?.try_claim(size)?.write(message);
        Ok(())
    }

    /// Sends one message, and waits for room at most this long.
    ///
    /// # Errors
    /// [`SendError::TimedOut`], or an error of [`send`](Self::send).
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_until(message, Some(deadline::after(timeout)))
    }

    /// Sends one message, and waits for room until this time.
    ///
    /// # Errors
    /// [`SendError::TimedOut`], or an error of [`send`](Self::send).
    pub fn send_deadline(&mut self, message: &[u8], deadline: Instant) -> Result<(), SendError> {
        self.send_until(message, Some(deadline))
    }

    fn send_until(&mut self, message: &[u8], deadline: Option<Instant>) -> Result<(), SendError> {
        let size = self.size_of(message)?;
        let inner = self.open()?;
        inner.wait_for_space(size, deadline)?;
        inner.try_claim(size)?.write(message);
        Ok(())
    }

    /// Checks the length of a message.
    pub(crate) fn size_of(&mut self, message: &[u8]) -> Result<ClaimSize, SendError> {
        self.here()?.size(message.len())
    }

    /// Writes a message, if the ring has room. Receivers see it after the next [`publish`](Self::publish).
    pub(crate) fn stage(&mut self, message: &[u8]) -> Result<(), SendError> {
        let size = self.size_of(message)?;
        self.open()?.try_claim(size)?.stage(message);
        Ok(())
    }

    /// Publishes what was staged.
    pub(crate) fn publish(&mut self) {
        if let Ok(inner) = self.here() {
            inner.ring.publish();
        }
    }

    /// The longest message in bytes.
    pub fn max_message_len(&self) -> usize {
        self.inner.max_message()
    }

    /// Claims room for a message of `length` bytes, which the caller writes in place and then publishes. The message may
    /// become shorter.
    ///
    /// # Blocking
    /// Waits like [`send`](Self::send).
    ///
    /// # Errors
    /// An error of [`send`](Self::send).
    pub fn claim(&mut self, length: usize) -> Result<Claim<'_>, SendError> {
        let inner = self.open()?;
        let size = inner.size_of_claim(length)?;
        inner.wait_for_space(size, None)?;
        Ok(inner.try_claim(size)?.shortened(length))
    }

    /// Claims room for a message if the ring has room. Never waits.
    ///
    /// # Errors
    /// [`SendError::Full`], or an error of [`send`](Self::send).
    pub fn try_claim(&mut self, length: usize) -> Result<Claim<'_>, SendError> {
        let inner = self.open()?;
        let size = inner.size_of_claim(length)?;
        Ok(inner.try_claim(size)?.shortened(length))
    }

    /// Claims room of this size, if there is room. The claim may be longer than asked for.
    pub(crate) fn try_claim_size(&mut self, size: ClaimSize) -> Result<Claim<'_>, SendError> {
        self.open()?.try_claim(size)
    }

    /// Waits until there is room, so that [`try_claim_size`](Self::try_claim_size) succeeds.
    pub(crate) fn wait_for_space(
        &mut self,
        size: ClaimSize,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        self.open()?.wait_for_space(size, deadline)
    }

    /// Runs a function that waits for receivers.
    pub(crate) fn wait_for_peers<T>(&self, wait: impl FnOnce(&PeerTable) -> T) -> T {
        self.inner.status.waiting(|| wait(&self.inner.peers))
    }

    /// Returns how many bytes all receivers together still have to take. The number changes when one of them moves.
    pub(crate) fn lag(&self) -> u64 {
        let transport = &self.inner.transport;
        let lag = |place: Option<u32>| place.map_or(0, |place| transport.peer_state(place).1.bytes);
        self.inner.peers.map(|peer| lag(peer.place)).iter().sum()
    }

    /// Sets the checksum that [`finish`](Self::finish) and [`close`](Self::close) put into the end record. Receivers get it in
    /// [`Received::End`](crate::Received::End). The channel does not compute or compare it.
    pub fn set_checksum(&mut self, checksum: [u8; 16]) {
        self.inner.checksum = Some(checksum);
    }

    /// Ends the stream, and waits until every receiver has read everything and confirmed, or is gone.
    ///
    /// # Blocking
    /// Until then, a signal comes, or `shell rm` asks the channel to end.
    ///
    /// # Errors
    /// The wait ended early. The end is published in any case, and the caller can wait again.
    pub fn finish(&mut self) -> Result<PeerSummary, SendError> {
        self.finish_until(None)
    }

    /// Ends the stream as [`finish`](Self::finish) does, and waits at most this long.
    ///
    /// # Errors
    /// [`SendError::TimedOut`], or an error of [`finish`](Self::finish).
    pub fn finish_timeout(&mut self, timeout: Duration) -> Result<PeerSummary, SendError> {
        self.finish_until(Some(deadline::after(timeout)))
    }

    pub(crate) fn finish_until(&mut self, deadline: Option<Instant>) -> Result<PeerSummary, SendError> {
        self.close()?;
        let inner = self.here()?;
        let drained = inner.status.waiting(|| inner.ring.drain(deadline));
        drained.map_err(|error| wait_error(error, &inner.peers))?;
        inner.status.waiting(|| inner.peers.wait_parted(deadline))?;
        Ok(inner.peers.summary())
    }

    /// Ends the stream without waiting. Receivers can still join and read; sending returns [`SendError::Closed`].
    ///
    /// # Errors
    /// [`SendError::Forked`].
    pub fn close(&mut self) -> Result<(), SendError> {
        let inner = self.here()?;
        inner.ring.close(End { total: inner.status.sent(), checksum: inner.checksum });
        inner.closed = true;
        Ok(())
    }

    pub(crate) fn peers(&self) -> &Arc<PeerTable> {
        &self.inner.peers
    }

    /// Returns the sender's state, if the caller can send now.
    fn open(&mut self) -> Result<&mut Inner, SendError> {
        let inner = self.here()?;
        if inner.peers.is_asked_to_stop() {
            return Err(SendError::Stopped);
        }
        if inner.closed {
            return Err(SendError::Closed);
        }
        Ok(inner)
    }

    fn here(&mut self) -> Result<&mut Inner, SendError> {
        match self.born.has_forked() {
            true => Err(SendError::Forked),
            false => Ok(&mut self.inner),
        }
    }
}

impl Inner {
    fn max_message(&self) -> usize {
        self.ring.max_message() as usize
    }

    /// Returns the size of a message of `length` bytes.
    fn size(&self, length: usize) -> Result<ClaimSize, SendError> {
        let most = self.max_message();
        match u32::try_from(length) {
            Ok(length) if length as usize <= most => Ok(ClaimSize::exactly(length)),
            _ => Err(SendError::TooLong { length, most }),
        }
    }

    /// Returns the size of a claim of `length` bytes, which may become a hole.
    fn size_of_claim(&self, length: usize) -> Result<ClaimSize, SendError> {
        self.size(length).map(|size| ClaimSize::exactly(size.least().max(CELL as u32)))
    }

    fn try_claim(&mut self, size: ClaimSize) -> Result<Claim<'_>, SendError> {
        let most = self.max_message();
        let claim = self.ring.try_claim(size).map_err(|error| claim_error(error, size, most, &self.peers))?;
        Ok(Claim::new(claim, &self.status, self.scratch.as_mut()))
    }

    fn wait_for_space(&mut self, size: ClaimSize, deadline: Option<Instant>) -> Result<(), SendError> {
        // The control thread sees only a real wait, because it evicts receivers that block the sender.
        let most = self.max_message();
        let failed = |error| claim_error(error, size, most, &self.peers);
        if self.ring.is_full(size).map_err(failed)? {
            self.status.waiting(|| self.ring.wait_for_space(size, deadline)).map_err(failed)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, sent) = (&self.inner.name, self.inner.status.sent());
        f.debug_struct("Sender").field("name", name).field("sent", &sent).finish_non_exhaustive()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A forked child has neither the mapping nor the thread. Everything else ends with its process.
        if !self.born.has_forked() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}

/// Returns why a claim of this size failed.
fn claim_error(error: ClaimError, size: ClaimSize, most: usize, peers: &PeerTable) -> SendError {
    match error {
        ClaimError::TooLong => SendError::TooLong { length: size.least() as usize, most },
        other => wait_error(other, peers),
    }
}

/// Returns why a wait for receivers ended.
fn wait_error(error: ClaimError, peers: &PeerTable) -> SendError {
    match error {
        ClaimError::Full | ClaimError::TooLong => SendError::Full,
        ClaimError::TimedOut => SendError::TimedOut,
        ClaimError::Interrupted if peers.is_asked_to_stop() => SendError::Stopped,
        ClaimError::Interrupted => SendError::Interrupted,
    }
}

impl From<WaitEnd> for SendError {
    fn from(end: WaitEnd) -> Self {
        match end {
            WaitEnd::TimedOut => Self::TimedOut,
            WaitEnd::Interrupted => Self::Interrupted,
            WaitEnd::Stopped => Self::Stopped,
        }
    }
}
