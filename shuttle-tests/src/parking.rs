//! The runs' [`Host`]: condvars under a mutex instead of a futex. No participant dies, and only a wake ends a sleep. So
//! a lost wake is a deadlock, which shuttle reports.

use crate::host::{Futex, Host, WaitResult};
use crate::sync::{AtomicU32, Ordering};
use shuttle::sync::{Condvar, Mutex};
use std::sync::Arc;

type Beds = Vec<(usize, Arc<Condvar>)>;

/// The waiters of one execution. Clones share it.
#[derive(Clone)]
pub struct Parking(Arc<Mutex<Beds>>);

impl Parking {
    /// Returns a host without waiters. Call it inside a run.
    #[expect(clippy::new_without_default, reason = "each execution makes its own, visibly")]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }

    fn wake(&self, word: &AtomicU32) {
        // The mutex is taken even if no thread sleeps, because comparing and going to sleep is one step with respect to
        // wakes.
        let beds = self.0.lock().unwrap();
        if let Some((_, bed)) = beds.iter().find(|(address, _)| *address == address_of(word)) {
            bed.notify_all();
        }
    }
}

fn address_of(word: &AtomicU32) -> usize {
    std::ptr::from_ref(word) as usize
}

impl Futex for Parking {
    /// A deadline here has always passed.
    type Deadline = ();

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<()>) -> WaitResult {
        if deadline.is_some() {
            return WaitResult::TimedOut;
        }
        let mut beds = self.0.lock().unwrap();
        if word.load(Ordering::Relaxed) != expected {
            return WaitResult::Woken;
        }
        let address = address_of(word);
        let bed = match beds.iter().find(|(known, _)| *known == address) {
            Some((_, bed)) => bed.clone(),
            None => {
                let bed = Arc::new(Condvar::new());
                beds.push((address, bed.clone()));
                bed
            }
        };
        drop(bed.wait(beds).unwrap());
        WaitResult::Woken
    }

    fn wake_all(&self, word: &AtomicU32) {
        self.wake(word);
    }
}

impl Host for Parking {
    fn try_reclaim(&self, _: u32, _: impl FnOnce()) -> bool {
        false
    }

    fn try_sweep(&self, _: impl FnOnce()) {}

    fn owner_is_dead(&self) -> bool {
        false
    }
}
