//! The thread that reclaims the seats of attached programs that died.
//!
//! It checks every mailbox for every seat of a dead program, which takes long if there are many of both. So the main
//! thread does not do it, because it accepts clients.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::spawn;
use crate::os::error::OsError;
use crate::os::thread::unpoisoned;
use crate::shm::mailboxes::MailSegment;

/// The kernel may close a dead program's connection before it drops the program's lock. So the thread checks again.
const ATTEMPTS: u32 = 4;
const INTERVAL: Duration = Duration::from_millis(1);

/// The handle of the thread. Dropping it ends the thread without waiting. The next process that reclaims completes what
/// the thread has begun.
#[derive(Debug)]
pub(super) struct ReclaimThread(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many more times to check for dead programs.
    attempts: u32,
    is_over: bool,
}

impl ReclaimThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(segment: MailSegment) -> Result<Self, OsError> {
        let requests = Arc::<Requests>::default();
        let received = requests.clone();
        spawn("reclaim", move || {
            while received.next() {
                segment.reclaim_dead();
            }
            true
        })?;
        Ok(Self(requests))
    }

    /// Asks the thread to check, because a program has gone. Does not wait.
    pub(super) fn request(&self) {
        unpoisoned(&self.0.state).attempts = ATTEMPTS;
        self.0.changed.notify_one();
    }
}

impl Drop for ReclaimThread {
    fn drop(&mut self) {
        unpoisoned(&self.0.state).is_over = true;
        self.0.changed.notify_one();
    }
}

impl Requests {
    /// Waits for the next check. Returns `false` when the thread must end.
    fn next(&self) -> bool {
        let mut state = unpoisoned(&self.state);
        if (1..ATTEMPTS).contains(&state.attempts) && !state.is_over {
            state = self.changed.wait_timeout(state, INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        }
        while state.attempts == 0 && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.attempts = state.attempts.saturating_sub(1);
        !state.is_over
    }
}
