//! Who waits for a message, over all workers, and how they are told.
//!
//! A waiting `r` costs no thread: it is a line in this register. A store by one of our own workers looks here at once; a
//! store by a program that is attached to the shared memory reaches us through one thread, which sleeps on the
//! mailboxes' news event, and only while somebody waits.
//!
//! *Why no news are missed.* A connection registers first and looks at the version after that. A store that comes later
//! than that look finds the registration: our own, through the count below; an attached program's, because the waker
//! looks at all registered versions between announcing its sleep and sleeping.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::post::{Key, Letter, Post, unpoisoned};

/// One waiting request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Waiter {
    worker: usize,
    key: Key,
    since: u64,
}

/// The register.
#[derive(Debug)]
pub struct News {
    /// How many wait; what a store looks at before it takes the lock.
    waiting: AtomicUsize,
    register: Mutex<Register>,
    /// Rung when somebody begins to wait, or the end has come.
    begun: Condvar,
    posts: Vec<Arc<Post>>,
}

#[derive(Debug, Default)]
struct Register {
    boxes: HashMap<u32, Vec<Waiter>>,
    ended: bool,
}

impl News {
    /// A register for the workers behind `posts`.
    pub fn new(posts: Vec<Arc<Post>>) -> Self {
        Self { waiting: AtomicUsize::new(0), register: Mutex::default(), begun: Condvar::new(), posts }
    }

    /// From now on connection `key` of `worker` is told of other versions than `since`. To be followed by a look.
    pub fn wait(&self, mailbox: u32, worker: usize, key: Key, since: u64) {
        let mut register = unpoisoned(&self.register);
        register.boxes.entry(mailbox).or_default().push(Waiter { worker, key, since });
        if self.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.begun.notify_all();
        }
        drop(register);
        fence(Ordering::SeqCst); // against that in `stored`: register, then look at the version
    }

    /// It does not wait any more, or was told.
    pub fn forget(&self, mailbox: u32, worker: usize, key: Key) {
        self.tell(&mut unpoisoned(&self.register), mailbox, |waiter| {
            (waiter.worker == worker && waiter.key == key).then_some(false)
        });
    }

    /// One of our workers has stored a message.
    pub fn stored(&self, mailbox: u32, version: u64) {
        fence(Ordering::SeqCst); // against that in `wait`: store, then look for who waits
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.tell(&mut unpoisoned(&self.register), mailbox, |waiter| {
                (waiter.since != version).then_some(true)
            });
        }
    }

    /// Tells everybody whose mailbox has another version than the one they know. Returns whether there was anybody.
    pub fn look(&self, mut version: impl FnMut(u32) -> Option<u64>) -> bool {
        let mut register = unpoisoned(&self.register);
        let boxes: Vec<u32> = register.boxes.keys().copied().collect();
        let before = self.waiting.load(Ordering::Relaxed);
        for mailbox in boxes {
            let now = version(mailbox);
            self.tell(&mut register, mailbox, |waiter| (Some(waiter.since) != now).then_some(true));
        }
        self.waiting.load(Ordering::Relaxed) != before
    }

    /// Sleeps until somebody waits. False: the end has come.
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

    /// Removes the waiters for which `judge` says something, and sends those a letter for which it says true.
    fn tell(&self, register: &mut Register, mailbox: u32, judge: impl Fn(&Waiter) -> Option<bool>) {
        let Some(waiters) = register.boxes.get_mut(&mailbox) else { return };
        let before = waiters.len();
        waiters.retain(|waiter| match judge(waiter) {
            None => true,
            Some(told) => {
                if told && let Some(post) = self.posts.get(waiter.worker) {
                    post.send(Letter::News(waiter.key));
                }
                false
            }
        });
        self.waiting.fetch_sub(before - waiters.len(), Ordering::Relaxed);
        if waiters.is_empty() {
            register.boxes.remove(&mailbox);
        }
    }
}
