//! Mappings between two pages that nobody may touch: an access one byte too far is a crash.

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU32;
use whorl_core::layout::{ALIGN, Region};

const PAGE: usize = 4096;

/// Zeroed memory whose end lies as close before a guard page as the alignment of a region allows.
pub struct Guarded {
    mapping: *mut c_void,
    mapped: usize,
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: owns its mapping.
unsafe impl Send for Guarded {}
// SAFETY: shared only as regions and as atomics.
unsafe impl Sync for Guarded {}

impl Guarded {
    /// # Panics
    /// If there is no memory.
    pub fn new(length: usize) -> Self {
        let inside = length.next_multiple_of(PAGE);
        let mapped = inside + 2 * PAGE;
        // SAFETY: a new mapping, where the kernel likes.
        let mapping = unsafe { mmap_anonymous(null_mut(), mapped, ProtFlags::empty(), MapFlags::PRIVATE) };
        let mapping = mapping.expect("address space");
        let open = mapping.wrapping_byte_add(PAGE);
        let start = open.cast::<u8>().wrapping_add(inside - length.next_multiple_of(ALIGN));
        // SAFETY: the mapping is ours.
        unsafe { mprotect(open, inside, MprotectFlags::READ | MprotectFlags::WRITE) }.expect("memory");
        Self { mapping, mapped, start: NonNull::new(start).expect("a mapping has an address"), length }
    }

    /// All of it, for core.
    pub fn region(&self) -> Region<'_> {
        // SAFETY: mapped for as long as `self` lives; besides core only atomics reach it, as another process's would.
        unsafe { Region::new(self.start, self.length) }
    }

    /// All of it, for a peer.
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: mapped, aligned, and as long as that; atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length / 4) }
    }

    /// From now on it can only be read, as a receiver maps a ring's data.
    pub fn protect(&self) {
        let (open, inside) = (self.mapping.wrapping_byte_add(PAGE), self.mapped - 2 * PAGE);
        // SAFETY: the mapping is ours; who writes there from now on is to crash.
        unsafe { mprotect(open, inside, MprotectFlags::READ) }.expect("a mapping of ours");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: ours, and lent to nobody any more.
        unsafe { munmap(self.mapping, self.mapped) }.expect("a mapping of ours");
    }
}
