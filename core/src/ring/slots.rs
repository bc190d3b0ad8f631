//! The slots of a ring. The algorithms decide only *when* a slot may be touched; this module says what it holds.

use crate::error::{Corrupt, TooLong};
use crate::sequence::Sequence;
use crate::sync::{AtomicU32, Ordering};
use core::marker::PhantomData;
use core::ptr::NonNull;

/// A ring's slots. The algorithms give out an index only to the participant that may use the slot.
///
/// # Safety
/// An implementation promises that `count` and `may_evict` always return the same values.
pub unsafe trait Slots {
    /// What the sender gets for a claimed slot.
    type Writer<'a>
    where
        Self: 'a;
    /// What a receiver gets for a published slot.
    type Reader<'a>
    where
        Self: 'a;

    /// Returns how many slots there are: a power of two, constant.
    fn count(&self) -> u32;

    /// Returns a claimed slot, to write.
    ///
    /// # Safety
    /// - `index` is below `count`;
    /// - the caller is the sender and has claimed the slot: no other writer or reader of it exists during the borrow.
    unsafe fn writer(&self, index: u32) -> Self::Writer<'_>;

    /// Returns a published slot, to read.
    ///
    /// # Safety
    /// - `index` is below `count`;
    /// - the slot is published and the caller has not given it back: the sender does not write it during the borrow.
    unsafe fn reader(&self, index: u32) -> Self::Reader<'_>;

    /// Hints that the caller is about to touch this slot. It may do nothing.
    ///
    /// A receiver that looks for items gives this hint, so that the slot's memory arrives together with the tail that
    /// announces it. A sender gives it for the first slot of a claim, so that all of the slot arrives at once.
    fn prefetch(&self, _index: u32, _purpose: Purpose) {}

    /// Returns how many slots ahead of the current one that hint is given. It is 0 if touching one slot takes long
    /// enough to hide the fetch of the next, or if the processor predicts the next slot by itself.
    fn ahead(&self) -> u32 {
        0
    }

    /// Returns whether a receiver may be evicted from this ring. If so, slots can change under a reader.
    fn may_evict(&self) -> bool {
        false
    }
}

/// What a slot is about to be touched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A receiver will read it.
    Read,
    /// The sender will write it.
    Write,
}

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Bytes, in the slot.
    Bytes,
    /// This many zero bytes, not stored anywhere.
    Hole(u64),
}

const BYTES: u32 = 0;
const HOLE: u32 = 1;

/// The record beside each payload. The sender writes it. *Publish* and *release* guard it, so its accesses are Relaxed.
/// 16 bytes.
#[repr(C)]
#[derive(Debug)]
pub struct Record {
    /// Bytes in the slot.
    length: AtomicU32,
    /// `BYTES` or `HOLE`.
    kind: AtomicU32,
    /// A hole's length: low half, high half.
    argument: [AtomicU32; 2],
}

/// Slots of raw bytes in a mapping: an array of [`Record`]s, then the payloads at a fixed stride.
///
/// Invariants, upheld by `layout/ring.rs`, the only module that makes these:
/// - I1: `records` points at `count` records and `payload` at `count * stride` bytes, valid for reads for `'m`, and for
///   writes where a sender's parts were made from it;
/// - I2: `size <= stride`;
/// - I3: the payload is never reached through a reference, only by copies through pointers and by the kernel.
#[derive(Clone, Copy, Debug)]
pub struct ByteSlots<'m> {
    pub(crate) records: &'m [Record],
    pub(crate) payload: NonNull<u8>,
    pub(crate) size: usize,
    pub(crate) stride: usize,
    pub(crate) evictable: bool,
}

// SAFETY: the pointer is to shared memory that outlives 'm (I1); the ring's protocol decides which participant touches
// which slot.
unsafe impl Send for ByteSlots<'_> {}
// SAFETY: as above.
unsafe impl Sync for ByteSlots<'_> {}

impl ByteSlots<'_> {
    /// Returns the payload bytes of one slot.
    pub fn size(&self) -> usize {
        self.size
    }

    /// # Safety
    /// - `index` is below `count`.
    unsafe fn payload(&self, index: u32) -> NonNull<u8> {
        // SAFETY: index < count by the caller's contract, so the offset stays inside the payload area (I1).
        unsafe { self.payload.add(index as usize * self.stride) }
    }
}

// SAFETY: the measures are plain fields, which no code changes.
unsafe impl Slots for ByteSlots<'_> {
    type Writer<'a>
        = ByteWriter<'a>
    where
        Self: 'a;
    type Reader<'a>
        = ByteReader<'a>
    where
        Self: 'a;

    fn count(&self) -> u32 {
        self.records.len() as u32
    }

    unsafe fn writer(&self, index: u32) -> ByteWriter<'_> {
        ByteWriter {
            record: &self.records[index as usize],
            // SAFETY: below `count` by the caller's contract.
            payload: unsafe { self.payload(index) },
            size: self.size,
            evictable: self.evictable,
            _slot: PhantomData,
        }
    }

    unsafe fn reader(&self, index: u32) -> ByteReader<'_> {
        ByteReader {
            record: &self.records[index as usize],
            // SAFETY: below `count` by the caller's contract.
            payload: unsafe { self.payload(index) },
            size: self.size,
            evictable: self.evictable,
            _slot: PhantomData,
        }
    }

    #[inline]
    fn prefetch(&self, index: u32, purpose: Purpose) {
        if let Some(record) = self.records.get(index as usize) {
            prefetch(record, purpose);
            prefetch(self.payload.as_ptr().wrapping_add(index as usize * self.stride), purpose);
        }
    }

    #[inline]
    fn ahead(&self) -> u32 {
        // Measured: at 64 bytes the hint gains one receiver a fifth, and at a page it costs a fifth.
        if self.stride <= FEW_LINES { 4 } else { 0 }
    }

    fn may_evict(&self) -> bool {
        self.evictable
    }
}

/// Gives the hint for a slot some way ahead of the `i`-th in a batch of `count` from `start` on, if the batch reaches
/// that far.
#[inline]
pub(super) fn prefetch_ahead<S: Slots>(slots: &S, start: Sequence, i: u32, count: u32, purpose: Purpose) {
    let ahead = slots.ahead();
    if ahead > 0 && ahead < count - i {
        slots.prefetch(start.wrapping_add(i + ahead).index(slots.count()), purpose);
    }
}

/// The most bytes of a slot that count as few cache lines.
const FEW_LINES: usize = 128;

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
/// - the payload is a slot's, and the word lies inside the slot's stride;
/// - the result is not used beyond the slot's memory.
unsafe fn word_at<'a>(payload: NonNull<u8>, i: usize) -> &'a AtomicU32 {
    // SAFETY: inside the payload area by the caller's contract.
    let word = unsafe { payload.cast::<AtomicU32>().add(i) };
    // SAFETY: in bounds; aligned, because payloads start and repeat at multiples of 16 bytes (`layout/ring.rs`);
    // atomics may be shared with other threads and processes.
    unsafe { word.as_ref() }
}

/// A claimed slot, to be written in place.
#[derive(Debug)]
pub struct ByteWriter<'a> {
    record: &'a Record,
    payload: NonNull<u8>,
    size: usize,
    /// A receiver that was evicted may still be copying this slot: only word-wise writes.
    evictable: bool,
    _slot: PhantomData<&'a mut [u8]>,
}

impl ByteWriter<'_> {
    /// Returns how many bytes fit.
    pub fn capacity(&self) -> usize {
        self.size
    }

    /// Returns where to write the [`capacity`](Self::capacity) bytes, which are this writer's alone while it lives. On
    /// a ring that evicts, use the pointer only for the kernel (read(2)) and for other processes. An evicted receiver
    /// of this process may still read the slot, and a plain write would race with it.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.payload.as_ptr()
    }

    /// Makes the first `length` bytes the message.
    ///
    /// # Errors
    /// `TooLong` if they do not fit. The slot's record is then unchanged.
    pub fn set_length(&mut self, length: usize) -> Result<(), TooLong> {
        if length > self.size {
            return Err(TooLong);
        }
        self.fill(length as u32, BYTES, 0);
        Ok(())
    }

    /// Copies a whole message into the slot.
    ///
    /// # Errors
    /// `TooLong` if it does not fit. The slot is then unchanged.
    pub fn write(&mut self, message: &[u8]) -> Result<(), TooLong> {
        if message.len() > self.size {
            return Err(TooLong);
        }
        if self.evictable {
            self.write_words(message);
        } else {
            // SAFETY: the slot is `size` writable bytes (I1), ours alone by the claim, and no reference to it exists (I3).
            unsafe { core::ptr::copy_nonoverlapping(message.as_ptr(), self.payload.as_ptr(), message.len()) };
        }
        self.set_length(message.len())
    }

    /// Writes word by word, for a slot that an evicted receiver may still be copying.
    fn write_words(&mut self, message: &[u8]) {
        for (i, part) in message.chunks(4).enumerate() {
            let mut bytes = [0; 4];
            bytes[..part.len()].copy_from_slice(part);
            // SAFETY: `message` fits the slot, so the word lies inside its stride.
            let word = unsafe { word_at(self.payload, i) };
            word.store(u32::from_ne_bytes(bytes), Ordering::Relaxed); // Relaxed: *publish*, and the fence in `look`
        }
    }

    /// Makes this item stand for `length` zero bytes.
    pub fn set_hole(&mut self, length: u64) {
        self.fill(0, HOLE, length);
    }

    fn fill(&mut self, length: u32, kind: u32, argument: u64) {
        // Relaxed: *publish* makes the stores visible.
        self.record.length.store(length, Ordering::Relaxed);
        self.record.kind.store(kind, Ordering::Relaxed);
        self.record.argument[0].store(argument as u32, Ordering::Relaxed);
        self.record.argument[1].store((argument >> 32) as u32, Ordering::Relaxed);
    }
}

/// A published slot, to be read in place. A hostile sender can make the bytes garbage, but never lead out of bounds.
#[derive(Debug)]
pub struct ByteReader<'a> {
    record: &'a Record,
    payload: NonNull<u8>,
    size: usize,
    /// The sender may overwrite this slot after it evicts this receiver: only word-wise copies, validated afterwards.
    evictable: bool,
    _slot: PhantomData<&'a [u8]>,
}

impl ByteReader<'_> {
    /// Returns what the slot holds, and how many bytes of it lie in the slot.
    ///
    /// # Errors
    /// `Corrupt` for a length beyond the slot or an unknown kind.
    pub fn kind(&self) -> Result<(Kind, usize), Corrupt> {
        let word = |word: &AtomicU32| word.load(Ordering::Relaxed); // Relaxed: guarded by *publish*
        let length = word(&self.record.length) as usize;
        match word(&self.record.kind) {
            BYTES if length <= self.size => Ok((Kind::Bytes, length)),
            HOLE if length == 0 => {
                let [low, high] = &self.record.argument;
                Ok((Kind::Hole(u64::from(word(low)) | u64::from(word(high)) << 32), 0))
            }
            _ => Err(Corrupt),
        }
    }

    /// Returns where the bytes lie, for write(2), which is safe even if the sender changes them meanwhile. Returns
    /// `None` on a ring that evicts, where only copies can be validated.
    pub fn as_ptr(&self) -> Option<*const u8> {
        (!self.evictable).then_some(self.payload.as_ptr().cast_const())
    }

    /// Copies the message to `buffer`. Returns its length, or the length needed if `buffer` is too short. On a ring
    /// that evicts, the bytes count only if [`Batch::validate`](super::Batch::validate) returns true afterwards.
    ///
    /// # Errors
    /// `Corrupt` as [`kind`](Self::kind).
    pub fn copy_to(&self, buffer: &mut [u8]) -> Result<Result<usize, usize>, Corrupt> {
        let (_, length) = self.kind()?;
        let Some(buffer) = buffer.get_mut(..length) else { return Ok(Err(length)) };
        if self.evictable {
            self.copy_words(buffer);
        } else {
            // SAFETY: `length` bytes are inside the slot (checked by `kind`) and inside `buffer`. The sender does not
            // write the slot while it is published and not given back.
            unsafe { core::ptr::copy_nonoverlapping(self.payload.as_ptr(), buffer.as_mut_ptr(), length) };
        }
        Ok(Ok(length))
    }

    /// Copies word by word, for a slot that may be overwritten meanwhile.
    fn copy_words(&self, buffer: &mut [u8]) {
        for (i, part) in buffer.chunks_mut(4).enumerate() {
            // SAFETY: `part` lies inside the slot, so the word lies inside its stride.
            let word = unsafe { word_at(self.payload, i) };
            // Relaxed: `validate` fences after the copy.
            part.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()[..part.len()]);
        }
    }

    /// Returns the bytes in place.
    ///
    /// # Safety
    /// - The sender is trusted: it follows this crate's protocol for as long as the slice lives;
    /// - this ring evicts no receiver.
    ///
    /// # Errors
    /// `Corrupt` as [`kind`](Self::kind).
    pub unsafe fn as_slice(&self) -> Result<&[u8], Corrupt> {
        let (_, length) = self.kind()?;
        // SAFETY: inside the slot; unchanging by the caller's promise.
        Ok(unsafe { core::slice::from_raw_parts(self.payload.as_ptr(), length) })
    }
}
