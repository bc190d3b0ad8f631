//! The parking protocol: no wake is lost. No model has a slice, so a lost wake is a deadlock.

use loom::thread;
use loom_tests::event_count::EventCount;
use loom_tests::model::{Model, Start, race};
use loom_tests::parking::Parking;
use loom_tests::sync::{AtomicU32, Ordering::Relaxed};
use std::sync::Arc;

struct Shared {
    event: EventCount,
    news: [AtomicU32; 2],
    parking: Parking,
}

impl Shared {
    fn new() -> Arc<Self> {
        let news = [AtomicU32::new(0), AtomicU32::new(0)];
        Arc::new(Self { event: EventCount::new(), news, parking: Parking::new() })
    }

    /// Makes news that only the event's own orderings carry.
    fn tell(&self, which: usize, value: u32) {
        self.news[which].store(value, Relaxed);
        self.event.notify(&self.parking);
    }

    /// Sleeps until there is news that satisfies `enough`.
    fn wait_until(&self, enough: impl Fn(u32, u32) -> bool) {
        let is_enough = || enough(self.news[0].load(Relaxed), self.news[1].load(Relaxed));
        loop {
            let ticket = self.event.prepare_wait();
            if is_enough() {
                return;
            }
            self.event.wait(&self.parking, ticket, None);
        }
    }
}

/// Either fence removed: the waiter looks past the news while the notifier looks past the announcement.
#[test]
fn news_reaches_a_waiter_that_is_about_to_sleep() {
    Model::new("event: one waiter, one notifier", 264).check(|| {
        let shared = Shared::new();
        let notifier = shared.clone();
        race(|| shared.wait_until(|a, _| a == 1), move || notifier.tell(0, 1));
    });
}

/// The bell moves before `has_waiters` is cleared: the second news finds the waiter's new announcement wiped out.
/// The same if the bell is read or rung Relaxed: the clearing before a ring lands after the announcement that followed it.
#[test]
fn a_second_ring_reaches_a_waiter_that_went_back_to_sleep() {
    Model::new("event: one waiter, two rings", 29511).check(|| {
        let shared = Shared::new();
        let notifier = shared.clone();
        let wait = || shared.wait_until(|a, _| a == 2);
        race(wait, move || {
            notifier.tell(0, 1);
            notifier.tell(0, 2);
        });
    });
}

/// A ring without a fence before it, as after a reclamation: the waiter that reads the new bell must see the news. The bell
/// Relaxed on either side: it sleeps on the new bell and looks at the old state.
#[test]
fn an_unconditional_ring_brings_its_news_along() {
    Model::new("event: unconditional ring", 840).check(|| {
        let shared = Shared::new();
        let notifier = shared.clone();
        let wait = || shared.wait_until(|a, _| a == 1);
        race(wait, move || {
            notifier.news[0].store(1, Relaxed);
            notifier.event.notify_all(&notifier.parking);
        });
    });
}

/// The clearing of one notifier wipes out an announcement whose maker the other notifier would have had to wake.
#[test]
fn two_notifiers_do_not_hide_a_waiter_from_each_other() {
    Model::new("event: two notifiers", 15338).bounded(3).check(|| {
        let shared = Shared::new();
        let (first, second) = (shared.clone(), shared.clone());
        let start = Start::new();
        let [x, y] = [start.clone(), start.clone()];
        let a = thread::spawn(move || {
            x.step();
            first.tell(0, 1);
        });
        let b = thread::spawn(move || {
            y.step();
            second.tell(1, 1);
        });
        start.step();
        shared.wait_until(|a, b| (a, b) == (1, 1));
        a.join().unwrap();
        b.join().unwrap();
    });
}

/// Only one of the sleepers is woken, or the second announcement is lost.
#[test]
fn all_waiters_are_woken() {
    Model::new("event: two waiters", 8944).bounded(3).check(|| {
        let shared = Shared::new();
        let (notifier, other) = (shared.clone(), shared.clone());
        let start = Start::new();
        let [x, y] = [start.clone(), start.clone()];
        let a = thread::spawn(move || {
            x.step();
            notifier.tell(0, 1);
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
    Model::new("event: cancel", 992).check(|| {
        let shared = Shared::new();
        let notifier = shared.clone();
        let wait = || {
            let _ticket = shared.event.prepare_wait();
            shared.event.cancel_wait();
            shared.wait_until(|a, _| a == 1);
        };
        race(wait, move || notifier.tell(0, 1));
    });
}
