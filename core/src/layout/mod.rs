//! The bytes: what segments look like in memory, and the checked cast from memory to typed parts.
//!
//! | module | segment |
//! |---|---|
//! | [`ring`](Ring) | two regions: *data*, written by the sender alone, and *control* |
//! | [`mailboxes`](Mailboxes) | one region, written by all |
//!
//! Every region begins with a header:
//!
//! ```text
//! 32-bit words in the machine's byte order:
//!   0 magic "WHRL"   1 layout version   2 0x01020304 (byte order)   3 region: 1 a ring's data, 2 its control, 3 mailboxes
//!   4 to 7           measures, different for each kind of region
//!   8, 9             this region's length (low, high)
//!   10, 11           nonce (low, high), the same in all regions of a segment
//!   12 to 14 zero    15 CRC-32 (IEEE) of words 0 to 14
//! ```
//!
//! A header is read once, into private memory, and checked against the region's length. After that the geometry is
//! private, and no algorithm reads it from shared memory again.

mod copy;
mod mailboxes;
mod ring;

pub use mailboxes::{BoxParts, Buffers, MailGeometry, Mailboxes, User};
pub use ring::{Geometry, OwnedRing, Ring};

use crate::sync::{AtomicU32, Ordering};
use core::fmt;
use core::marker::PhantomData;
use core::mem::size_of;
use core::ptr::NonNull;
use static_assertions::const_assert;

/// The layout's version. A segment of another version is refused.
pub const VERSION: u32 = 2;

/// The alignment that a region needs, in bytes.
pub const ALIGN: usize = 128;

/// The most seats that a segment can have.
pub const MAX_SEATS: u32 = 1024;

const MAGIC: u32 = u32::from_le_bytes(*b"WHRL");
const BYTE_ORDER: u32 = 0x0102_0304;

const PAGE: u64 = 4096;
/// The offset of the tables. Everything before them fits the first page.
const TABLE_AT: usize = PAGE as usize;

/// The words of a header.
type Words = [u32; 16];

const_assert!(size_of::<Words>() <= ALIGN);
const_assert!(TABLE_AT.is_multiple_of(ALIGN));

/// Why memory cannot be used as a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LayoutError {
    /// The capacity of a ring is not a power of two from 64 bytes to 8 GiB.
    RingCapacity,
    /// The number of seats is not from 1 to 1024.
    Seats,
    /// The number of mailboxes is not from 1 to 2^20.
    Boxes,
    /// A mailbox's capacity is 0 or over 2 GiB.
    Capacity,
    /// The regions together do not fit this machine's address space.
    TooLarge,
    /// A region is not aligned to [`ALIGN`].
    Misaligned,
    /// A region is shorter than its geometry needs.
    TooShort,
    /// The memory holds no segment of the expected kind.
    Foreign,
    /// The segment has this other layout version.
    Version(u32),
    /// The segment was made on a machine with another byte order.
    ByteOrder,
    /// Receivers in this kind of memory cannot be evicted.
    Evictable,
    /// The header is damaged, or the two regions do not belong together.
    Damaged,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::RingCapacity => "the size of a ring must be a power of two from 64 bytes to 8 GiB",
            Self::Seats => "the number of seats must be from 1 to 1024",
            Self::Boxes => "the number of mailboxes must be from 1 to 1048576",
            Self::Capacity => "a mailbox's capacity must be from 1 byte to 2 GiB",
            Self::TooLarge => "the segment does not fit the address space",
            Self::Misaligned => "the memory is not aligned to 128 bytes",
            Self::TooShort => "the memory is too short for this segment",
            Self::Foreign => "this is not a Whorl segment",
            Self::Version(found) => {
                return write!(f, "the segment has layout version {found}, but this program uses {VERSION}");
            }
            Self::ByteOrder => "the segment was made on a machine with another byte order",
            Self::Evictable => "receivers in this kind of memory cannot be evicted",
            Self::Damaged => "the segment's header is damaged",
        };
        f.write_str(text)
    }
}

impl core::error::Error for LayoutError {}

/// The contents of a header.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Header {
    region: u32,
    measures: [u32; 4],
    length: u64,
    nonce: u64,
}

impl Header {
    fn to_words(self) -> Words {
        let mut words = [0; 16];
        words[..4].copy_from_slice(&[MAGIC, VERSION, BYTE_ORDER, self.region]);
        words[4..8].copy_from_slice(&self.measures);
        words[8..10].copy_from_slice(&[self.length as u32, (self.length >> 32) as u32]);
        words[10..12].copy_from_slice(&[self.nonce as u32, (self.nonce >> 32) as u32]);
        words[15] = crc32(&words[..15]);
        words
    }

    /// Checks words that were copied out of a region. The caller checks what the measures mean.
    fn check(words: &Words, region: u32) -> Result<Self, LayoutError> {
        match (words[0], words[1], words[2]) {
            (magic, ..) if magic == MAGIC.swap_bytes() => return Err(LayoutError::ByteOrder),
            (magic, ..) if magic != MAGIC => return Err(LayoutError::Foreign),
            (_, version, _) if version != VERSION => return Err(LayoutError::Version(version)),
            (.., order) if order != BYTE_ORDER => return Err(LayoutError::ByteOrder),
            _ => {}
        }
        let long = |i: usize| u64::from(words[i]) | u64::from(words[i + 1]) << 32;
        let measures = [words[4], words[5], words[6], words[7]];
        let header = Self { region, measures, length: long(8), nonce: long(10) };
        // Only the exact words that this program would have written are accepted: region, reserved words, checksum.
        if *words == header.to_words() { Ok(header) } else { Err(LayoutError::Damaged) }
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
#[derive(Clone, Copy, Debug)]
pub struct Region<'m> {
    start: NonNull<u8>,
    length: usize,
    _memory: PhantomData<&'m AtomicU32>,
}

// SAFETY: shared memory that outlives 'm; what safe code reaches through it is atomic.
unsafe impl Send for Region<'_> {}
// SAFETY: as above.
unsafe impl Sync for Region<'_> {}

impl<'m> Region<'m> {
    /// # Safety
    /// - `length` bytes from `start` on are mapped and readable for all of `'m`, and are never truncated;
    /// - this process reaches them only through this crate, and never through an ordinary reference.
    pub const unsafe fn new(start: NonNull<u8>, length: usize) -> Self {
        Self { start, length, _memory: PhantomData }
    }

    /// Returns the region of a buffer, which stays borrowed for `'m`.
    pub fn from_buffer(buffer: &'m mut [u8]) -> Self {
        let length = buffer.len();
        // SAFETY: borrowed exclusively for 'm.
        unsafe { Self::new(NonNull::from(buffer).cast(), length) }
    }

    /// Splits the region after `at` bytes.
    ///
    /// # Errors
    /// [`LayoutError::TooShort`] if the region is shorter than `at`.
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

    /// Returns `count` values of `T` at offset `at`.
    ///
    /// # Safety
    /// - they lie inside the region, aligned;
    /// - `T` consists of atomics (and padding that no code reads), so that any bytes are valid and may change.
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
        // Relaxed: the header was written before the memory was handed over.
        Ok(core::array::from_fn(|i| shared[i].load(Ordering::Relaxed)))
    }

    /// Writes a fresh header over `used` zeroed bytes.
    ///
    /// # Safety
    /// - the region is writable, at least `used` long, and no other code uses it yet.
    unsafe fn format(self, used: usize, header: &Words) {
        // SAFETY: inside the region, writable and unused by the caller's contract.
        unsafe { self.start.write_bytes(0, used) };
        // SAFETY: as above, and `Region` is aligned to far more than a word (`fits`).
        unsafe { self.start.cast::<Words>().write(*header) };
    }
}
