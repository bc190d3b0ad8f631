//! A thread that clears up after attached programs that died.
//!
//! A burial looks at every mailbox for every seat of the dead: with many of both it takes long. So it is not the main
//! thread's to do, which takes clients in.

use rustix::io::Errno;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::run::spawn;
use crate::mailbox_server::worker_queue::unpoisoned;
use crate::shm::mailboxes::MailSegment;

/// The kernel closes a dead program's connection to us perhaps before it drops the program's lock: look again, soon.
const LOOKS: u32 = 4;
const LOOK: Duration = Duration::from_millis(1);

/// The thread's handle. Dropping it lets the thread end, and does not wait for that: a burial that ends half-way is taken up by
/// the next one who buries.
pub struct Burial(Arc<Orders>);

#[derive(Default)]
struct Orders {
    state: Mutex<State>,
    given: Condvar,
}

#[derive(Default)]
struct State {
    /// How often to look for the dead.
    looks: u32,
    over: bool,
}

impl Burial {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is none to be had.
    pub fn start(segment: MailSegment) -> Result<Self, Errno> {
        let orders = Arc::<Orders>::default();
        let theirs = orders.clone();
        spawn("burial", move || {
            while theirs.next() {
                segment.reclaim_dead();
            }
            true
        })?;
        Ok(Self(orders))
    }

    /// A program has gone. Does not wait.
    pub fn ask(&self) {
        unpoisoned(&self.0.state).looks = LOOKS;
        self.0.given.notify_one();
    }
}

impl Drop for Burial {
    fn drop(&mut self) {
        unpoisoned(&self.0.state).over = true;
        self.0.given.notify_one();
    }
}

impl Orders {
    /// Waits until it is time to look. False: it is over.
    fn next(&self) -> bool {
        let mut state = unpoisoned(&self.state);
        if (1..LOOKS).contains(&state.looks) && !state.over {
            state = self.given.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        while state.looks == 0 && !state.over {
            state = self.given.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.looks = state.looks.saturating_sub(1);
        !state.over
    }
}
