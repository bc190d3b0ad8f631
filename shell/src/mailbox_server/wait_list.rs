//! Which workers have clients that wait for a message, and how they are told.
//!
//! A waiting `r` costs no thread: it is an entry in its worker's [list](super::waiters). This register knows of each mailbox
//! only which workers have such entries. So a write costs one message for each of those workers, however many clients wait.
//! A store by one of our own workers looks here at once. A store by a program that is attached to the shared memory reaches
//! us through one thread, which sleeps on the mailboxes' event count, and only while a client waits.
//!
//! *Why no change is missed.* A worker registers first, then enters a client into its list, and looks at the version after
//! that. A store that comes later than that look finds the registration: our own, through the count below; an attached
//! program's, because the waker looks at all registered mailboxes between announcing its sleep and sleeping. A worker that
//! gets a message looks at all entries that are in its list then. An entry that comes later has looked later, too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::worker_queue::{WorkerMessage, WorkerQueue};
use crate::os::thread::unpoisoned;

/// The register.
#[derive(Debug)]
pub struct WaitList {
    /// How many workers are registered, each once for each mailbox; what a store looks at before it takes the lock.
    waiting: AtomicUsize,
    register: Mutex<Register>,
    /// Notified when a first worker registers, or the server ends.
    begun: Condvar,
    queues: Vec<Arc<WorkerQueue>>,
}

#[derive(Debug, Default)]
struct Register {
    boxes: HashMap<u32, Awaited>,
    ended: bool,
}

/// A mailbox for whose next message clients wait.
#[derive(Debug)]
struct Awaited {
    /// The version that the workers were told of, or that the first of them knew. Every client that waits knows this one or
    /// looks after it was told.
    notified: u64,
    workers: Vec<usize>,
}

impl WaitList {
    /// A register for the workers behind `queues`.
    pub fn new(queues: Vec<Arc<WorkerQueue>>) -> Self {
        Self { waiting: AtomicUsize::new(0), register: Mutex::default(), begun: Condvar::new(), queues }
    }

    /// From now on `worker` is told of other versions than `since`. To be followed by [`fence_before_check`](Self::look_now).
    pub fn watch(&self, mailbox: u32, worker: usize, since: u64) {
        let mut register = unpoisoned(&self.register);
        let awaited =
            register.boxes.entry(mailbox).or_insert(Awaited { notified: since, workers: Vec::new() });
        awaited.workers.push(worker);
        if self.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.begun.notify_all();
        }
    }

    /// To be called between entering a client into a list and looking at the version.
    pub fn fence_before_check() {
        fence(Ordering::SeqCst); // against that in `stored`: register, then look at the version
    }

    /// No client of `worker` waits for this mailbox any more.
    pub fn forget(&self, mailbox: u32, worker: usize) {
        let mut register = unpoisoned(&self.register);
        let Some(awaited) = register.boxes.get_mut(&mailbox) else { return };
        let Some(at) = awaited.workers.iter().position(|&other| other == worker) else { return };
        awaited.workers.swap_remove(at);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if awaited.workers.is_empty() {
            register.boxes.remove(&mailbox);
        }
    }

    /// One of our workers has stored a message.
    pub fn stored(&self, mailbox: u32, version: u64) {
        fence(Ordering::SeqCst); // against that in `fence_before_check`: write, then look for workers that wait
        if self.waiting.load(Ordering::Relaxed) > 0
            && let Some(awaited) = unpoisoned(&self.register).boxes.get_mut(&mailbox)
        {
            self.notify(mailbox, awaited, version);
        }
    }

    /// Tells the workers of all mailboxes that have another version than they were told of. Returns whether there was any.
    pub fn notify_changed(&self, mut version: impl FnMut(u32) -> Option<u64>) -> bool {
        let mut notified = false;
        for (&mailbox, awaited) in &mut unpoisoned(&self.register).boxes {
            notified |= version(mailbox).is_some_and(|version| self.notify(mailbox, awaited, version));
        }
        notified
    }

    /// Sleeps until a worker is registered. Returns `false` when the server ends.
    pub fn begin(&self) -> bool {
        let mut register = unpoisoned(&self.register);
        while register.boxes.is_empty() && !register.ended {
            register = self.begun.wait(register).unwrap_or_else(PoisonError::into_inner);
        }
        !register.ended
    }

    /// Lets the waker end.
    pub fn end(&self) {
        unpoisoned(&self.register).ended = true;
        self.begun.notify_all();
    }

    fn notify(&self, mailbox: u32, awaited: &mut Awaited, version: u64) -> bool {
        let is_new = awaited.notified != version;
        if is_new {
            awaited.notified = version;
            for queue in awaited.workers.iter().filter_map(|&worker| self.queues.get(worker)) {
                queue.send(WorkerMessage::Changed(mailbox));
            }
        }
        is_new
    }
}
