//! The checksum of `--verify`: XXH3 with 128 bits. It finds accidents, not attackers.
//!
//! The faster of the two crates counts bytes in a machine word, which is too narrow for streams on 32-bit machines.

#[cfg(target_pointer_width = "64")]
use twox_hash::XxHash3_128 as State;
#[cfg(not(target_pointer_width = "64"))]
use xxhash_rust::xxh3::Xxh3 as State;

/// A checksum over a stream of bytes.
pub(super) struct Checksum {
    state: State,
}

/// A finished checksum, in the order its hex digits are printed.
pub type Sum = [u8; 16];

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

impl Checksum {
    /// Returns the checksum of no bytes.
    pub(super) fn new() -> Self {
        Self { state: State::new() }
    }

    /// Adds the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        #[cfg(target_pointer_width = "64")]
        self.state.write(bytes);
        #[cfg(not(target_pointer_width = "64"))]
        self.state.update(bytes);
    }

    /// Adds `length` zero bytes.
    pub(super) fn update_zeros(&mut self, mut length: u64) {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        while length > 0 {
            let step = length.min(ZEROS.len() as u64);
            self.update(&ZEROS[..step as usize]);
            length -= step;
        }
    }

    /// Returns the checksum.
    pub(super) fn finish(&self) -> Sum {
        #[cfg(target_pointer_width = "64")]
        let sum = self.state.finish_128();
        #[cfg(not(target_pointer_width = "64"))]
        let sum = self.state.digest128();
        sum.to_be_bytes()
    }
}

/// Formats a checksum as 32 hex digits.
pub fn hex(sum: Sum) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_xxh3_128_and_does_not_depend_on_how_bytes_arrive() {
        // The reference implementation's value for no bytes at all.
        assert_eq!(hex(Checksum::new().finish()), "99aa06d3014798d86001c324468d497f");
        let mut whole = Checksum::new();
        whole.update(&[0; 100_000]);
        let mut parts = Checksum::new();
        parts.update(&[0; 1]);
        parts.update_zeros(99_999);
        assert_eq!(whole.finish(), parts.finish());
    }
}
