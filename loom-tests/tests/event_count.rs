//! The parking protocol: no wake is lost. No model has a poll interval, so a lost wake is a deadlock.

use loom::thread;
use loom_tests::event_count::EventCount;
use loom_tests::model::{Model, Start, race};
use loom_tests::parking::Parking;
use loom_tests::sync::{AtomicU32, Ordering::Relaxed};
use std::sync::Arc;

struct Shared {
    event: EventCount,
    state: [AtomicU32; 2],
    parking: Parking,
}

impl Shared {
    fn new() -> Arc<Self> {
        let state = [AtomicU32::new(0), AtomicU32::new(0)];
        Arc::new(Self { event: EventCount::new(), state, parking: Parking::new() })
    }

    /// Stores a value that only the event count's own orderings make visible.
    fn notify(&self, which: usize, value: u32) {
        self.state[which].store(value, Relaxed);
        self.event.notify(&self.parking);
    }

    /// Sleeps until the values satisfy `enough`.
    fn wait_until(&self, enough: impl Fn(u32, u32) -> bool) {
        let is_enough = || enough(self.state[0].load(Relaxed), self.state[1].load(Relaxed));
        loop {
            let ticket = self.event.prepare_wait();
            if is_enough() {
                return;
            }
            self.event.wait(&self.parking, ticket, None);
        }
    }
}

/// Catches the removal of either fence: the waiter looks before the new value arrives, and the notifier before the
/// announcement.
#[test]
fn a_notification_reaches_a_waiter_that_is_about_to_sleep() {
    Model::new("event count: one waiter, one notifier", 264).check(|| {
        let shared = Shared::new();
        let notifier = shared.clone();
        race(|| shared.wait_until(|a, _| a == 1), move || notifier.notify(0, 1));
    });
}

/// Catches a sequence that moves before `has_waiters` is cleared: the second notification finds the waiter's new
/// announcement cleared. Also catches a sequence that is read or moved Relaxed: the clearing before a notification
/// lands after the announcement that follows it.
#[test]
fn a_second_notification_reaches_a_waiter_that_sleeps_again() {
    Model::new("event count: one waiter, two notifications", 29511).check(|| {
        let shared = Shared::new();
        let notifier = shared.clone();
        let wait = || shared.wait_until(|a, _| a == 2);
        race(wait, move || {
            notifier.notify(0, 1);
            notifier.notify(0, 2);
        });
    });
}

/// A notification without a fence before it, as after a reclamation. A waiter that reads the new sequence must see the
/// new value. Catches a Relaxed sequence on either side: the waiter sleeps on the new sequence after a look at the old
/// state.
#[test]
fn an_unconditional_notification_makes_the_change_visible() {
    Model::new("event count: unconditional notification", 840).check(|| {
        let shared = Shared::new();
        let notifier = shared.clone();
        let wait = || shared.wait_until(|a, _| a == 1);
        race(wait, move || {
            notifier.state[0].store(1, Relaxed);
            notifier.event.notify_all(&notifier.parking);
        });
    });
}

/// One notifier clears the announcement of a waiter that the other notifier would have had to wake.
#[test]
fn two_notifiers_do_not_hide_a_waiter_from_each_other() {
    Model::new("event count: two notifiers", 15338).bounded(3).check(|| {
        let shared = Shared::new();
        let (first, second) = (shared.clone(), shared.clone());
        let start = Start::new();
        let [x, y] = [start.clone(), start.clone()];
        let a = thread::spawn(move || {
            x.step();
            first.notify(0, 1);
        });
        let b = thread::spawn(move || {
            y.step();
            second.notify(1, 1);
        });
        start.step();
        shared.wait_until(|a, b| (a, b) == (1, 1));
        a.join().unwrap();
        b.join().unwrap();
    });
}

/// Catches a wake of only one of the waiters, and the loss of the second announcement.
#[test]
fn all_waiters_are_woken() {
    Model::new("event count: two waiters", 8944).bounded(3).check(|| {
        let shared = Shared::new();
        let (notifier, other) = (shared.clone(), shared.clone());
        let start = Start::new();
        let [x, y] = [start.clone(), start.clone()];
        let a = thread::spawn(move || {
            x.step();
            notifier.notify(0, 1);
        });
        let b = thread::spawn(move || {
            y.step();
            other.wait_until(|a, _| a == 1);
        });
        start.step();
        shared.wait_until(|a, _| a == 1);
        a.join().unwrap();
        b.join().unwrap();
    });
}

/// A canceled announcement costs the notifier its look, and a later one counts again.
#[test]
fn a_canceled_announcement_does_not_lose_the_next() {
    Model::new("event count: cancel", 992).check(|| {
        let shared = Shared::new();
        let notifier = shared.clone();
        let wait = || {
            let _ticket = shared.event.prepare_wait();
            shared.event.cancel_wait();
            shared.wait_until(|a, _| a == 1);
        };
        race(wait, move || notifier.notify(0, 1));
    });
}
