//! A slot of the ring that a sender has claimed, for a message that the caller writes in place.

use crate::channel::control::progress::SendStatus;
use crate::channel::transport::ring::ItemOffsets;
use crate::shm::ring::OwnedSharedRing;
use std::fmt;
use whorl_core::ring::Claim;

/// A claimed slot of the ring. Dropping it publishes nothing.
pub struct Slot<'s> {
    claim: Claim<'s, OwnedSharedRing>,
    offsets: &'s ItemOffsets,
    status: &'s SendStatus,
    total: &'s mut u64,
    scratch: Option<&'s mut [u8]>,
}

impl fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl<'s> Slot<'s> {
    pub(super) fn new(
        claim: Claim<'s, OwnedSharedRing>,
        offsets: &'s ItemOffsets,
        status: &'s SendStatus,
        total: &'s mut u64,
        scratch: Option<&'s mut [u8]>,
    ) -> Self {
        Self { claim, offsets, status, total, scratch }
    }

    /// Returns the whole slot, for the caller to write the message. It may still hold the bytes of an earlier message.
    pub fn buffer(&mut self) -> &mut [u8] {
        match &mut self.scratch {
            Some(scratch) => scratch,
            None => {
                let mut slot = self.claim.slot(0);
                let (start, length) = (slot.as_mut_ptr(), slot.capacity());
                // SAFETY: `length` bytes, initialised since the segment was made. Only this writer uses them while it
                // borrows them: receivers have released the slot, and this ring evicts none.
                unsafe { std::slice::from_raw_parts_mut(start, length) }
            }
        }
    }

    /// Publishes the first `length` bytes of [`buffer`](Self::buffer).
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn publish(mut self, length: usize) {
        let mut slot = self.claim.slot(0);
        let fits = match &self.scratch {
            Some(scratch) => slot.write(&scratch[..length]),
            None => slot.set_length(length),
        };
        fits.expect("a length within the slot");
        self.done(length as u64);
    }

    /// Publishes a hole: `length` zero bytes that use no room in the slot.
    pub fn publish_hole(mut self, length: u64) {
        self.claim.slot(0).set_hole(length);
        self.done(length);
    }

    pub(super) fn write(mut self, message: &[u8]) {
        self.claim.slot(0).write(message).expect("checked by the caller");
        self.done(message.len() as u64);
    }

    fn done(self, bytes: u64) {
        // The offsets come first, because a reader of the published item looks them up.
        self.offsets.add(bytes);
        *self.total += bytes;
        self.status.set_sent(*self.total);
        self.claim.publish(1);
    }
}
