//! Contents of files and messages that show any damage.

use std::fs;
use std::path::Path;

/// Bytes without a pattern that a block boundary could hide.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&next(&mut state).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The next number of a xorshift sequence.
pub fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Asserts that a file holds exactly these bytes, without printing them.
#[track_caller]
pub fn assert_holds(path: &Path, bytes: &[u8]) {
    let found = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if found != bytes {
        let at = found.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(found.len().min(bytes.len()));
        panic!(
            "{}: {} bytes instead of {}, first difference at {at}",
            path.display(),
            found.len(),
            bytes.len()
        );
    }
}

/// A message that shows whether it is whole: its seed, then words that follow from the seed, as does its length.
pub fn message(seed: u64, most: usize) -> Vec<u8> {
    let length = 16 + (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % (most - 15);
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend(seed.to_le_bytes());
    let mut word = seed;
    while bytes.len() < length {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(word.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Whether these bytes are a [`message`], or the empty one of a fresh mailbox.
pub fn is_whole(bytes: &[u8], most: usize) -> bool {
    let Some(seed) = bytes.first_chunk::<8>() else { return bytes.is_empty() };
    message(u64::from_le_bytes(*seed), most) == bytes
}
