//! Which workers have clients that wait for a message, and how they are notified.
//!
//! A waiting `r` costs no thread: it is an entry in its worker's [list](super::waiters). This register knows for each
//! mailbox only which workers have such entries. So a write costs one message for each of those workers, however many
//! clients wait. After a store, a worker checks this register at once. For the stores of attached programs there is one
//! thread, the waker, which sleeps on the mailboxes' event count, and only while a client waits.
//!
//! *Why no change is missed.* A worker registers first, then enters a client into its list, and then checks the
//! version. A later store finds the registration: a worker's store by the count below, an attached program's because
//! the waker checks all registered mailboxes between announcing its sleep and sleeping. A worker that gets a message
//! checks all entries that are in its list then. A later entry has checked the version later, too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::worker_queue::{WorkerMessage, WorkerQueue};
use crate::os::thread::unpoisoned;

/// The register.
#[derive(Debug)]
pub struct WaitList {
    /// How many workers are registered, each once for each mailbox. A store checks it before it takes the lock.
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
    /// The version of the last notification, or the one that the first worker knew. Every waiting client knows this
    /// version, or checks after the notification.
    notified: u64,
    workers: Vec<usize>,
}

impl WaitList {
    /// Returns a register for the workers behind `queues`.
    pub fn new(queues: Vec<Arc<WorkerQueue>>) -> Self {
        Self { waiting: AtomicUsize::new(0), register: Mutex::default(), begun: Condvar::new(), queues }
    }

    /// Registers `worker` for versions other than `since`. Call [`fence_before_check`](Self::fence_before_check) next.
    pub fn watch(&self, mailbox: u32, worker: usize, since: u64) {
        let mut register = unpoisoned(&self.register);
        let awaited =
            register.boxes.entry(mailbox).or_insert(Awaited { notified: since, workers: Vec::new() });
        awaited.workers.push(worker);
        if self.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.begun.notify_all();
        }
    }

    /// Call this between entering a client into a list and checking the version.
    pub fn fence_before_check() {
        fence(Ordering::SeqCst); // pairs with that in `stored`: register, then check the version
    }

    /// Removes the registration of a `worker` of which no client waits for this mailbox any more.
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

    /// Notifies the workers after a worker's store.
    pub fn stored(&self, mailbox: u32, version: u64) {
        fence(Ordering::SeqCst); // pairs with that in `fence_before_check`: write, then check for waiting workers
        if self.waiting.load(Ordering::Relaxed) > 0
            && let Some(awaited) = unpoisoned(&self.register).boxes.get_mut(&mailbox)
        {
            self.notify(mailbox, awaited, version);
        }
    }

    /// Notifies the workers of all mailboxes with another version than the last notification. Returns whether there was
    /// any.
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

    /// Ends the waker.
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
