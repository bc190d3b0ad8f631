//! The lossless broadcast ring: one sender, many receivers, nothing lost.
//!
//! ```text
//!            oldest unread               tail      limit
//!                 v                        v         v
//!   ... | free | published, being read     | claimed | free ...      positions grow to the right, cells repeat
//!                 ^          ^             ^           every `capacity` of them
//!              cursor 1   cursor 3      cursor 2
//! ```
//!
//! A ring is an array of 8-byte *cells*. A message lies in a *frame*: a header and as many cells as it needs.
//! Positions count cells, in 32 bits that wrap. The sender owns `tail`, and each receiver owns the cursor beside its
//! seat. The *gate* is the slowest cursor of the receivers that take part. The sender may claim a cell only while it is
//! less than a lap ahead of the gate. So a cell is never overwritten before all receivers have given it back, and two
//! cursors are never more than the capacity apart. The longest frame is half of the ring. So a frame and the padding
//! before it always fit once receivers have caught up.
//!
//! The writer of a word decides where it lies. Only the sender writes [`SenderState`], in memory that receivers may map
//! read-only. Receivers also write [`Control`] and the [`ReceiverEntry`]s.
//!
//! The pairs that make one side's writes visible to the other:
//!
//! | name | one half | the other half |
//! |---|---|---|
//! | *publish* | [`Sender`] stores `tail`, Release | [`Receiver`] loads `tail`, Acquire, before it reads cells |
//! | *release* | a receiver stores its cursor, Release | the sender loads it, Acquire, before it writes cells again |
//! | *close* | the sender stores `state`, Release, after the end record | a receiver loads `state`, Acquire, before it looks at `tail` again and reads the end |
//! | *occupy* | each step of a seat's word, AcqRel | each look at it, Acquire |
//! | *park* | change, fence, look for sleepers | announce, fence, look again ([`EventCount`]) |
//! | *admit* | [`Membership`] marks a seat `Admitting`, fence, reads `tail` and `lapped` | the sender stores those, fence, looks at the seats |
//!
//! *Admission against claims.* While a seat is `Admitting`, the sender keeps the limit that it found before. A scan
//! that missed the mark came before the mark's fence. So the membership reads a `tail` that is at least the tail of
//! that scan, and so at least the gate that the scan found. A receiver that starts there is never more than a lap
//! behind a claim. Starting at the first message is granted only while `lapped` is clear. The sender sets `lapped`, fences
//! and scans once more before it first extends its limit beyond the first lap.
//!
//! *Sleeping elsewhere.* A receiver in an event loop does not sleep on a word. It *arms* its seat, and the sender's
//! host notifies armed receivers in its own way, whenever it wakes the others. `armed` is stored before the
//! announcement of *park*, so a publish after it notifies. A notifier clears `has_waiters`, fences, then takes `armed`
//! ([`disarm`]). If it misses `armed`, its fence came before the announcement's fence. Then the receiver finds
//! `has_waiters` clear and announces itself again. Or it finds a later announcement of another receiver, for which the
//! next publish notifies.
//!
//! *Waking the sender.* A full ring wakes its sender when half of it is free, not at each frame. The sender leaves in
//! `wanted` the position that the slowest receiver must reach. A receiver that passes it looks whether all others have.
//! If two receivers pass it at once, each has stored its cursor before its fence, so at least one sees both cursors.

mod cells;
mod frame;
mod membership;
mod receiver;
mod sender;

pub use cells::{ByteCells, ByteReader, ByteWriter, Cells, Purpose};
pub use frame::{CELL, MAX_CELLS, MAX_MESSAGE};
pub use membership::{Admission, Membership, Status, disarm, is_free};
pub use receiver::{Batch, Frame, Kind, PendingReceiver, Receiver};
pub use sender::{Claim, ClaimSize, Sender, max_message};

use crate::error::End;
use crate::event_count::EventCount;
use crate::host::Host;
use crate::seat::Seat;
use crate::sequence::Sequence;
use crate::sync::{AtomicU32, Ordering};

const OPEN: u32 = 0;
const CLOSED: u32 = 1;
const ABANDONED: u32 = 2;

/// The sender's words. Only the sender writes them, in memory that receivers can only read. Zeroed memory is an open,
/// empty ring that starts at position 0. 128 bytes.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct SenderState {
    /// The end of the published frames. *Publish*.
    tail: AtomicU32,
    /// `OPEN`, `CLOSED` (the end record is valid) or `ABANDONED`. *Close*.
    state: AtomicU32,
    /// 1 from before the first message can be overwritten. Relaxed: ordered by the fences of *admit*.
    lapped: AtomicU32,
    /// The position of the first message. The sender stores it before any receiver joins, and never changes it afterwards.
    first: AtomicU32,
    _line: [u32; 12],
    /// Total bytes: low half, high half. Checksum: present or not, four words. Relaxed: guarded by *close*.
    end: [AtomicU32; 7],
}

impl SenderState {
    /// Returns the state of a ring whose first message lies at position `first`.
    pub fn new(first: Sequence) -> Self {
        let word = |value| AtomicU32::new(value);
        Self {
            tail: word(first.to_word()),
            state: word(OPEN),
            lapped: word(0),
            first: word(first.to_word()),
            _line: [0; 12],
            end: core::array::from_fn(|_| word(0)),
        }
    }

    /// Returns a view that can only load these words.
    pub fn view(&self) -> SenderStateView<'_> {
        SenderStateView { head: self }
    }

    /// Starts the ring at `first` instead of 0. Call it before any receiver joins.
    pub(crate) fn start_at(&self, first: Sequence) {
        // Relaxed: no other thread looks yet; handing the memory over orders the store.
        self.first.store(first.to_word(), Ordering::Relaxed);
        self.tail.store(first.to_word(), Ordering::Relaxed);
    }

    fn store_end(&self, end: End) {
        let (present, sum) = match end.checksum {
            Some(sum) => (1, sum),
            None => (0, [0; 16]),
        };
        let halves = [end.total as u32, (end.total >> 32) as u32, present];
        let words = sum.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        for (word, value) in self.end.iter().zip(halves.into_iter().chain(words)) {
            word.store(value, Ordering::Relaxed); // Relaxed: the Release store of `state` follows
        }
    }
}

/// A view of the [`SenderState`] without stores, for memory that may be mapped read-only.
#[derive(Clone, Copy, Debug)]
pub struct SenderStateView<'a> {
    head: &'a SenderState,
}

impl SenderStateView<'_> {
    /// The end of the published frames.
    pub fn tail(self) -> Sequence {
        Sequence::from_word(self.head.tail.load(Ordering::Acquire)) // Acquire: the receiver's half of *publish*
    }

    /// The position of the first message.
    pub fn first(self) -> Sequence {
        Sequence::from_word(self.head.first.load(Ordering::Relaxed)) // Relaxed: constant since before this receiver joined
    }

    fn is_lapped(self) -> bool {
        self.head.lapped.load(Ordering::Relaxed) != 0 // Relaxed: ordered by the fences of *admit*
    }

    fn state(self) -> u32 {
        self.head.state.load(Ordering::Acquire) // Acquire: the receiver's half of *close*
    }

    /// Returns the end record, which is meaningful only after `state` was seen `CLOSED`.
    fn end(self) -> End {
        let word = |i: usize| self.head.end[i].load(Ordering::Relaxed); // Relaxed: guarded by *close*
        let mut sum = [0; 16];
        for (four, i) in sum.chunks_exact_mut(4).zip(3..) {
            four.copy_from_slice(&word(i).to_le_bytes());
        }
        End { total: u64::from(word(0)) | u64::from(word(1)) << 32, checksum: (word(2) == 1).then_some(sum) }
    }
}

/// The words that both sides write. Zeroed memory is valid. 256 bytes.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// Where receivers sleep. A publish, a close and an admission notify it.
    data: EventCount,
    /// Where the sender sleeps. Notified when the slowest receiver passes `wanted`, and when a receiver leaves or is
    /// reclaimed.
    space: EventCount,
    /// The sender writes it, and receivers read it if the sender sleeps. Relaxed: ordered by the fences of *park*.
    wanted: Line,
    /// One more than the highest seat ever taken, which bounds every scan. Raised before a seat is asked for, never
    /// lowered.
    /// Relaxed: a scan that must see a seat is ordered after it by *occupy* or by the fences of *admit* and *park*.
    seats_used: Line,
}

/// A word on a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug)]
struct Line(AtomicU32);

impl Control {
    /// Returns the control words of a ring without receivers.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self {
            data: EventCount::new(),
            space: EventCount::new(),
            wanted: Line(AtomicU32::new(0)),
            seats_used: Line(AtomicU32::new(0)),
        }
    }

    /// Wakes every waiter, which then looks again. For hosts that know of a change that no word shows.
    pub fn notify_all<H: Host>(&self, host: &H) {
        self.data.notify_all(host);
        self.space.notify_all(host);
    }
}

/// A seat of the ring with its cursor, on cache lines of its own. 128 bytes.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct ReceiverEntry {
    /// Private to this crate: code that changes another receiver's seat would let the sender write under a reader.
    pub(crate) seat: Seat,
    /// The position of the first frame that its occupant has not given back. The membership stores it before `Active`,
    /// then only the occupant stores it. *Release*.
    cursor: AtomicU32,
    /// 1 if its occupant sleeps elsewhere and must be notified. The occupant sets it, and a notifier takes it. A
    /// notifier may take a former occupant's mark for its successor's, which costs one look. Relaxed: ordered by the
    /// fences of *park*.
    armed: AtomicU32,
}

impl ReceiverEntry {
    /// Returns a free seat, which is zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self { seat: Seat::new(), cursor: AtomicU32::new(0), armed: AtomicU32::new(0) }
    }

    fn cursor(&self) -> Sequence {
        Sequence::from_word(self.cursor.load(Ordering::Acquire)) // Acquire: the sender's half of *release*
    }
}

/// The parts of a ring as a receiver sees them. The kind of memory decides which host, and so which futex, belongs to
/// it.
///
/// # Safety
/// An implementation promises, for as long as the value or a clone of it lives:
/// - every call returns a part of one and the same ring, and each part is in no other ring;
/// - the host's `try_reclaim` runs the reclamation only for a participant that will never act again.
pub unsafe trait Parts {
    /// How to sleep on this memory, and how to know which participants are dead.
    type Host: Host;
    /// Where the frames lie.
    type Cells: Cells;

    /// The host.
    fn host(&self) -> &Self::Host;
    /// The sender's words.
    fn sender_state(&self) -> SenderStateView<'_>;
    /// The shared words.
    fn control(&self) -> &Control;
    /// The seats.
    fn receivers(&self) -> &[ReceiverEntry];
    /// The cells.
    fn cells(&self) -> &Self::Cells;
}

/// The parts of a ring as the sender sees them.
///
/// # Safety
/// As [`Parts`]; the head is the one that [`Parts::sender_state`] shows.
pub unsafe trait SenderParts: Parts {
    /// The sender's own words, to be written.
    fn sender_state_to_write(&self) -> &SenderState;
}

/// Returns the receivers that may be taken. The table bounds a mark that a hostile peer stored.
fn used_entries<P: Parts>(parts: &P) -> &[ReceiverEntry] {
    let receivers = parts.receivers();
    let high = parts.control().seats_used.0.load(Ordering::Relaxed) as usize; // Relaxed: see the field
    &receivers[..high.min(receivers.len())]
}
