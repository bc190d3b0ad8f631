//! Code that the tests share: a host for the threads of one process, and memory.

#![allow(dead_code, reason = "each test uses only a part of it")]

use std::time::Instant;
use whorl_core::host::SpinHost;

/// The host of the threads of one process.
pub type Yielding = SpinHost<Instant>;

/// Returns a host that yields while it waits.
pub fn yielding() -> SpinHost<Instant> {
    SpinHost::with_clock(|deadline| {
        std::thread::yield_now();
        deadline.is_none_or(|deadline| Instant::now() < deadline)
    })
}

/// Memory with the alignment that segments need.
#[repr(C, align(4096))]
#[derive(Clone, Copy)]
pub struct Page([u8; 4096]);

/// Returns pages of at least `length` zeroed bytes.
pub fn memory(length: u64) -> Vec<Page> {
    vec![Page([0; 4096]); length.div_ceil(4096) as usize]
}

/// Returns the bytes of the pages.
pub fn bytes(pages: &mut [Page]) -> &mut [u8] {
    // SAFETY: pages are bytes without padding.
    unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), pages.len() * 4096) }
}
