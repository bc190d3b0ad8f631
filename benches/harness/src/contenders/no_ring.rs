//! Not a contender but the bound: the loops that write and check, and nothing else.
//!
//! The sender fills its own slots. Receivers check slots that were filled once and never change, and only look at how
//! many messages are left for them. No party waits for a slower one, and no byte crosses between cores.

use crate::contender::{Contender, Stream, StreamCase, StreamParties, Unavailable};
use crate::control::map_shared;
use crate::load::{self, LAST};
use crate::role::{Pacer, Tally};
use crate::waiting::Backoff;
use std::sync::atomic::{AtomicU64, Ordering::*};

pub struct NoRing;

impl Contender for NoRing {
    fn name(&self) -> &'static str {
        "loops without a ring"
    }

    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        if case.size < 64 * 1024 {
            return Err(Unavailable::cannot("the bound counts where the loops cost the most: 80 KiB"));
        }
        let bytes = 4096 + 2 * case.slots * case.size;
        let parties = Parties { base: map_shared(bytes), bytes, case: *case };
        for slot in 0..case.slots {
            // SAFETY: within the mapping, and no other code uses it yet.
            unsafe { load::fill_at(parties.slot(slot), case.words(), slot as u64) };
        }
        Ok(Stream::Processes(Box::new(parties)))
    }

    fn mortal(&self) -> Result<(), Unavailable> {
        Err(Unavailable::cannot("the parties do not wait for each other"))
    }
}

/// A word with the number of messages sent (with the top bit: the final number), the receivers' slots, the sender's
/// slots.
struct Parties {
    base: *mut u8,
    bytes: usize,
    case: StreamCase,
}

impl Parties {
    fn sent(&self) -> &AtomicU64 {
        // SAFETY: zeroed, mapped for the life of the party.
        unsafe { &*self.base.cast::<AtomicU64>() }
    }

    fn slot(&self, index: usize) -> *mut u64 {
        // SAFETY: the mapping holds twice as many slots as the case has.
        unsafe { self.base.add(4096 + index * self.case.size) }.cast()
    }
}

impl Drop for Parties {
    fn drop(&mut self) {
        // SAFETY: mapped with this length; forked processes have their own mappings.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

impl StreamParties for Parties {
    fn send(self: Box<Self>, pace: &mut Pacer) {
        let mut sent = 0u64;
        pace.ready();
        loop {
            let batch = pace.batch(1);
            let slot = self.slot(self.case.slots + sent as usize % self.case.slots);
            // SAFETY: one of the sender's own slots.
            unsafe { load::fill_at(slot, self.case.words(), sent) };
            sent += 1;
            self.sent().store(if batch.last { sent | LAST } else { sent }, Release);
            if batch.last {
                return;
            }
        }
    }

    fn receive(self: Box<Self>, _index: usize, tally: &mut Tally) {
        let mut backoff = Backoff::new();
        tally.ready();
        loop {
            let sent = self.sent().load(Acquire);
            if sent & !LAST == tally.received() {
                backoff.pause();
                continue;
            }
            backoff = Backoff::new();
            let number = tally.received() % self.case.slots as u64;
            // SAFETY: one of the receivers' slots, which no code writes any more.
            let words = unsafe { std::slice::from_raw_parts(self.slot(number as usize), self.case.words()) };
            let last = sent == (tally.received() + 1) | LAST;
            if tally.count(load::check(words, number), last) {
                return;
            }
        }
    }
}
