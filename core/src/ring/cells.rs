//! The memory of a ring's frames. The algorithms decide only *when* a cell may be touched; this module touches it.

use super::frame::CELL;
use crate::sequence::Sequence;
use crate::sync::{AtomicU32, Ordering};
use core::marker::PhantomData;
use core::ptr::NonNull;

/// A ring's cells. The algorithms give out cells only to the participant that may use them.
///
/// # Safety
/// An implementation promises that `count` and `may_evict` always return the same values.
pub unsafe trait Cells {
    /// What the sender gets for the payload of a claim.
    type Writer<'a>
    where
        Self: 'a;
    /// What a receiver gets for the payload of a published frame.
    type Reader<'a>
    where
        Self: 'a;

    /// Returns how many cells there are: a power of two, at most [`MAX_CELLS`](super::MAX_CELLS), constant.
    fn count(&self) -> u32;

    /// Returns the two words of a cell. *Publish* and *release* guard them.
    ///
    /// # Safety
    /// - `cell` is below `count`;
    /// - the cell is published. On a ring that cannot evict, the caller has not given it back.
    unsafe fn load_words(&self, cell: u32) -> [u32; 2];

    /// Stores the two words of a cell. *Publish* and *release* guard them.
    ///
    /// # Safety
    /// - `cell` is below `count`;
    /// - the caller is the sender and has claimed the cell.
    unsafe fn store_words(&self, cell: u32, words: [u32; 2]);

    /// Returns the payload of a claim whose header lies at `cell`, to write.
    ///
    /// # Safety
    /// - the header and `length` bytes after it lie within the cells;
    /// - the caller is the sender and has claimed them: no other writer or reader of them exists during the borrow.
    unsafe fn writer(&self, cell: u32, length: u32) -> Self::Writer<'_>;

    /// Returns the payload of a frame whose header lies at `cell`, to read.
    ///
    /// # Safety
    /// - the header and `length` bytes after it lie within the cells;
    /// - they are published and the caller has not given them back: the sender does not write them during the borrow.
    unsafe fn reader(&self, cell: u32, length: u32) -> Self::Reader<'_>;

    /// Hints that the caller is about to touch this cell. It may do nothing.
    ///
    /// The sender gives this hint for the first cell of a claim, and both sides give it for cells some way ahead of a short
    /// frame. A receiver that looks for messages does not: it would take the cells from the sender that writes them.
    fn prefetch(&self, _cell: u32, _purpose: Purpose) {}

    /// Returns whether a receiver may be evicted from this ring. If so, cells can change under a reader.
    fn may_evict(&self) -> bool {
        false
    }
}

/// What a cell is about to be touched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A receiver will read it.
    Read,
    /// The sender will write it.
    Write,
}

/// Cells of raw bytes in a mapping.
///
/// Invariants, upheld by `layout/ring.rs`, the only module that makes these:
/// - I1: `start` points at `count` cells, aligned to a page or to [`ALIGN`](crate::layout::ALIGN), valid for reads for
///   `'m`, and for writes where a sender's parts were made from it;
/// - I2: `count` is a power of two from 1 to [`MAX_CELLS`](super::MAX_CELLS);
/// - I3: payloads are never reached through a reference, only by copies through pointers and by the kernel.
#[derive(Clone, Copy, Debug)]
pub struct ByteCells<'m> {
    pub(crate) start: NonNull<u8>,
    pub(crate) count: u32,
    pub(crate) evictable: bool,
    pub(crate) memory: PhantomData<&'m AtomicU32>,
}

// SAFETY: the pointer is to shared memory that outlives 'm (I1); the ring's protocol decides which participant touches
// which cell.
unsafe impl Send for ByteCells<'_> {}
// SAFETY: as above.
unsafe impl Sync for ByteCells<'_> {}

impl ByteCells<'_> {
    /// # Safety
    /// - `cell` is at most `count`.
    unsafe fn at(&self, cell: u32) -> NonNull<u8> {
        // SAFETY: inside the cells, or one past them (I1).
        unsafe { self.start.add(cell as usize * CELL) }
    }

    /// # Safety
    /// - `cell` is below `count`.
    unsafe fn words(&self, cell: u32) -> &[AtomicU32; 2] {
        // SAFETY: below `count` by the caller's contract.
        let words = unsafe { self.at(cell) }.cast();
        // SAFETY: a cell is two words, inside the memory, aligned (I1); atomics may be shared with other threads and
        // processes.
        unsafe { words.as_ref() }
    }
}

// SAFETY: the measures are plain fields, which no code changes.
unsafe impl Cells for ByteCells<'_> {
    type Writer<'a>
        = ByteWriter<'a>
    where
        Self: 'a;
    type Reader<'a>
        = ByteReader<'a>
    where
        Self: 'a;

    #[inline]
    fn count(&self) -> u32 {
        self.count
    }

    #[inline]
    unsafe fn load_words(&self, cell: u32) -> [u32; 2] {
        // SAFETY: the caller's contract.
        let [first, second] = unsafe { self.words(cell) };
        [first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)] // Relaxed: guarded by *publish*
    }

    #[inline]
    unsafe fn store_words(&self, cell: u32, words: [u32; 2]) {
        // SAFETY: the caller's contract.
        let shared = unsafe { self.words(cell) };
        for (word, value) in shared.iter().zip(words) {
            word.store(value, Ordering::Relaxed); // Relaxed: *publish* makes it visible
        }
    }

    #[inline]
    unsafe fn writer(&self, cell: u32, length: u32) -> ByteWriter<'_> {
        // SAFETY: the header lies within the cells by the caller's contract.
        let start = unsafe { self.at(cell + 1) };
        ByteWriter { start, length: length as usize, evictable: self.evictable, _cells: PhantomData }
    }

    #[inline]
    unsafe fn reader(&self, cell: u32, length: u32) -> ByteReader<'_> {
        // SAFETY: as above.
        let start = unsafe { self.at(cell + 1) };
        ByteReader { start, length: length as usize, evictable: self.evictable, _cells: PhantomData }
    }

    #[inline]
    fn prefetch(&self, cell: u32, purpose: Purpose) {
        prefetch(self.start.as_ptr().wrapping_add(cell as usize * CELL), purpose);
    }

    #[inline]
    fn may_evict(&self) -> bool {
        self.evictable
    }
}

/// How far ahead of a short frame its neighbours are fetched, in cells: a few cache lines. Processors predict a stream of
/// reads, but not that the sender is about to write lines that are in receivers' caches.
const AHEAD: u32 = 32;

/// The longest frame, in cells, that does not hide the fetch of the next by itself.
const SHORT: u32 = 32;

/// Gives the hint for the cells some way ahead of a frame of `cells` cells at `at`, as far as `end`.
#[inline]
pub(super) fn prefetch_ahead<C: Cells>(
    memory: &C,
    at: Sequence,
    cells: u32,
    end: Sequence,
    purpose: Purpose,
) {
    const LINE: u32 = (64 / CELL) as u32;
    if cells > SHORT {
        return;
    }
    let mut ahead = AHEAD;
    while ahead < AHEAD + cells + LINE && ahead < end.distance_from(at) {
        memory.prefetch(at.wrapping_add(ahead).index(memory.count()), purpose);
        ahead += LINE;
    }
}

/// Fetches the cache line at an address, on processors that have an instruction for it.
#[inline(always)]
fn prefetch<T>(_address: *const T, _purpose: Purpose) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    match _purpose {
        // SAFETY: a prefetch changes no memory and no register, and does not fault, whatever the address.
        Purpose::Read => unsafe {
            core::arch::asm!("prefetcht0 [{}]", in(reg) _address, options(nostack, preserves_flags, readonly));
        },
        // SAFETY: as above; a processor without this instruction ignores it.
        Purpose::Write => unsafe {
            core::arch::asm!("prefetchw [{}]", in(reg) _address, options(nostack, preserves_flags, readonly));
        },
    }
}

/// Returns the `i`-th word of a payload.
///
/// # Safety
/// - the payload is a frame's, and the word begins within it;
/// - the result is not used beyond the ring's memory.
unsafe fn word_at<'a>(payload: NonNull<u8>, i: usize) -> &'a AtomicU32 {
    // SAFETY: inside the payload by the caller's contract.
    let word = unsafe { payload.cast::<AtomicU32>().add(i) };
    // SAFETY: in bounds, because a payload extends to the end of its last cell; aligned, because payloads begin at a
    // cell; atomics may be shared with other threads and processes.
    unsafe { word.as_ref() }
}

/// The payload of a claim, to be written in place.
#[derive(Debug)]
pub struct ByteWriter<'a> {
    start: NonNull<u8>,
    length: usize,
    /// A receiver that was evicted may still be copying these cells: only word-wise writes.
    evictable: bool,
    _cells: PhantomData<&'a mut [u8]>,
}

impl ByteWriter<'_> {
    /// Returns how many bytes were claimed.
    #[expect(clippy::len_without_is_empty, reason = "a length in bytes, not of a collection")]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns where to write the [`len`](Self::len) bytes, which are this writer's alone while it lives. On a ring
    /// that evicts, use the pointer only for the kernel (read(2)) and for other processes. An evicted receiver of this
    /// process may still read the cells, and a plain write would race with it.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Copies bytes to the beginning of the payload.
    ///
    /// # Panics
    /// If `bytes` are more than were claimed.
    pub fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.length, "{} bytes into a claim of {}", bytes.len(), self.length);
        if self.evictable {
            self.write_words(bytes);
        } else {
            // SAFETY: the payload is `length` writable bytes (I1), the sender's alone by the claim, and no reference to
            // it exists (I3).
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr(), bytes.len()) };
        }
    }

    /// Writes word by word, for cells that an evicted receiver may still be copying.
    fn write_words(&mut self, bytes: &[u8]) {
        for (i, part) in bytes.chunks(4).enumerate() {
            let mut four = [0; 4];
            four[..part.len()].copy_from_slice(part);
            // SAFETY: the bytes fit the payload, so the word begins within it.
            let word = unsafe { word_at(self.start, i) };
            word.store(u32::from_ne_bytes(four), Ordering::Relaxed); // Relaxed: *publish*, and the fence in `look`
        }
    }
}

/// The payload of a published frame, to be read in place. A hostile sender can make the bytes garbage, but never lead
/// out of bounds.
#[derive(Clone, Copy, Debug)]
pub struct ByteReader<'a> {
    start: NonNull<u8>,
    length: usize,
    /// The sender may overwrite these cells after it evicts this receiver: only word-wise copies, validated afterwards.
    evictable: bool,
    _cells: PhantomData<&'a [u8]>,
}

impl<'a> ByteReader<'a> {
    /// Returns the payload's length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a length in bytes, not of a collection")]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns where the bytes lie, for write(2), which is safe even if the sender changes them meanwhile. Returns
    /// `None` on a ring that evicts, where only copies can be validated.
    pub fn as_ptr(&self) -> Option<*const u8> {
        (!self.evictable).then_some(self.start.as_ptr().cast_const())
    }

    /// Copies the payload to the beginning of `buffer`. Returns its length. On a ring that evicts, the bytes count only
    /// if [`Batch::validate`](super::Batch::validate) returns true afterwards.
    ///
    /// # Errors
    /// The length, if `buffer` is too short.
    pub fn copy_to(&self, buffer: &mut [u8]) -> Result<usize, usize> {
        let Some(buffer) = buffer.get_mut(..self.length) else { return Err(self.length) };
        if self.evictable {
            self.copy_words(buffer);
        } else {
            // SAFETY: `length` bytes lie in the payload, which the header's check confined to the ring, and in `buffer`.
            // The sender does not write them while they are published and not given back.
            unsafe { core::ptr::copy_nonoverlapping(self.start.as_ptr(), buffer.as_mut_ptr(), self.length) };
        }
        Ok(self.length)
    }

    /// Copies word by word, for cells that may be overwritten meanwhile.
    fn copy_words(&self, buffer: &mut [u8]) {
        for (i, part) in buffer.chunks_mut(4).enumerate() {
            // SAFETY: `part` lies inside the payload, so the word begins within it.
            let word = unsafe { word_at(self.start, i) };
            // Relaxed: `validate` fences after the copy.
            part.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()[..part.len()]);
        }
    }

    /// Returns the bytes in place.
    ///
    /// # Safety
    /// - The sender is trusted: it follows this crate's protocol for as long as the slice lives;
    /// - the frame is not given back for as long as the slice lives;
    /// - this ring evicts no receiver.
    pub unsafe fn as_slice(&self) -> &'a [u8] {
        // SAFETY: inside the ring; unchanging by the caller's promise.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}
