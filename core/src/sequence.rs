//! 32-bit sequence numbers: the number of a cell since the start of the ring, wrapping.
//!
//! In a lossless ring two sequences are never further apart than the capacity (at most 2^30). So the wrapping distance
//! is exact, and every comparison uses it. No value is special: each of the 2^32 values comes round.

/// The number of a cell since the start of its ring, modulo 2^32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sequence(u32);

impl Sequence {
    /// Returns the sequence that a shared word holds.
    pub fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// Returns the word to store in shared memory.
    pub fn to_word(self) -> u32 {
        self.0
    }

    /// Returns the sequence `count` cells later.
    pub fn wrapping_add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Returns the sequence `count` cells earlier.
    pub fn wrapping_sub(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }

    /// Returns how many cells lie from `earlier` up to this one. The result is exact if `earlier` is not later, and a
    /// huge number otherwise. So a caller that reads `earlier` from a peer compares the result with the capacity before
    /// using it.
    pub fn distance_from(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Returns whether this sequence lies before `other`. Both are at most 2^31 apart.
    pub fn is_before(self, other: Self) -> bool {
        let ahead = other.distance_from(self);
        ahead != 0 && ahead < 1 << 31
    }

    /// Returns the index of this cell among `capacity` cells. The capacity is a power of two.
    pub fn index(self, capacity: u32) -> u32 {
        self.0 & (capacity - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Sequence;

    #[test]
    fn distance_and_order_hold_across_the_wrap() {
        for start in [0, 1, u32::MAX - 3, u32::MAX, 1 << 31] {
            let a = Sequence::from_word(start);
            for step in [1, 2, 7, 1 << 30] {
                let b = a.wrapping_add(step);
                assert_eq!(b.distance_from(a), step);
                assert_eq!(b.wrapping_sub(step), a);
                assert!(a.is_before(b) && !b.is_before(a) && !a.is_before(a));
            }
        }
    }

    #[test]
    fn indices_of_neighbours_never_collide_within_a_lap() {
        let start = Sequence::from_word(u32::MAX - 1);
        let mut seen = [false; 4];
        for step in 0..4 {
            let index = start.wrapping_add(step).index(4) as usize;
            assert!(!core::mem::replace(&mut seen[index], true));
        }
    }
}
