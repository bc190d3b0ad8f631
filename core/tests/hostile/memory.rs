//! Mappings between two guard pages: an access one byte beyond the end crashes.

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU32;
use whorl_core::layout::{ALIGN, Region};

const PAGE: usize = 4096;

/// Zeroed memory that ends as close to a guard page as the alignment of a region allows.
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
    /// If there is no memory left.
    pub fn new(length: usize) -> Self {
        let inside = length.next_multiple_of(PAGE);
        let mapped = inside + 2 * PAGE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let mapping = unsafe { mmap_anonymous(null_mut(), mapped, ProtFlags::empty(), MapFlags::PRIVATE) };
        let mapping = mapping.expect("address space");
        let open = mapping.wrapping_byte_add(PAGE);
        let start = open.cast::<u8>().wrapping_add(inside - length.next_multiple_of(ALIGN));
        // SAFETY: the mapping belongs to this value.
        unsafe { mprotect(open, inside, MprotectFlags::READ | MprotectFlags::WRITE) }.expect("memory");
        Self { mapping, mapped, start: NonNull::new(start).expect("a mapping has an address"), length }
    }

    /// Returns all of it, for core.
    pub fn region(&self) -> Region<'_> {
        // SAFETY: mapped while `self` lives; besides core only atomics reach it, like those of another process.
        unsafe { Region::new(self.start, self.length) }
    }

    /// Returns all of its words, for a peer.
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: mapped, aligned, and at least this long; atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length / 4) }
    }

    /// Makes the memory read-only, as a receiver maps a ring's data.
    pub fn protect(&self) {
        let (open, inside) = (self.mapping.wrapping_byte_add(PAGE), self.mapped - 2 * PAGE);
        // SAFETY: the mapping belongs to this value; a write from now on is meant to crash.
        unsafe { mprotect(open, inside, MprotectFlags::READ) }.expect("a mapping of this value");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value, and no borrow of it is left.
        unsafe { munmap(self.mapping, self.mapped) }.expect("a mapping of this value");
    }
}
