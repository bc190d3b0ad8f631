//! The load: the content of a message, and the two loops that write and check every word of it.
//!
//! Word 0 is the message's number, with the top bit set on the last one. Word `i` is the number plus `i`. All
//! contenders run these loops, in place where they can, so every figure contains the loops' cost.

/// Marks the last message of a run, in word 0.
pub const LAST: u64 = 1 << 63;

/// Writes a whole message.
#[inline]
pub fn fill(words: &mut [u64], stamp: u64) {
    let number = stamp & !LAST;
    for (i, word) in words.iter_mut().enumerate() {
        *word = number.wrapping_add(i as u64);
    }
    words[0] = stamp;
}

/// Writes a whole message into shared memory that a contender gives out by pointer.
///
/// # Safety
/// `words` points to `len` writable, aligned words that no other code uses during the call; `len` is not 0.
#[inline]
pub unsafe fn fill_at(words: *mut u64, len: usize, stamp: u64) {
    // SAFETY: the caller's promise; any bits are a valid u64.
    fill(unsafe { std::slice::from_raw_parts_mut(words, len) }, stamp);
}

/// Reads every word of a message. Returns whether all are as `fill` wrote them for this number.
#[inline]
pub fn check(words: &[u64], number: u64) -> bool {
    let mut difference = (words[0] & !LAST) ^ number;
    for (i, word) in words.iter().enumerate().skip(1) {
        difference |= word ^ number.wrapping_add(i as u64);
    }
    difference == 0
}
