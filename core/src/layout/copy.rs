//! Copies between private memory and memory that other processes may write at any time.
//!
//! An ordinary copy that races with a peer's store is undefined behaviour, even if the caller discards the bytes. So
//! the copy consists of single atomic accesses. Where that is slow, because compilers do not merge such accesses, it is
//! one instruction. The compiler does not look into that instruction, and the processor runs it at full speed.
//!
//! Relaxed throughout: the caller is inside a lock, and the lock orders the bytes.

use crate::sync::{AtomicU32, Ordering::Relaxed};

/// Below this length, starting the instruction costs more than it saves.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const SHORT: usize = 128;

/// Copies the beginning of `words` to `into`, which is not longer.
pub(super) fn load(words: &[AtomicU32], into: &mut [u8]) {
    assert!(into.len() <= size_of_val(words));
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if into.len() >= SHORT {
        // SAFETY: the words are at least as long as `into`, and `into` is borrowed exclusively.
        unsafe { move_bytes(words.as_ptr().cast(), into.as_mut_ptr(), into.len()) };
        return;
    }
    let (whole, rest) = into.as_chunks_mut::<4>();
    for (word, part) in words.iter().zip(whole.iter_mut()) {
        *part = word.load(Relaxed).to_ne_bytes();
    }
    if let Some(word) = words.get(whole.len()) {
        rest.copy_from_slice(&word.load(Relaxed).to_ne_bytes()[..rest.len()]);
    }
}

/// Copies `from` to the beginning of `words`, which are not shorter. Bytes after it in the last word may change.
pub(super) fn store(words: &[AtomicU32], from: &[u8]) {
    assert!(from.len() <= size_of_val(words));
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if from.len() >= SHORT {
        // SAFETY: the words are at least as long as `from`. They are atomics, so interior mutability makes the shared
        // reference enough.
        unsafe { move_bytes(from.as_ptr(), words.as_ptr().cast_mut().cast(), from.len()) };
        return;
    }
    let (whole, rest) = from.as_chunks::<4>();
    for (word, part) in words.iter().zip(whole) {
        word.store(u32::from_ne_bytes(*part), Relaxed);
    }
    if let Some(word) = words.get(whole.len()).filter(|_| !rest.is_empty()) {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        word.store(u32::from_ne_bytes(last), Relaxed);
    }
}

/// Copies bytes with one instruction, about which the compiler makes no assumptions.
///
/// # Safety
/// - `length` bytes can be read from `from` and written to `to`, and the two do not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn move_bytes(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: by the caller's contract. The calling convention keeps the direction flag clear.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") length => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_survives_a_round_trip() {
        let words = [const { AtomicU32::new(u32::MAX) }; 128];
        for length in 0..=512 {
            let mut from = [0; 512];
            for (index, byte) in from.iter_mut().enumerate() {
                *byte = (index * 7 + length) as u8;
            }
            store(&words, &from[..length]);
            let mut into = [0xAA; 512];
            load(&words, &mut into[..length]);
            assert_eq!(into[..length], from[..length]);
            assert!(into[length..].iter().all(|&byte| byte == 0xAA));
        }
    }
}
