//! A ring on the heap, for the threads of one process.
//!
//! # Examples
//!
//! ```
//! use whorl::heap;
//! use whorl_core::error::{End, ReadError};
//! use whorl_core::ring::{ClaimSize, PendingReceiver};
//! use whorl_core::layout::Geometry;
//!
//! let (mut sender, membership, ring) = heap::ring(Geometry::new(4096, 2)?)?;
//! let pending = PendingReceiver::request_seat(ring, 0, true, 0)?;
//! membership.admit_all();
//! let mut receiver = pending.admitted(None)?;
//! let reader = std::thread::spawn(move || {
//!     let mut texts = Vec::new();
//!     loop {
//!         let mut batch = match receiver.read(None) {
//!             Err(ReadError::Ended(_)) => return texts,
//!             batch => batch.unwrap(),
//!         };
//!         while let Some(frame) = batch.next_frame().unwrap() {
//!             let mut text = vec![0; frame.payload().len()];
//!             frame.payload().copy_to(&mut text).unwrap();
//!             texts.push(String::from_utf8(text).unwrap());
//!         }
//!         batch.release();
//!     }
//! });
//! for text in ["one", "two", "three"] {
//!     let length = text.len() as u32;
//!     let mut claim = sender.claim(ClaimSize::exactly(length), None)?;
//!     claim.writer().write(text.as_bytes());
//!     claim.publish(length);
//! }
//! sender.close(End { total: 11, checksum: None });
//! assert_eq!(reader.join().unwrap(), ["one", "two", "three"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::os::futex::ThreadFutex;
use crate::shm::mapped_ring::{MappedRing, MappedRingOwner};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;
use whorl_core::host::{Futex, Host, WaitResult};
use whorl_core::layout::{ALIGN, Geometry, LayoutError, Region, Ring};
use whorl_core::ring::{Membership, Sender};
use whorl_core::sync::AtomicU32;

/// The host of the algorithms within one process. It waits with the private futex. It detects no deaths, because all threads end
/// together with the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadHost;

impl Futex for ThreadHost {
    type Deadline = Instant;

    fn spin(&self, attempt: u32, deadline: Option<Instant>) -> bool {
        ThreadFutex.spin(attempt, deadline)
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> WaitResult {
        ThreadFutex.wait(word, expected, deadline)
    }
    fn wake_all(&self, word: &AtomicU32) {
        ThreadFutex.wake_all(word);
    }
}

impl Host for ThreadHost {
    fn try_reclaim(&self, _seat: u32, _reclaim: impl FnOnce()) -> bool {
        false
    }
    fn try_sweep(&self, _sweep: impl FnOnce()) {}
    fn owner_is_dead(&self) -> bool {
        false
    }
}

/// A zeroed allocation, aligned to [`ALIGN`].
#[derive(Debug)]
pub struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: `Block` owns its allocation and no thread-local state, so any thread may free it.
unsafe impl Send for Block {}
// SAFETY: a shared `Block` gives no access to the bytes. The ring in them does, and it synchronizes its accesses itself.
unsafe impl Sync for Block {}

impl Block {
    fn new(length: u64) -> Result<Self, LayoutError> {
        let length = usize::try_from(length).map_err(|_| LayoutError::TooLarge)?;
        let layout = Layout::from_size_align(length, ALIGN).map_err(|_| LayoutError::TooLarge)?;
        // SAFETY: the layout's size is not 0, because the length of a geometry is never 0.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Ok(Self { start, layout })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `new` allocated `start` with this layout, and only this `drop` frees it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// A ring on the heap, as a receiver uses it.
pub type HeapRing = MappedRing<ThreadHost, Block>;
/// A ring on the heap, as its sender uses it.
pub type OwnedHeapRing = MappedRingOwner<ThreadHost, Block>;

/// Creates a ring on the heap. Returns its sender, the membership that admits receivers, and the ring that receivers join.
///
/// # Errors
/// - [`LayoutError::TooLarge`] if the geometry does not fit the address space of this machine.
/// - [`LayoutError::Evictable`] if the geometry allows eviction. An evicted receiver may still read while the sender overwrites
///   its cells without atomics. Between threads of one process that is a data race.
pub fn ring(
    geometry: Geometry,
) -> Result<(Sender<OwnedHeapRing>, Membership<HeapRing>, HeapRing), LayoutError> {
    if geometry.is_evictable() {
        return Err(LayoutError::Evictable);
    }
    let data = geometry.data_length().next_multiple_of(ALIGN as u64);
    let block = Arc::new(Block::new(data + geometry.control_length())?);
    // SAFETY: the region is the whole allocation of `block`, which the returned rings keep alive.
    let region = unsafe { Region::new(block.start, block.layout.size()) };
    let (data, control) = region.split_at(data as usize)?;
    // SAFETY: the two regions are zeroed, writable and disjoint, and no other code uses them yet.
    let ring = unsafe { Ring::create(data, control, geometry, 0, ThreadHost) }?;
    // SAFETY: the ring lies in `block`, a heap allocation that does not move until it is freed.
    let owned = unsafe { MappedRingOwner::new(ring, block) };
    let ring = owned.ring();
    let (sender, membership) = owned.into_sender();
    Ok((sender, membership, ring))
}
