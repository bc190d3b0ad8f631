//! A ring in memory. It lies in two regions, which may be one buffer split in two. *Data* is written by the sender
//! alone; receivers may map it read-only. *Control* is written by all.
//!
//! ```text
//! data      0     header, 64 bytes                        control   0     header, 64 bytes
//!           128   SenderState, 128 bytes                                   256   Control, 256 bytes
//!           4096  cells, 8 bytes each                               4096  ReceiverEntry x seats, 128 bytes each
//!
//! measures in the header: cells, bytes of a cell, seats, flags (1 = receivers may be evicted)
//! ```

use super::{ALIGN, Header, LayoutError, MAX_SEATS, Region, TABLE_AT, Words};
use crate::host::Host;
use crate::ring::{
    ByteCells, CELL, Control, MAX_CELLS, Membership, Parts, ReceiverEntry, Sender, SenderParts, SenderState,
    SenderStateView, max_message,
};
use crate::sequence::Sequence;
use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use static_assertions::const_assert;

const DATA: u32 = 1;
const CONTROL: u32 = 2;
const EVICTABLE: u32 = 1;

const SENDER_STATE_AT: usize = 128;
const CONTROL_AT: usize = 256;

const_assert!(size_of::<Words>() <= SENDER_STATE_AT);
const_assert!(size_of::<SenderState>() == 128 && align_of::<SenderState>() <= ALIGN);
const_assert!(size_of::<Control>() == 256 && align_of::<Control>() <= ALIGN);
const_assert!(size_of::<ReceiverEntry>() == 128 && align_of::<ReceiverEntry>() == ALIGN);
const_assert!(size_of::<crate::seat::Seat>() == 8 && size_of::<crate::event_count::EventCount>() == 64);
const_assert!(
    SENDER_STATE_AT + size_of::<SenderState>() <= TABLE_AT && SENDER_STATE_AT.is_multiple_of(ALIGN)
);
const_assert!(CONTROL_AT + size_of::<Control>() <= TABLE_AT && CONTROL_AT.is_multiple_of(ALIGN));

/// A ring's measures, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    cells: u32,
    seats: u32,
    evictable: bool,
}

impl Geometry {
    /// The smallest ring, in bytes.
    pub const MIN_CAPACITY: u64 = 64;
    /// The largest ring, in bytes: 8 GiB.
    pub const MAX_CAPACITY: u64 = MAX_CELLS as u64 * CELL as u64;

    /// A ring of `capacity` bytes for frames, for up to `seats` receivers.
    ///
    /// # Errors
    /// Which of the measures is impossible.
    pub const fn new(capacity: u64, seats: u32) -> Result<Self, LayoutError> {
        if !capacity.is_power_of_two() || capacity < Self::MIN_CAPACITY || capacity > Self::MAX_CAPACITY {
            return Err(LayoutError::RingCapacity);
        }
        if seats == 0 || seats > MAX_SEATS {
            return Err(LayoutError::Seats);
        }
        let geometry = Self { cells: (capacity / CELL as u64) as u32, seats, evictable: false };
        if geometry.data_length() > isize::MAX as u64 {
            return Err(LayoutError::TooLarge);
        }
        Ok(geometry)
    }

    /// Returns these measures for a ring whose receivers may be evicted, and read by copying.
    pub const fn evictable(self) -> Self {
        Self { evictable: true, ..self }
    }

    /// Whether receivers may be evicted.
    pub const fn is_evictable(&self) -> bool {
        self.evictable
    }

    /// Bytes for frames: messages, their headers of 8 bytes, and padding.
    pub const fn capacity(&self) -> u64 {
        self.cells as u64 * CELL as u64
    }

    /// The longest message in bytes: half of the ring less a header, at most 2^29 - 1.
    pub const fn max_message(&self) -> u32 {
        max_message(self.cells)
    }

    /// Seats.
    pub const fn seats(&self) -> u32 {
        self.seats
    }

    /// Bytes that the data region needs: the capacity and a page.
    pub const fn data_length(&self) -> u64 {
        TABLE_AT as u64 + self.capacity()
    }

    /// Bytes that the control region needs.
    pub const fn control_length(&self) -> u64 {
        TABLE_AT as u64 + self.seats as u64 * size_of::<ReceiverEntry>() as u64
    }

    fn header(&self, region: u32, nonce: u64) -> Header {
        let length = if region == DATA { self.data_length() } else { self.control_length() };
        let flags = if self.evictable { EVICTABLE } else { 0 };
        Header { region, measures: [self.cells, CELL as u32, self.seats, flags], length, nonce }
    }

    /// Checks a header that was copied out of a region, and returns what it says with the nonce.
    fn check(words: &Words, region: u32) -> Result<(Self, u64), LayoutError> {
        let header = Header::check(words, region)?;
        let [cells, _, seats, flags] = header.measures;
        let mut geometry = Self::new(u64::from(cells) * CELL as u64, seats)?;
        geometry.evictable = flags & EVICTABLE != 0;
        // Only the exact words that this program would have written are accepted: length, cell, flags.
        if header != geometry.header(region, header.nonce) {
            return Err(LayoutError::Damaged);
        }
        Ok((geometry, header.nonce))
    }
}

/// A ring in memory, as a receiver sees it.
#[derive(Clone, Debug)]
pub struct Ring<'m, H> {
    sender_state: &'m SenderState,
    control: &'m Control,
    receivers: &'m [ReceiverEntry],
    cells: ByteCells<'m>,
    geometry: Geometry,
    nonce: u64,
    host: H,
}

/// A ring in memory, as its sender sees it. Each segment has one, which is made with it.
#[derive(Debug)]
pub struct OwnedRing<'m, H> {
    ring: Ring<'m, H>,
}

impl<'m, H: Host + Clone> Ring<'m, H> {
    /// Makes a ring in fresh memory and returns it to its sender. `nonce` tells segments apart.
    ///
    /// # Safety
    /// - both regions are writable, do not overlap, and no other code uses them before this returns;
    /// - later users of the same memory come through [`attach`](Self::attach) or clones of the result;
    /// - the host's `try_reclaim` runs the reclamation only for a participant that will never act again.
    ///
    /// # Errors
    /// [`LayoutError::TooShort`] or [`LayoutError::Misaligned`].
    pub unsafe fn create(
        data: Region<'m>,
        control: Region<'m>,
        geometry: Geometry,
        nonce: u64,
        host: H,
    ) -> Result<OwnedRing<'m, H>, LayoutError> {
        data.fits(geometry.data_length())?;
        control.fits(geometry.control_length())?;
        // SAFETY: long enough (`fits`), writable and unused by the caller's contract.
        unsafe { data.format(TABLE_AT, &geometry.header(DATA, nonce).to_words()) };
        // SAFETY: as above.
        unsafe {
            control.format(geometry.control_length() as usize, &geometry.header(CONTROL, nonce).to_words())
        };
        // SAFETY: formatted for this geometry just now.
        let ring = unsafe { Self::cast(data, control, geometry, nonce, host) };
        Ok(OwnedRing { ring })
    }

    /// Opens a ring that another process or thread made. `data` may be mapped read-only.
    ///
    /// # Safety
    /// - `control` is writable;
    /// - the regions were made by [`create`](Self::create), or hold bytes of a peer, which may be garbage: this call
    ///   checks them;
    /// - the host's `try_reclaim` runs the reclamation only for a participant that will never act again.
    ///
    /// # Errors
    /// Why the regions hold no ring that this program can use.
    pub unsafe fn attach(data: Region<'m>, control: Region<'m>, host: H) -> Result<Self, LayoutError> {
        let (geometry, nonce) = Geometry::check(&data.read_header()?, DATA)?;
        let (twin, twin_nonce) = Geometry::check(&control.read_header()?, CONTROL)?;
        if (geometry, nonce) != (twin, twin_nonce) {
            return Err(LayoutError::Damaged);
        }
        data.fits(geometry.data_length())?;
        control.fits(geometry.control_length())?;
        // SAFETY: both regions were checked against the geometry.
        Ok(unsafe { Self::cast(data, control, geometry, nonce, host) })
    }

    /// # Safety
    /// - both regions are at least as long as `geometry` says, and aligned.
    unsafe fn cast(data: Region<'m>, control: Region<'m>, geometry: Geometry, nonce: u64, host: H) -> Self {
        // SAFETY: inside the data region, which is aligned to 128; atomics. This holds for the next three as well.
        let sender_state = unsafe { data.table::<SenderState>(SENDER_STATE_AT, 1) };
        // SAFETY: see above.
        let start = unsafe { data.start.add(TABLE_AT) };
        // SAFETY: see above.
        let shared = unsafe { control.table::<Control>(CONTROL_AT, 1) };
        // SAFETY: see above.
        let receivers = unsafe { control.table::<ReceiverEntry>(TABLE_AT, geometry.seats as usize) };
        let cells =
            ByteCells { start, count: geometry.cells, evictable: geometry.evictable, memory: PhantomData };
        Self { sender_state: &sender_state[0], control: &shared[0], receivers, cells, geometry, nonce, host }
    }

    /// The measures.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Returns the nonce, which distinguishes this segment from others.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }
}

impl<'m, H: Host + Clone> OwnedRing<'m, H> {
    /// Returns this ring as receivers see it.
    pub fn ring(&self) -> Ring<'m, H> {
        self.ring.clone()
    }

    /// Starts the ring at position `first` instead of 0.
    pub fn start_at(&mut self, first: Sequence) {
        self.ring.sender_state.start_at(first);
    }

    /// Returns the sender, and the membership that admits its receivers.
    pub fn into_sender(self) -> (Sender<Self>, Membership<Ring<'m, H>>) {
        // SAFETY: `create` made the only `OwnedRing` of this memory, and it is consumed here.
        let membership = unsafe { Membership::new(self.ring()) };
        // SAFETY: as above.
        (unsafe { Sender::new(self) }, membership)
    }
}

// SAFETY: the parts of one ring, cast together from its two regions. The caller of `create` or `attach` vouches for the
// host.
unsafe impl<'m, H: Host> Parts for Ring<'m, H> {
    type Host = H;
    type Cells = ByteCells<'m>;

    fn host(&self) -> &H {
        &self.host
    }
    fn sender_state(&self) -> SenderStateView<'_> {
        self.sender_state.view()
    }
    fn control(&self) -> &Control {
        self.control
    }
    fn receivers(&self) -> &[ReceiverEntry] {
        self.receivers
    }
    fn cells(&self) -> &ByteCells<'m> {
        &self.cells
    }
}

// SAFETY: as `Ring`.
unsafe impl<'m, H: Host> Parts for OwnedRing<'m, H> {
    type Host = H;
    type Cells = ByteCells<'m>;

    fn host(&self) -> &H {
        &self.ring.host
    }
    fn sender_state(&self) -> SenderStateView<'_> {
        self.ring.sender_state.view()
    }
    fn control(&self) -> &Control {
        self.ring.control
    }
    fn receivers(&self) -> &[ReceiverEntry] {
        self.ring.receivers
    }
    fn cells(&self) -> &ByteCells<'m> {
        &self.ring.cells
    }
}

// SAFETY: as `Ring`.
unsafe impl<H: Host> SenderParts for OwnedRing<'_, H> {
    fn sender_state_to_write(&self) -> &SenderState {
        self.ring.sender_state
    }
}
