//! The least that two spinning parties can do: a message of 64 bytes beside a word that says it is there.

use crate::control::map_shared;
use crate::latency::{self, Echo, Meter};
use crate::load;
use crate::rival::{Absent, Cores, Latency, LatencyCase, LatencyParties, Link, Rival, Wait};
use std::sync::atomic::{AtomicU32, Ordering::*};

pub struct RawWord;

impl Rival for RawWord {
    fn name(&self) -> &'static str {
        "raw shared word"
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Absent> {
        match case {
            LatencyCase { wait: Wait::Spin, cores: Cores::Two } => {
                Ok(Latency::Processes(Box::new(Mailboxes::new())))
            }
            _ => Err(Absent::cannot("only spins, and needs a core for each party")),
        }
    }
}

/// One place for a message in each direction. Also the raw futex's.
pub struct Mailboxes {
    base: *mut u8,
}

#[repr(C, align(128))]
pub struct Mailbox {
    /// How many messages have come so far.
    pub count: AtomicU32,
    message: [u64; latency::WORDS],
}

impl Mailboxes {
    pub fn new() -> Self {
        Mailboxes { base: map_shared(2 * size_of::<Mailbox>()) }
    }

    /// One party's view: where it writes, and where it reads.
    pub fn end(&self, index: usize) -> (*mut Mailbox, *mut Mailbox) {
        let boxes = self.base.cast::<Mailbox>();
        // SAFETY: the mapping holds two; the index is 0 or 1.
        let own = unsafe { boxes.add(index) };
        // SAFETY: as above.
        (own, unsafe { boxes.add(1 - index) })
    }
}

impl Default for Mailboxes {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Mailboxes {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; forked processes have mappings of their own.
        unsafe { libc::munmap(self.base.cast(), 2 * size_of::<Mailbox>()) };
    }
}

/// Writes a message and raises the count. Returns the word, for whoever wants to wake.
pub fn put<'a>(place: *mut Mailbox, sent: &mut u32, stamp: u64) -> &'a AtomicU32 {
    // SAFETY: mapped; the other party reads only after the count has risen, and has read the message before.
    unsafe { load::fill_at((&raw mut (*place).message).cast(), latency::WORDS, stamp) };
    *sent = sent.wrapping_add(1);
    let count = count(place);
    count.store(*sent, Release);
    count
}

pub fn count<'a>(place: *mut Mailbox) -> &'a AtomicU32 {
    // SAFETY: mapped for the life of the party.
    unsafe { &(*place).count }
}

/// Reads the message that the count has announced.
pub fn get(place: *mut Mailbox) -> u64 {
    // SAFETY: the other party writes again only after our answer.
    latency::verified(unsafe { &(*place).message })
}

struct End {
    out: *mut Mailbox,
    back: *mut Mailbox,
    sent: u32,
    received: u32,
}

impl LatencyParties for Mailboxes {
    fn ping(self: Box<Self>, meter: &mut Meter) {
        let (out, back) = self.end(0);
        meter.run(&mut End { out, back, sent: 0, received: 0 });
    }

    fn pong(self: Box<Self>, echo: &mut Echo) {
        let (out, back) = self.end(1);
        echo.run(&mut End { out, back, sent: 0, received: 0 });
    }
}

impl Link for End {
    fn send(&mut self, stamp: u64) {
        put(self.out, &mut self.sent, stamp);
    }

    fn receive(&mut self) -> u64 {
        let count = count(self.back);
        while count.load(Acquire) == self.received {
            std::hint::spin_loop();
        }
        self.received = self.received.wrapping_add(1);
        get(self.back)
    }
}
