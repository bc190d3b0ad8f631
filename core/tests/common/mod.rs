//! Code that the tests share: aligned memory, a host for one thread, small random numbers.
#![allow(dead_code, reason = "each test uses only a part of it")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;
use whorl_core::host::{Futex, Host, WaitResult};
use whorl_core::layout::{ALIGN, Geometry, OwnedRing, Region, Ring};
use whorl_core::sync::AtomicU32;

/// Zeroed memory with the alignment of a region.
pub struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    pub fn new(length: usize) -> Self {
        let layout = Layout::from_size_align(length.max(1), ALIGN).unwrap();
        // SAFETY: at least one byte.
        let start = unsafe { alloc_zeroed(layout) };
        Self { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }

    /// Returns the region of the first `length` bytes.
    pub fn region(&self, length: usize) -> Region<'_> {
        assert!(length <= self.layout.size());
        // SAFETY: allocated, and lent while the region lives; the tests look at bytes only between uses.
        unsafe { Region::new(self.start, length) }
    }

    pub fn validate(&self) -> Region<'_> {
        self.region(self.layout.size())
    }

    /// Returns one word, as a peer reaches it.
    pub fn word(&self, at: usize) -> &std::sync::atomic::AtomicU32 {
        assert!((at + 1) * 4 <= self.layout.size());
        // SAFETY: inside the memory.
        let word = unsafe { self.start.cast::<std::sync::atomic::AtomicU32>().add(at) };
        // SAFETY: allocated and initialised; aligned, as all of it is; atomic.
        unsafe { word.as_ref() }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated, initialised with zeroes or by a ring, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

// SAFETY: owns its allocation.
unsafe impl Send for Memory {}
// SAFETY: shared only as regions.
unsafe impl Sync for Memory {}

/// Makes the two regions of a ring with `geometry`.
pub fn regions(geometry: Geometry) -> [Memory; 2] {
    [geometry.data_length(), geometry.control_length()].map(|length| Memory::new(length as usize))
}

/// Makes a ring in fresh memory.
pub fn create<H: Host + Clone>(memory: &[Memory; 2], geometry: Geometry, host: H) -> OwnedRing<'_, H> {
    let [data, control] = memory;
    // SAFETY: fresh memory of the right lengths; the tests' hosts reclaim only forgotten participants.
    unsafe { Ring::create(data.validate(), control.validate(), geometry, 7, host) }.unwrap()
}

/// A host for a single thread. A participant that sleeps there would sleep forever, so a wait without a deadline
/// panics.
#[derive(Clone, Default)]
pub struct Alone {
    /// One bit for each dead seat.
    pub dead: Rc<Cell<u32>>,
    /// Whether the owner is dead.
    pub owner_dead: Rc<Cell<bool>>,
}

impl Futex for Alone {
    type Deadline = ();

    fn wait(&self, _: &AtomicU32, _: u32, deadline: Option<()>) -> WaitResult {
        assert!(deadline.is_some(), "a wait without a deadline, in the only thread, never ends");
        WaitResult::TimedOut
    }
    fn wake_all(&self, _: &AtomicU32) {}
}

impl Host for Alone {
    fn try_reclaim(&self, seat: u32, reclaim: impl FnOnce()) -> bool {
        let dead = self.dead.get() >> seat & 1 == 1;
        if dead {
            reclaim();
        }
        dead
    }
    fn try_sweep(&self, round: impl FnOnce()) {
        round();
    }
    fn owner_is_dead(&self) -> bool {
        self.owner_dead.get()
    }
}

/// Xorshift random numbers: the same sequence for each seed, on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.word() >> 32) * u64::from(bound)) >> 32) as u32
    }
}
