//! The bytes: what a ring looks like in memory, and the checked cast from memory to typed parts.
//!
//! A ring lies in two regions, which may be one buffer split in two. *Data* is written by the sender alone; receivers
//! may map it read-only. *Control* is written by all.
//!
//! ```text
//! data      0     header, 64 bytes                        control   0     header, 64 bytes
//!           128   Head, 128 bytes                                   256   Control, 256 bytes
//!           4096  Record x slots, 16 bytes each                     4096  Member x seats, 128 bytes each
//!           P     payload x slots, `stride` bytes each
//!
//! P      = 4096 + 16 * slots, rounded up to 4096
//! stride = the slot size, rounded up to 16 (to 64 from 1 KiB on)
//!
//! header, 32-bit words in the machine's byte order:
//!   0 magic "WHRL"   1 layout version   2 0x01020304 (byte order)   3 region: 1 data, 2 control
//!   4 slot size      5 slots            6 seats                     7 flags: 1 = receivers may be evicted
//!   8, 9 this region's length (low, high)      10, 11 nonce, the same in both regions
//!   12..14 zero      15 CRC-32 (IEEE) of words 0 to 14
//! ```
//!
//! A header is read once, into private memory, and checked against the region's length; after that the geometry is
//! ours and shared memory is never asked for it again.

use crate::futex::Host;
use crate::ring::{
    ByteSlots, Control, Head, HeadView, MAX_SLOTS, Member, Membership, Parts, Record, Sender, SenderParts,
};
use crate::sequence::Sequence;
use crate::sync::{AtomicU32, Ordering};
use core::fmt;
use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use core::ptr::NonNull;
use static_assertions::const_assert;

/// The layout's version: a segment of another one is refused.
pub const VERSION: u32 = 1;

/// What both regions must be aligned to.
pub const ALIGN: usize = 128;

/// The most seats that a segment can have.
pub const MAX_SEATS: u32 = 1024;

const MAGIC: u32 = u32::from_le_bytes(*b"WHRL");
const BYTE_ORDER: u32 = 0x0102_0304;
const DATA: u32 = 1;
const CONTROL: u32 = 2;
const EVICTABLE: u32 = 1;

const PAGE: u64 = 4096;
const HEAD_AT: usize = 128;
const CONTROL_AT: usize = 256;
const TABLE_AT: usize = PAGE as usize;

/// The header's words.
type Words = [u32; 16];

const_assert!(size_of::<Words>() <= HEAD_AT);
const_assert!(size_of::<Head>() == 128 && align_of::<Head>() <= ALIGN);
const_assert!(size_of::<Control>() == 256 && align_of::<Control>() <= ALIGN);
const_assert!(size_of::<Member>() == 128 && align_of::<Member>() == ALIGN);
const_assert!(size_of::<Record>() == 16);
const_assert!(size_of::<crate::seat::Seat>() == 8 && size_of::<crate::event::Event>() == 64);
const_assert!(HEAD_AT + size_of::<Head>() <= TABLE_AT && HEAD_AT.is_multiple_of(ALIGN));
const_assert!(CONTROL_AT + size_of::<Control>() <= TABLE_AT && CONTROL_AT.is_multiple_of(ALIGN));
const_assert!(TABLE_AT.is_multiple_of(ALIGN));

/// Why memory cannot be used as a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LayoutError {
    /// The slot size is 0 or over 2 GiB.
    SlotSize,
    /// The number of slots is not a power of two from 1 to 2^30.
    Slots,
    /// The number of seats is not from 1 to 1024.
    Seats,
    /// The regions together do not fit this machine's address space.
    TooLarge,
    /// A region is not aligned to [`ALIGN`].
    Misaligned,
    /// A region is shorter than its geometry needs.
    TooShort,
    /// This is no such segment at all.
    Foreign,
    /// A segment of another layout version, this one.
    Version(u32),
    /// A segment of a machine with another byte order.
    ByteOrder,
    /// Eviction is not for this kind of memory.
    Evictable,
    /// The header is damaged, or the two regions do not belong together.
    Damaged,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::SlotSize => "a slot's size must be from 1 byte to 2 GiB",
            Self::Slots => "the number of slots must be a power of two from 1 to 2^30",
            Self::Seats => "the number of seats must be from 1 to 1024",
            Self::TooLarge => "the segment does not fit the address space",
            Self::Misaligned => "the memory is not aligned to 128 bytes",
            Self::TooShort => "the memory is too short for this ring",
            Self::Foreign => "this is not a Whorl segment",
            Self::Version(found) => {
                return write!(f, "the segment has layout version {found}, this program speaks {VERSION}");
            }
            Self::ByteOrder => "the segment was made on a machine with another byte order",
            Self::Evictable => "receivers in this kind of memory cannot be evicted",
            Self::Damaged => "the segment's header is damaged",
        };
        f.write_str(text)
    }
}

impl core::error::Error for LayoutError {}

/// A ring's measures, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    slot_size: u32,
    slots: u32,
    seats: u32,
    evictable: bool,
}

impl Geometry {
    /// A ring of `slots` slots of `slot_size` payload bytes each, for up to `seats` receivers.
    ///
    /// # Errors
    /// Which of the measures is impossible.
    pub const fn new(slot_size: u32, slots: u32, seats: u32) -> Result<Self, LayoutError> {
        if slot_size == 0 || slot_size > 1 << 31 {
            return Err(LayoutError::SlotSize);
        }
        if !slots.is_power_of_two() || slots > MAX_SLOTS {
            return Err(LayoutError::Slots);
        }
        if seats == 0 || seats > MAX_SEATS {
            return Err(LayoutError::Seats);
        }
        let geometry = Self { slot_size, slots, seats, evictable: false };
        if geometry.data_length() > isize::MAX as u64 {
            return Err(LayoutError::TooLarge);
        }
        Ok(geometry)
    }

    /// The same, with receivers that may be evicted; they then read by copying.
    pub const fn evictable(self) -> Self {
        Self { evictable: true, ..self }
    }

    /// Whether receivers may be evicted.
    pub const fn is_evictable(&self) -> bool {
        self.evictable
    }

    /// Payload bytes per slot.
    pub const fn slot_size(&self) -> u32 {
        self.slot_size
    }

    /// Slots.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Seats.
    pub const fn seats(&self) -> u32 {
        self.seats
    }

    /// Bytes that the data region needs. At most 2^30 x (2^31 + 64 + 16) + two pages: no overflow.
    pub const fn data_length(&self) -> u64 {
        self.payload_at() + self.slots as u64 * self.stride()
    }

    /// Bytes that the control region needs.
    pub const fn control_length(&self) -> u64 {
        TABLE_AT as u64 + self.seats as u64 * size_of::<Member>() as u64
    }

    const fn stride(&self) -> u64 {
        (self.slot_size as u64).next_multiple_of(if self.slot_size < 1024 { 16 } else { 64 })
    }

    const fn payload_at(&self) -> u64 {
        (TABLE_AT as u64 + self.slots as u64 * size_of::<Record>() as u64).next_multiple_of(PAGE)
    }

    fn header(&self, region: u32, nonce: u64) -> Words {
        let length = if region == DATA { self.data_length() } else { self.control_length() };
        let mut words = [0; 16];
        words[..12].copy_from_slice(&[
            MAGIC,
            VERSION,
            BYTE_ORDER,
            region,
            self.slot_size,
            self.slots,
            self.seats,
            if self.evictable { EVICTABLE } else { 0 },
            length as u32,
            (length >> 32) as u32,
            nonce as u32,
            (nonce >> 32) as u32,
        ]);
        words[15] = crc32(&words[..15]);
        words
    }

    /// Checks a header that was copied out of a region, and returns what it says with the nonce.
    fn check(words: &Words, region: u32) -> Result<(Self, u64), LayoutError> {
        match (words[0], words[1], words[2]) {
            (magic, ..) if magic == MAGIC.swap_bytes() => return Err(LayoutError::ByteOrder),
            (magic, ..) if magic != MAGIC => return Err(LayoutError::Foreign),
            (_, version, _) if version != VERSION => return Err(LayoutError::Version(version)),
            (.., order) if order != BYTE_ORDER => return Err(LayoutError::ByteOrder),
            _ => {}
        }
        let mut geometry = Self::new(words[4], words[5], words[6])?;
        geometry.evictable = words[7] & EVICTABLE != 0;
        let nonce = u64::from(words[10]) | u64::from(words[11]) << 32;
        // Whatever is not exactly what we would have written is damaged: length, region, flags, checksum.
        if *words != geometry.header(region, nonce) {
            return Err(LayoutError::Damaged);
        }
        Ok((geometry, nonce))
    }
}

fn crc32(words: &[u32]) -> u32 {
    let mut crc = u32::MAX;
    for byte in words.iter().flat_map(|word| word.to_le_bytes()) {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// A pointer and a length: memory that outlives `'m`.
#[derive(Clone, Copy)]
pub struct Region<'m> {
    start: NonNull<u8>,
    length: usize,
    _memory: PhantomData<&'m AtomicU32>,
}

impl<'m> Region<'m> {
    /// # Safety
    /// - `length` bytes from `start` on are mapped and readable for all of `'m`, never truncated under us;
    /// - nobody in this process reaches them except through this crate, nor through an ordinary reference.
    pub const unsafe fn new(start: NonNull<u8>, length: usize) -> Self {
        Self { start, length, _memory: PhantomData }
    }

    /// A buffer, which stays lent for `'m`.
    pub fn from_buffer(buffer: &'m mut [u8]) -> Self {
        let length = buffer.len();
        // SAFETY: borrowed exclusively for 'm.
        unsafe { Self::new(NonNull::from(buffer).cast(), length) }
    }

    /// Splits the region after `at` bytes.
    ///
    /// # Errors
    /// [`LayoutError::TooShort`] if there are not so many.
    pub fn split_at(self, at: usize) -> Result<(Self, Self), LayoutError> {
        let rest = self.length.checked_sub(at).ok_or(LayoutError::TooShort)?;
        // SAFETY: `at` is within the region.
        let second = unsafe { self.start.add(at) };
        // SAFETY: a part of this region.
        Ok((Self { length: at, ..self }, unsafe { Self::new(second, rest) }))
    }

    fn fits(&self, length: u64) -> Result<(), LayoutError> {
        if !(self.start.as_ptr() as usize).is_multiple_of(ALIGN) {
            return Err(LayoutError::Misaligned);
        }
        if (self.length as u64) < length {
            return Err(LayoutError::TooShort);
        }
        Ok(())
    }

    /// `count` values of `T` at offset `at`.
    ///
    /// # Safety
    /// - they lie inside the region, aligned;
    /// - `T` consists of atomics (and padding nobody reads), so that any bytes are valid and may change.
    unsafe fn table<T>(self, at: usize, count: usize) -> &'m [T] {
        // SAFETY: inside the region by the caller's contract.
        let first = unsafe { self.start.add(at) }.cast::<T>();
        // SAFETY: as above; the memory lives for 'm (`Region::new`) and only atomics are reached through the reference.
        unsafe { core::slice::from_raw_parts(first.as_ptr(), count) }
    }

    fn read_header(self) -> Result<Words, LayoutError> {
        self.fits(size_of::<Words>() as u64)?;
        // SAFETY: `fits` checked length and alignment; u32 atomics.
        let shared: &[AtomicU32] = unsafe { self.table(0, 16) };
        // Relaxed: written before the memory was handed over.
        Ok(core::array::from_fn(|i| shared[i].load(Ordering::Relaxed)))
    }

    /// Writes a fresh header over `used` zeroed bytes.
    ///
    /// # Safety
    /// - the region is writable, at least `used` long, and nobody else uses it yet.
    unsafe fn format(self, used: usize, header: &Words) {
        // SAFETY: inside the region, writable and ours by the caller's contract.
        unsafe { self.start.write_bytes(0, used) };
        // SAFETY: as above, and `Region` is aligned to far more than a word (`fits`).
        unsafe { self.start.cast::<Words>().write(*header) };
    }
}

/// A ring in memory, as a receiver sees it.
#[derive(Clone)]
pub struct Ring<'m, H> {
    head: &'m Head,
    control: &'m Control,
    members: &'m [Member],
    slots: ByteSlots<'m>,
    geometry: Geometry,
    nonce: u64,
    host: H,
}

/// A ring in memory, as its sender sees it: there is one for each segment, made with it.
pub struct OwnedRing<'m, H> {
    ring: Ring<'m, H>,
}

impl<'m, H: Host + Clone> Ring<'m, H> {
    /// Makes a ring in fresh memory and returns it to its sender. `nonce` tells segments apart.
    ///
    /// # Safety
    /// - both regions are writable, do not overlap, and are used by nobody else before this returns;
    /// - later users of the same memory come through [`attach`](Self::attach) or clones of the result;
    /// - the host's `try_bury` runs the burial only of somebody who will never act again.
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
        unsafe { data.format(geometry.payload_at() as usize, &geometry.header(DATA, nonce)) };
        // SAFETY: as above.
        unsafe { control.format(geometry.control_length() as usize, &geometry.header(CONTROL, nonce)) };
        // SAFETY: formatted for this geometry just now.
        let ring = unsafe { Self::cast(data, control, geometry, nonce, host) };
        Ok(OwnedRing { ring })
    }

    /// Looks at a ring that somebody else made. `data` may be mapped read-only.
    ///
    /// # Safety
    /// - `control` is writable;
    /// - the regions were made by [`create`](Self::create), or hold bytes of a peer: these are checked, and may be garbage;
    /// - the host's `try_bury` runs the burial only of somebody who will never act again.
    ///
    /// # Errors
    /// Why this is no ring that we can use.
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
        // SAFETY: inside the data region, which is aligned to 128; atomics. The same for the next four.
        let head = unsafe { data.table::<Head>(HEAD_AT, 1) };
        // SAFETY: see above.
        let records = unsafe { data.table::<Record>(TABLE_AT, geometry.slots as usize) };
        // SAFETY: see above.
        let payload = unsafe { data.start.add(geometry.payload_at() as usize) };
        // SAFETY: see above.
        let shared = unsafe { control.table::<Control>(CONTROL_AT, 1) };
        // SAFETY: see above.
        let members = unsafe { control.table::<Member>(TABLE_AT, geometry.seats as usize) };
        let (size, stride) = (geometry.slot_size as usize, geometry.stride() as usize);
        let slots = ByteSlots { records, payload, size, stride, evictable: geometry.evictable };
        Self { head: &head[0], control: &shared[0], members, slots, geometry, nonce, host }
    }

    /// The measures.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What tells this segment from others.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }
}

impl<'m, H: Host + Clone> OwnedRing<'m, H> {
    /// The same ring as receivers see it.
    pub fn ring(&self) -> Ring<'m, H> {
        self.ring.clone()
    }

    /// Starts at another sequence than 0.
    pub fn start_at(&mut self, first: Sequence) {
        self.ring.head.start_at(first);
    }

    /// The sender, and the membership that admits its receivers.
    pub fn into_sender(self) -> (Sender<Self>, Membership<Ring<'m, H>>) {
        // SAFETY: `create` made the only `OwnedRing` of this memory, and it is consumed here.
        let membership = unsafe { Membership::new(self.ring()) };
        // SAFETY: as above.
        (unsafe { Sender::new(self) }, membership)
    }
}

// SAFETY: the parts of one ring, cast together from its two regions; the host is `create`'s and `attach`'s caller's.
unsafe impl<'m, H: Host> Parts for Ring<'m, H> {
    type Host = H;
    type Slots = ByteSlots<'m>;

    fn host(&self) -> &H {
        &self.host
    }
    fn head(&self) -> HeadView<'_> {
        self.head.view()
    }
    fn control(&self) -> &Control {
        self.control
    }
    fn members(&self) -> &[Member] {
        self.members
    }
    fn slots(&self) -> &ByteSlots<'m> {
        &self.slots
    }
}

// SAFETY: as `Ring`.
unsafe impl<'m, H: Host> Parts for OwnedRing<'m, H> {
    type Host = H;
    type Slots = ByteSlots<'m>;

    fn host(&self) -> &H {
        &self.ring.host
    }
    fn head(&self) -> HeadView<'_> {
        self.ring.head.view()
    }
    fn control(&self) -> &Control {
        self.ring.control
    }
    fn members(&self) -> &[Member] {
        self.ring.members
    }
    fn slots(&self) -> &ByteSlots<'m> {
        &self.ring.slots
    }
}

// SAFETY: as `Ring`.
unsafe impl<H: Host> SenderParts for OwnedRing<'_, H> {
    fn head_to_write(&self) -> &Head {
        self.ring.head
    }
}
