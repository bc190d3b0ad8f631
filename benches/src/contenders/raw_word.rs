//! The least work of two spinning parties: a message of 64 bytes beside a word that announces it.

use crate::contender::{Contender, Cores, Latency, LatencyCase, LatencyParties, Unavailable, Wait};
use crate::control::map_shared;
use crate::latency::{self, Echo, Link, Meter};
use crate::load;
use std::sync::atomic::{AtomicU32, Ordering::*};

pub struct RawWord;

impl Contender for RawWord {
    fn name(&self) -> &'static str {
        "raw shared word"
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        match case {
            LatencyCase { wait: Wait::Spin, cores: Cores::Two } => {
                Ok(Latency::Processes(Box::new(Mailboxes::new())))
            }
            _ => Err(Unavailable::cannot("only spins, and needs a core for each party")),
        }
    }
}

/// One place for a message in each direction. The raw futex uses it, too.
pub struct Mailboxes {
    base: *mut Content,
}

#[repr(C, align(128))]
struct Content {
    /// How many messages have arrived so far.
    count: AtomicU32,
    message: [u64; latency::WORDS],
}

/// One of the two places, seen by one of the two parties. Only the party with the turn touches the message.
pub struct Mailbox {
    place: *mut Content,
    /// How many messages this party has written here, or read.
    pub messages: u32,
}

impl Mailbox {
    pub fn count(&self) -> &AtomicU32 {
        // SAFETY: mapped for the life of the party.
        unsafe { &(*self.place).count }
    }

    /// Writes a message and raises the count.
    pub fn put(&mut self, stamp: u64) {
        // SAFETY: mapped; the other party reads only after the count has risen, and has read the last message before.
        unsafe { load::fill_at((&raw mut (*self.place).message).cast(), latency::WORDS, stamp) };
        self.messages = self.messages.wrapping_add(1);
        self.count().store(self.messages, Release);
    }

    /// Reads the message that the count has announced.
    pub fn get(&mut self) -> u64 {
        self.messages = self.messages.wrapping_add(1);
        // SAFETY: mapped; the other party writes again only after this party's answer.
        latency::verified(unsafe { &(*self.place).message })
    }
}

impl Mailboxes {
    pub fn new() -> Self {
        Mailboxes { base: map_shared(2 * size_of::<Content>()).cast() }
    }

    /// Returns one party's view: where it writes, and where it reads. Valid for the life of the process: see `drop`.
    pub fn end(&self, index: usize) -> (Mailbox, Mailbox) {
        // SAFETY: the mapping holds two; the index is 0 or 1.
        let own = unsafe { self.base.add(index) };
        // SAFETY: as above.
        let other = unsafe { self.base.add(1 - index) };
        (Mailbox { place: own, messages: 0 }, Mailbox { place: other, messages: 0 })
    }
}

impl Default for Mailboxes {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Mailboxes {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; forked processes have their own mappings, and a party keeps its mapping until it
        // ends.
        unsafe { libc::munmap(self.base.cast(), 2 * size_of::<Content>()) };
    }
}

struct End {
    out: Mailbox,
    back: Mailbox,
}

impl LatencyParties for Mailboxes {
    fn ping(self: Box<Self>, meter: &mut Meter) {
        let (out, back) = self.end(0);
        meter.run(&mut End { out, back });
    }

    fn pong(self: Box<Self>, echo: &mut Echo) {
        let (out, back) = self.end(1);
        echo.run(&mut End { out, back });
    }
}

impl Link for End {
    fn send(&mut self, stamp: u64) {
        self.out.put(stamp);
    }

    fn receive(&mut self) -> u64 {
        while self.back.count().load(Acquire) == self.back.messages {
            std::hint::spin_loop();
        }
        self.back.get()
    }
}
