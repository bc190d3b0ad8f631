//! The models' [`Host`]: condvars under a loom mutex instead of a futex, and a record of which participants are dead.
//!
//! Without poll intervals and deadlines only a wake ends a sleep. So a lost wake is a deadlock, which loom reports.

use crate::host::{Futex, Host, WaitResult};
use crate::sync::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32 as Plain, Ordering::SeqCst};
use std::sync::{Arc, Mutex as Plainly};

/// The waiters of one execution. Clones share it.
#[derive(Clone)]
pub struct Parking {
    lot: Arc<Lot>,
    /// How many more steps the holder of this handle lives. `None` means that it never dies.
    life: Option<Arc<Plain>>,
}

/// The flags are plain atomics outside the model: they describe the world, and loom does not schedule them.
struct Lot {
    beds: Mutex<Vec<(usize, Arc<Condvar>)>>,
    /// One bit for each dead seat.
    dead: Plain,
    owner_is_dead: AtomicBool,
    slices_end: AtomicBool,
    wakes: Plain,
    hook: Plainly<Option<Arc<dyn Fn() + Send + Sync>>>,
}

/// The payload of the panic that ends a mortal handle's thread.
pub struct Death;

impl Parking {
    /// Returns a host without waiters and without dead participants. Call it inside the model.
    #[expect(clippy::new_without_default, reason = "each execution makes its own, visibly")]
    pub fn new() -> Self {
        let lot = Lot {
            beds: Mutex::new(Vec::new()),
            dead: Plain::new(0),
            owner_is_dead: AtomicBool::new(false),
            slices_end: AtomicBool::new(false),
            wakes: Plain::new(0),
            hook: Plainly::new(None),
        };
        Self { lot: Arc::new(lot), life: None }
    }

    /// Returns a handle to this host for a participant that can die.
    pub fn mortal(&self) -> Self {
        Self { lot: self.lot.clone(), life: Some(Arc::new(Plain::new(u32::MAX))) }
    }

    /// Makes the holder of this mortal handle die at its `steps`-th step from now: it unwinds with [`Death`]. A step is
    /// a look at the parts or a wake, so steps lie between the accesses to shared words.
    ///
    /// # Panics
    /// If the handle is immortal.
    pub fn live_for(&self, steps: u32) {
        self.life.as_ref().expect("a mortal handle").store(steps, SeqCst);
    }

    /// Counts a step of this handle's holder.
    pub fn step(&self) {
        let Some(life) = &self.life else { return };
        match life.load(SeqCst) {
            0 => resume_unwind(Box::new(Death)),
            left => life.store(left - 1, SeqCst),
        }
    }

    /// Declares the occupant of `seat` dead.
    pub fn kill_seat(&self, seat: u32) {
        self.lot.dead.fetch_or(1 << seat, SeqCst);
    }

    /// Declares the owner dead, and ends poll intervals from now on.
    pub fn kill_owner(&self) {
        self.lot.owner_is_dead.store(true, SeqCst);
        self.end_slices();
    }

    /// Makes every sleep end at once from now on, as at the end of its poll interval.
    pub fn end_slices(&self) {
        let beds = self.lot.beds.lock().unwrap();
        self.lot.slices_end.store(true, SeqCst);
        beds.iter().for_each(|(_, bed)| bed.notify_all());
    }

    /// Makes each wake of a word call `hook` afterwards, for receivers that sleep elsewhere. Take it back with `None`
    /// if `hook` owns this host.
    pub fn on_wake(&self, hook: Option<Arc<dyn Fn() + Send + Sync>>) {
        *self.lot.hook.lock().unwrap() = hook;
    }

    /// Returns how often a thread woke the waiters of any word.
    pub fn wakes(&self) -> u32 {
        self.lot.wakes.load(SeqCst)
    }

    fn slice_ended(&self) -> bool {
        self.lot.slices_end.load(SeqCst)
    }

    fn wake(&self, word: &AtomicU32) {
        self.step();
        self.lot.wakes.fetch_add(1, SeqCst);
        // The mutex is taken even if no thread sleeps, because comparing and going to sleep is one step with respect to
        // wakes.
        let beds = self.lot.beds.lock().unwrap();
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
        let mut beds = self.lot.beds.lock().unwrap();
        // Relaxed: the contract promises no ordering. The mutex of the wake makes comparing and sleeping one step.
        if word.load(Ordering::Relaxed) != expected {
            return WaitResult::Woken;
        }
        if deadline.is_some() {
            return WaitResult::TimedOut;
        }
        if self.slice_ended() {
            drop(beds);
            loom::thread::yield_now();
            return WaitResult::PollInterval;
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
        if self.slice_ended() { WaitResult::PollInterval } else { WaitResult::Woken }
    }

    fn wake_all(&self, word: &AtomicU32) {
        self.wake(word);
        let hook = self.lot.hook.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl Host for Parking {
    fn try_reclaim(&self, seat: u32, reclaim: impl FnOnce()) -> bool {
        let dead = self.lot.dead.load(SeqCst) >> seat & 1 == 1;
        if dead {
            reclaim();
        }
        dead
    }

    fn try_sweep(&self, round: impl FnOnce()) {
        round();
    }

    fn owner_is_dead(&self) -> bool {
        self.lot.owner_is_dead.load(SeqCst)
    }
}
