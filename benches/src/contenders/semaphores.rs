//! Lock-step: one shared block, and POSIX semaphores between processes. The sender writes the next message after every
//! receiver has given the block back. The shared-memory baseline of Whorl's `copy` works like this.

use crate::contender::{
    Contender, Latency, LatencyCase, LatencyParties, Stream, StreamCase, StreamParties, Unavailable, Wait,
};
use crate::control::map_shared;
use crate::latency::{self, Echo, Link, Meter};
use crate::load;
use crate::role::{Pacer, Tally};

pub struct Semaphores;

impl Contender for Semaphores {
    fn name(&self) -> &'static str {
        "semaphores in lock-step"
    }

    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        Ok(Stream::Processes(Box::new(Block::new(case.receivers, case.words()))))
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        if case.wait == Wait::Spin {
            return Err(Unavailable::cannot("sem_wait sleeps"));
        }
        let blocks = [Block::new(1, latency::WORDS), Block::new(1, latency::WORDS)];
        Ok(Latency::Processes(Box::new(Pair(blocks))))
    }
}

/// A semaphore in shared memory.
#[derive(Clone, Copy)]
struct Semaphore(*mut libc::sem_t);

impl Semaphore {
    fn new() -> Self {
        let place = map_shared(size_of::<libc::sem_t>()).cast();
        // SAFETY: zeroed memory of its size, used for nothing else, for processes.
        unsafe { libc::sem_init(place, 1, 0) };
        Semaphore(place)
    }

    fn post(self) {
        // SAFETY: made by `new`, never destroyed.
        unsafe { libc::sem_post(self.0) };
    }

    fn wait(self) {
        // SAFETY: made by `new`, never destroyed. An interrupted wait begins again.
        while unsafe { libc::sem_wait(self.0) } != 0 {}
    }
}

struct Block {
    words: *mut u64,
    len: usize,
    /// One for each receiver: the block holds a message for it.
    full: Vec<Semaphore>,
    /// Posted by each receiver that has finished with the block.
    done: Semaphore,
    bytes: usize,
}

impl Block {
    fn new(receivers: usize, len: usize) -> Self {
        let full = (0..receivers).map(|_| Semaphore::new()).collect();
        let bytes = len * 8;
        Block { words: map_shared(bytes).cast(), len, full, done: Semaphore::new(), bytes }
    }

    fn content(&self) -> &[u64] {
        // SAFETY: mapped, and not written between `full` and `done`.
        unsafe { std::slice::from_raw_parts(self.words, self.len) }
    }

    fn write(&self, stamp: u64) {
        // SAFETY: mapped, and no receiver reads before `full` is posted.
        unsafe { load::fill_at(self.words, self.len, stamp) };
        self.full.iter().for_each(|semaphore| semaphore.post());
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; processes forked from this one have their own mappings.
        unsafe { libc::munmap(self.words.cast(), self.bytes) };
        for semaphore in self.full.iter().chain([&self.done]) {
            // SAFETY: as above; no thread of this process waits on it.
            unsafe { libc::munmap(semaphore.0.cast(), size_of::<libc::sem_t>()) };
        }
    }
}

impl StreamParties for Block {
    fn send(self: Box<Self>, pace: &mut Pacer) {
        pace.ready();
        loop {
            let batch = pace.batch(1);
            self.write(batch.stamp(0));
            self.full.iter().for_each(|_| self.done.wait());
            if batch.last {
                return;
            }
        }
    }

    fn receive(self: Box<Self>, index: usize, tally: &mut Tally) {
        tally.ready();
        loop {
            self.full[index].wait();
            let last = tally.take(self.content());
            self.done.post();
            if last {
                return;
            }
        }
    }
}

struct Pair([Block; 2]);

/// One block to write into, and one to read from. The answer says that the block is free again.
struct End<'a> {
    out: &'a Block,
    back: &'a Block,
}

impl LatencyParties for Pair {
    fn ping(self: Box<Self>, meter: &mut Meter) {
        meter.run(&mut End { out: &self.0[0], back: &self.0[1] });
    }

    fn pong(self: Box<Self>, echo: &mut Echo) {
        echo.run(&mut End { out: &self.0[1], back: &self.0[0] });
    }
}

impl Link for End<'_> {
    fn send(&mut self, stamp: u64) {
        self.out.write(stamp);
    }

    fn receive(&mut self) -> u64 {
        self.back.full[0].wait();
        latency::verified(self.back.content())
    }
}
