//! Room in the ring that a sender has claimed, for a message that is written in place.

use crate::channel::control::progress::SendStatus;
use crate::shm::ring::OwnedSharedRing;
use std::fmt;
use whorl_core::ring::Claim as CoreClaim;

/// Claimed room for a message. Dropping it publishes nothing.
pub struct Claim<'s> {
    claim: CoreClaim<'s, OwnedSharedRing>,
    /// The bytes that the caller asked for. A few more may be claimed.
    length: usize,
    status: &'s SendStatus,
    scratch: Option<&'s mut Vec<u8>>,
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("length", &self.length).finish_non_exhaustive()
    }
}

impl<'s> Claim<'s> {
    pub(super) fn new(
        claim: CoreClaim<'s, OwnedSharedRing>,
        status: &'s SendStatus,
        scratch: Option<&'s mut Vec<u8>>,
    ) -> Self {
        let length = claim.len() as usize;
        Self { claim, length, status, scratch }
    }

    /// Offers only the first `length` bytes to the caller.
    pub(super) fn shortened(self, length: usize) -> Self {
        Self { length, ..self }
    }

    /// The claimed bytes, for the caller to write the message. They may still hold the bytes of earlier messages.
    pub fn buffer(&mut self) -> &mut [u8] {
        let length = self.length;
        match &mut self.scratch {
            Some(scratch) => {
                scratch.resize(length, 0);
                scratch
            }
            None => {
                let start = self.claim.writer().as_mut_ptr();
                // SAFETY: `length` bytes, initialised since the segment was made, and this claim's alone while it is
                // borrowed: receivers have given them back, and none is evicted from this ring.
                unsafe { std::slice::from_raw_parts_mut(start, length) }
            }
        }
    }

    /// Publishes the first `length` bytes of [`buffer`](Self::buffer) as a message. The rest becomes free again.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn publish(mut self, length: usize) {
        assert!(length <= self.length, "{length} bytes of a claim of {}", self.length);
        if let Some(scratch) = &mut self.scratch {
            scratch.resize(self.length, 0);
            self.claim.writer().write(&scratch[..length]);
        }
        self.count(length as u64);
        self.claim.publish(length as u32);
    }

    /// Publishes a hole: `length` zero bytes that take no room in the ring.
    pub fn publish_hole(self, length: u64) {
        self.count(length);
        self.claim.publish_hole(length);
    }

    /// Makes `message` the message. Receivers see it after the sender's next publish.
    pub(super) fn stage(self, message: &[u8]) {
        self.filled_with(message).stage(message.len() as u32);
    }

    /// Publishes `message`.
    pub(super) fn write(self, message: &[u8]) {
        self.filled_with(message).publish(message.len() as u32);
    }

    fn filled_with(mut self, message: &[u8]) -> CoreClaim<'s, OwnedSharedRing> {
        self.claim.writer().write(message);
        self.count(message.len() as u64);
        self.claim
    }

    /// Counts a message that is about to be published.
    fn count(&self, bytes: u64) {
        self.status.add_sent(bytes);
    }
}
