//! The sender of a channel with a name.

use super::error::{CreateError, SendError};
use crate::channel::control::peers::{ClientCounter, PeerSummary, PeerTable, WaitEnd};
use crate::channel::control::progress::SendStatus;
use crate::channel::control::state::ProgressObserver;
use crate::channel::control::thread::{ControlThread, Receivers};
use crate::channel::transport::Transport;
use crate::channel::transport::ring::{ItemOffsets, RingTransport};
use crate::os::close_on_fork::ForkId;
use crate::os::error::{OsError, cannot};
use crate::os::ofd_lock::ByteLocks;
use crate::registry::status::Kind;
use crate::registry::{Listener, Name, RuntimeDir};
use crate::shm::Geometry;
use crate::shm::liveness::OWNER;
use crate::shm::ring::{OwnedSharedRing, Segment};
use rustix::fd::BorrowedFd;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};
use whorl_core::error::{ClaimError, End};
use whorl_core::ring::{Claim, Parts, Sender as CoreSender};

/// How a channel is made.
pub struct SenderOptions {
    /// Bytes in a slot: the longest message.
    pub slot_size: u32,
    /// Slots, a power of two: how far the fastest receiver may be ahead of the slowest.
    pub slots: u32,
    /// Seats: the most receivers at a time.
    pub seats: u32,
    /// Throw out a receiver that holds the sender up for so long. By default it is waited for.
    pub evict_after: Option<Duration>,
    /// Hears how things stand.
    pub watcher: Option<ProgressObserver>,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self { slot_size: 80 << 10, slots: 8, seats: 64, evict_after: None, watcher: None }
    }
}

/// The sender of a channel with a name. Receivers find it by that name, before or after it began.
///
/// It sends through shared memory alone, where a message is written in place, once for all, and sending returns at once
/// while there is room. Over a socket for each receiver it would wait for every one in turn, or keep copies and a thread
/// that feeds them: that is [`broadcast::send`](crate::transfer::send), which has a source to read at its own pace.
///
/// Dropping it without [`finish`](Self::finish) tells the receivers that the stream is not whole. It belongs to the
/// process that made it: in a forked child every call answers [`SendError::Forked`].
///
/// ```
/// # let home = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("XDG_RUNTIME_DIR", home.path()) };
/// use whorl::{JoinOptions, Received, Receiver, Sender, SenderOptions};
///
/// let name = "greetings".parse()?;
/// let reader = std::thread::spawn(move || {
///     let mut receiver = Receiver::join(&"greetings".parse().unwrap(), &JoinOptions::default())?;
///     let mut text = vec![0; receiver.longest()];
///     let Received::Bytes(length) = receiver.receive(&mut text, None)? else { panic!("a message") };
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(String::from_utf8_lossy(&text[..length]).into_owned())
/// });
/// let mut sender = Sender::create(&name, SenderOptions::default())?;
/// sender.wait_for_receivers(1, None)?;
/// sender.send(b"hello", None)?;
/// assert_eq!(reader.join().unwrap().unwrap(), "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sender {
    inner: ManuallyDrop<Inner>,
    born: ForkId,
}

/// Fields are dropped in this order: the stream is abandoned, if it was not closed; the control thread closes and gives the name
/// back; then the owner's byte is free.
struct Inner {
    ring: CoreSender<OwnedSharedRing>,
    _control: ControlThread,
    transport: Arc<RingTransport>,
    peers: Arc<PeerTable>,
    status: Arc<SendStatus>,
    offsets: Arc<ItemOffsets>,
    name: Option<Name>,
    nonce: u64,
    total: u64,
    closed: bool,
    /// Slots that are known to be free. While there are some, no call looks at the receivers.
    free: u32,
    /// For rings that evict: an evicted receiver may still read a slot, so core fills it.
    scratch: Option<Vec<u8>>,
    _owner: Option<ByteLocks>,
}

/// What a sender is opened over.
pub(crate) struct SenderParts {
    pub segment: Segment,
    pub ring: OwnedSharedRing,
    /// Holds the byte by which receivers judge whether the sender lives. Children judge by their parent.
    pub owner: Option<ByteLocks>,
    pub kind: Kind,
    /// The name under which receivers find it, if they do.
    pub name: Option<Name>,
    pub receivers: Receivers,
    pub peers: Arc<PeerTable>,
    pub evict_after: Option<Duration>,
    pub observer: Option<ProgressObserver>,
}

impl Sender {
    /// Takes a name in the user's runtime directory and opens a channel under it.
    ///
    /// # Errors
    /// The name is in use, or something is not to be had; nothing is left then.
    pub fn create(name: &Name, options: SenderOptions) -> Result<Self, CreateError> {
        Self::create_in(RuntimeDir::open()?, name, options)
    }

    /// The same, in a given directory.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_in(
        directory: RuntimeDir,
        name: &Name,
        options: SenderOptions,
    ) -> Result<Self, CreateError> {
        Self::create_as((Kind::Ring, None), directory, name, options)
    }

    /// The same, as what `shell ls` is to call it, with the runs of its clients counted.
    pub(crate) fn create_as(
        (kind, clients): (Kind, Option<Arc<ClientCounter>>),
        directory: RuntimeDir,
        name: &Name,
        options: SenderOptions,
    ) -> Result<Self, CreateError> {
        let mut geometry = Geometry::new(options.slot_size, options.slots, options.seats)?;
        if options.evict_after.is_some() {
            geometry = geometry.evictable();
        }
        let (segment, ring) = Segment::create(geometry)?;
        let peers = Arc::new(PeerTable::new(clients).map_err(cannot("make an event"))?);
        // Locked before a receiver can find the name, because receivers judge by the lock whether the sender lives.
        let owner = segment.byte_locks()?;
        if owner.try_lock(OWNER) != Ok(true) {
            return Err(cannot("lock")(rustix::io::Errno::AGAIN).into());
        }
        let receivers = Receivers::Named(Listener::bind(directory, name)?);
        let (name, evict_after, observer) = (Some(name.clone()), options.evict_after, options.watcher);
        let owner = Some(owner);
        let parts = SenderParts { segment, ring, owner, kind, name, receivers, peers, evict_after, observer };
        Ok(Self::open(parts)?)
    }

    /// Opens a sender over the ring of a segment.
    pub(crate) fn open(parts: SenderParts) -> Result<Self, OsError> {
        let born = ForkId::current();
        let SenderParts { segment, ring, owner, kind, name, receivers, peers, evict_after, observer } = parts;
        let shared = ring.ring();
        let (nonce, geometry) = (shared.nonce(), shared.geometry());
        let (ring, membership) = ring.into_sender();
        let offsets = Arc::new(ItemOffsets::new(geometry.slots()));
        let transport = RingTransport::new(segment, shared, membership, kind, offsets.clone(), evict_after);
        let status = Arc::new(SendStatus::default());
        let control =
            ControlThread::start(receivers, transport.clone(), peers.clone(), status.clone(), observer)?;
        let scratch = geometry.is_evictable().then(|| vec![0; geometry.slot_size() as usize]);
        let inner = Inner {
            ring,
            _control: control,
            transport,
            peers,
            status,
            offsets,
            name,
            nonce,
            total: 0,
            closed: false,
            free: 0,
            scratch,
            _owner: owner,
        };
        Ok(Self { inner: ManuallyDrop::new(inner), born })
    }

    /// The channel's name.
    pub fn name(&self) -> &Name {
        self.inner.name.as_ref().expect("only this crate opens senders without a name")
    }

    /// What tells this channel from others of the same name.
    pub fn id(&self) -> u64 {
        self.inner.nonce
    }

    /// How many receivers take part now.
    pub fn receivers(&self) -> usize {
        self.inner.peers.joined()
    }

    /// What became of the receivers that are through.
    pub fn tally(&self) -> PeerSummary {
        self.inner.peers.summary()
    }

    /// Waits until so many receivers take part.
    ///
    /// # Blocking
    /// Until they do, the deadline passes, a signal comes, or somebody asks the channel to end.
    ///
    /// # Errors
    /// Why the wait ended early.
    pub fn wait_for_receivers(&mut self, count: u32, deadline: Option<Instant>) -> Result<(), SendError> {
        let inner = self.here()?;
        inner.status.want(count);
        Ok(inner.peers.wait_joined(count as usize, deadline)?)
    }

    /// Notes that the sender has begun, for `shell ls`, and how many bytes it has to send. If `needs_receivers`, the
    /// descriptor of [`cancelled`](Self::cancelled) becomes readable once the last receiver has gone.
    pub(crate) fn begin(&mut self, needs_receivers: bool, total: Option<u64>) {
        self.inner.status.set_total(total);
        self.inner.status.begin(needs_receivers);
    }

    /// Becomes readable when somebody asks the channel to end: for waits elsewhere.
    pub fn cancelled(&self) -> BorrowedFd<'_> {
        self.inner.peers.cancelled()
    }

    /// Whether somebody asked the channel to end.
    pub fn is_stopped(&self) -> bool {
        self.inner.peers.is_asked_to_stop()
    }

    /// Sends one message to every receiver that takes part. With none it is gone, except for those who join from the
    /// beginning while that is still held.
    ///
    /// # Blocking
    /// Waits for the slowest receiver, until the deadline passes, a signal comes, or somebody asks the channel to end. A
    /// receiver that dies is buried within milliseconds; one that is stopped is waited for.
    ///
    /// # Errors
    /// It is too long, or the wait ended early; nothing was sent then.
    pub fn send(&mut self, message: &[u8], deadline: Option<Instant>) -> Result<(), SendError> {
        let slot = self.here()?.slot_size();
        if message.len() > slot {
            return Err(SendError::TooLong { length: message.len(), slot });
        }
        self.claim(deadline)?.write(message);
        Ok(())
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// [`SendError::Full`], or as [`send`](Self::send).
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        match self.send(message, Some(Instant::now())) {
            Err(SendError::TimedOut) => Err(SendError::Full),
            other => other,
        }
    }

    /// Claims a slot, to be filled and then published.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn claim(&mut self, deadline: Option<Instant>) -> Result<Slot<'_>, SendError> {
        self.wait_for_space(deadline)?;
        let Inner { ring, offsets, status, total, free, scratch, .. } = &mut *self.inner;
        let claim = ring.try_claim(1).map_err(|_| SendError::Full)?;
        Ok(Slot { claim, offsets, status, total, free, scratch: scratch.as_deref_mut() })
    }

    /// Waits until a slot is free, so that [`claim`](Self::claim) does not wait.
    pub(crate) fn wait_for_space(&mut self, deadline: Option<Instant>) -> Result<(), SendError> {
        let inner = self.here()?;
        if inner.peers.is_asked_to_stop() {
            return Err(SendError::Stopped);
        }
        if inner.closed {
            return Err(SendError::Closed);
        }
        if inner.free == 0 {
            // Only a real wait is shown to the control thread, which evicts receivers that block the sender.
            let free = inner.ring.try_claim(u32::MAX).map(|claim| claim.len());
            let free = free.or_else(|_| inner.status.waiting(|| inner.ring.wait_for_space(deadline)));
            inner.free = free.map_err(|error| why(error, &inner.peers))?;
        }
        Ok(())
    }

    /// Runs something that waits for receivers.
    pub(crate) fn wait_for_peers<T>(&self, wait: impl FnOnce(&PeerTable) -> T) -> T {
        self.inner.status.waiting(|| wait(&self.inner.peers))
    }

    /// Returns how many bytes all receivers together still have to take. The number changes when one of them moves.
    pub(crate) fn lag(&self) -> u64 {
        let transport = &self.inner.transport;
        let lag = |place: Option<u32>| place.map_or(0, |place| transport.state(place).1.bytes);
        self.inner.peers.map(|peer| lag(peer.place)).iter().sum()
    }

    /// Ends the stream, and waits until every receiver has everything and says so, or is gone.
    ///
    /// # Blocking
    /// Until then, until the deadline, a signal, or somebody asks the channel to end.
    ///
    /// # Errors
    /// The wait ended early. The end is published all the same, and one may wait again.
    pub fn finish(
        &mut self,
        checksum: Option<[u8; 16]>,
        deadline: Option<Instant>,
    ) -> Result<PeerSummary, SendError> {
        self.close(checksum)?;
        let inner = self.here()?;
        let drained = inner.status.waiting(|| inner.ring.drain(deadline));
        drained.map_err(|error| why(error, &inner.peers))?;
        inner.status.waiting(|| inner.peers.wait_parted(deadline))?;
        Ok(inner.peers.summary())
    }

    /// Ends the stream without waiting: receivers can still come and read, and sending answers [`SendError::Closed`].
    ///
    /// # Errors
    /// [`SendError::Forked`].
    pub fn close(&mut self, checksum: Option<[u8; 16]>) -> Result<(), SendError> {
        let inner = self.here()?;
        inner.ring.close(End { total: inner.total, checksum });
        inner.closed = true;
        Ok(())
    }

    pub(crate) fn peers(&self) -> &Arc<PeerTable> {
        &self.inner.peers
    }

    fn here(&mut self) -> Result<&mut Inner, SendError> {
        match self.born.has_forked() {
            true => Err(SendError::Forked),
            false => Ok(&mut self.inner),
        }
    }
}

impl Inner {
    fn slot_size(&self) -> usize {
        self.ring.parts().slots().size()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A forked child has neither the mapping nor the thread; what it has goes with its process.
        if !self.born.has_forked() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}

fn why(error: ClaimError, peers: &PeerTable) -> SendError {
    match error {
        ClaimError::Full => SendError::Full,
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

/// A claimed slot. Dropping it publishes nothing.
pub struct Slot<'s> {
    claim: Claim<'s, OwnedSharedRing>,
    offsets: &'s ItemOffsets,
    status: &'s SendStatus,
    total: &'s mut u64,
    free: &'s mut u32,
    scratch: Option<&'s mut [u8]>,
}

impl Slot<'_> {
    /// Where the message is to be written: the whole slot. What it held before may still be there.
    pub fn buffer(&mut self) -> &mut [u8] {
        match &mut self.scratch {
            Some(scratch) => scratch,
            None => {
                let mut slot = self.claim.slot(0);
                let (start, length) = (slot.as_mut_ptr(), slot.capacity());
                // SAFETY: `length` bytes, initialised since the segment was made, and this writer's alone while it is
                // borrowed: receivers have given the slot back, and none is evicted from this ring.
                unsafe { std::slice::from_raw_parts_mut(start, length) }
            }
        }
    }

    /// Publishes the first `length` bytes of [`buffer`](Self::buffer).
    ///
    /// # Panics
    /// If there are not so many.
    pub fn publish(mut self, length: usize) {
        let mut slot = self.claim.slot(0);
        let fits = match &self.scratch {
            Some(scratch) => slot.write(&scratch[..length]),
            None => slot.set_length(length),
        };
        fits.expect("a length within the slot");
        self.done(length as u64);
    }

    /// Publishes `length` zero bytes that are not stored.
    pub fn publish_hole(mut self, length: u64) {
        self.claim.slot(0).set_hole(length);
        self.done(length);
    }

    fn write(mut self, message: &[u8]) {
        self.claim.slot(0).write(message).expect("checked by the caller");
        self.done(message.len() as u64);
    }

    fn done(self, bytes: u64) {
        // Counted first: a thread that sees the item published finds it there.
        self.offsets.add(bytes);
        *self.total += bytes;
        *self.free -= 1;
        self.status.set_sent(*self.total);
        self.claim.publish(1);
    }
}
