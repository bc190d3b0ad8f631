//! Models that must fail. If one of them passes, the checker checks nothing. The last test is about the runner itself.

use loom::thread;
use loom_tests::event_count::EventCount;
use loom_tests::memory::{Ring, Watched, read};
use loom_tests::model::Model;
use loom_tests::parking::Parking;
use loom_tests::ring::{Cells, ClaimSize};
use loom_tests::sync::{AtomicU32, Ordering};
use std::sync::Arc;

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_flag_does_not_publish() {
    Model::new("canary: relaxed flag", 1).check(|| {
        let shared = Arc::new((Watched::new(1), AtomicU32::new(0)));
        let other = shared.clone();
        let writer = thread::spawn(move || {
            // SAFETY: index 0 of 1. This model breaks the rule that no thread reads meanwhile.
            unsafe { other.0.writer(0, 0) }.set(1);
            other.1.store(1, Ordering::Relaxed);
        });
        if shared.1.load(Ordering::Acquire) == 1 {
            // SAFETY: as above.
            unsafe { shared.0.reader(0, 0) }.get();
        }
        writer.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_change_without_a_notification_loses_the_wake() {
    Model::new("canary: lost wake", 1).check(|| {
        let shared = Arc::new((EventCount::new(), AtomicU32::new(0), Parking::new()));
        let other = shared.clone();
        let waiter = thread::spawn(move || {
            let (event, state, parking) = &*other;
            while state.load(Ordering::Relaxed) == 0 {
                let ticket = event.prepare_wait();
                if state.load(Ordering::Relaxed) == 0 {
                    event.wait(parking, ticket, None);
                }
            }
        });
        shared.1.store(1, Ordering::Relaxed);
        waiter.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "item 1 seen")]
fn a_false_claim_about_the_ring_is_refuted() {
    Model::new("canary: the ring", 1).check(|| {
        let ring = Ring::new(Watched::new(1), 1, u32::MAX);
        let (mut sender, mut receiver) = (ring.sender(), std::mem::ManuallyDrop::new(ring.join(0)));
        let thread = thread::spawn(move || {
            let mut claim = sender.try_claim(ClaimSize::exactly(0)).unwrap();
            claim.writer().set(1);
            claim.publish(0);
            std::mem::forget(sender);
        });
        let seen = receiver.try_read().and_then(|mut batch| read(&mut batch));
        thread.join().unwrap();
        assert!(seen.is_err(), "item 1 seen");
    });
}

#[test]
#[should_panic(expected = "does the model still try what its name says")]
fn a_model_that_shrank_fails() {
    if std::env::var_os("WHORL_LOOM_ANY_COUNT").is_some()
        || std::env::var_os("LOOM_MAX_PREEMPTIONS").is_some()
    {
        panic!("counts are not checked in this run (does the model still try what its name says)");
    }
    Model::new("canary: too few executions", 1000).check(|| {
        let word = Arc::new(AtomicU32::new(0));
        let other = word.clone();
        let thread = thread::spawn(move || other.store(1, Ordering::Relaxed));
        word.load(Ordering::Relaxed);
        thread.join().unwrap();
    });
}

/// Mapping new stacks for each execution takes most of a model's time.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn an_execution_runs_on_the_stacks_of_an_earlier_one() {
    Model::new("canary: many executions", 163).check(|| {
        let word = Arc::new(AtomicU32::new(0));
        let other = word.clone();
        let count = |word: &AtomicU32| {
            for _ in 0..4 {
                word.fetch_add(1, Ordering::Relaxed);
            }
        };
        let thread = thread::spawn(move || count(&other));
        count(&word);
        thread.join().unwrap();
    });
    let mapped = loom_tests::stacks::mapped();
    assert!((2..30).contains(&mapped), "{mapped} stacks for all models of this file");
}
