//! SIGKILL after the instructions of every operation of the ring, the lock and the mailboxes: with no other process
//! active, with one asleep, and with one busy. No process hangs, nothing is lost or torn, and a new process can take
//! part. Each operation is killed at 60 instructions, evenly spread. `WHORL_FAULTS=N` makes it N, `WHORL_FAULTS_LONG=1`
//! every instruction.
//!
//! Two operations are broken on purpose, and the same harness must catch them.

use crate::peers::{Outcome, Peer, Words, ensure, hang};
use crate::steps::{cannot_trace, operation};
use crate::sweep::{Case, CaseResult, Operation, SweepResult, sweep};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

/// The number of instructions tried of each operation.
fn most() -> usize {
    crate::kit::effort::asked().unwrap_or(60)
}

/// Sweeps, prints each operation's count and the sum, and returns the sum.
fn run(operations: &[Operation]) -> SweepResult {
    let begun = Instant::now();
    let results = sweep(operations, most());
    for (operation, result) in operations.iter().zip(&results) {
        eprintln!("  {}, {}: {result}", operation.name, operation.state);
    }
    let sum = SweepResult::sum(&results);
    let SweepResult { points, hangs, losses, over, instructions, again } = sum;
    eprintln!("{} operations, {points} points, {hangs} hangs, {losses} losses", operations.len());
    eprintln!(
        "  of {instructions} instructions, in {:?}; {over} more kills came after the end; {again} tries seemed to hang, and were made again",
        begun.elapsed()
    );
    assert!(results.iter().all(|result| result.points > 0), "an operation that was never stopped within");
    sum
}

fn nothing_happens(mut operations: Vec<Operation>, at_least: u32) {
    if let Ok(only) = std::env::var("WHORL_FAULTS_ONLY") {
        operations.retain(|operation| format!("{}, {}", operation.name, operation.state).contains(&only));
    }
    if let Some(why) = cannot_trace() {
        return crate::kit::skip("killing after every instruction", &why);
    }
    let sum = run(&operations);
    assert_eq!((sum.hangs, sum.losses), (0, 0));
    assert!(crate::kit::effort::asked().is_some() || sum.points >= at_least, "{} points only", sum.points);
}

#[test]
fn the_rings_survivors_go_on_wherever_a_peer_is_killed() {
    nothing_happens(crate::ring::operations(), 1200);
}

#[test]
fn the_locks_survivors_go_on_wherever_a_peer_is_killed() {
    nothing_happens(crate::lock::operations(), 1000);
}

#[test]
fn the_mailboxes_survivors_go_on_wherever_a_peer_is_killed() {
    nothing_happens(crate::mail::operations(), 480);
}

/// A spin lock that is never taken from a dead owner: one word, 0 or 1.
struct SpinLock(Words);

impl Case for SpinLock {
    fn victim(&mut self) {
        let word = self.0.word(0);
        operation(|| {
            while word.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {}
            word.store(0, SeqCst);
        });
    }

    fn survive(self: Box<Self>) -> Outcome {
        let word = self.0.word(0);
        for _ in 0..1000 {
            if word.compare_exchange(0, 1, SeqCst, SeqCst).is_ok() {
                self.0.free();
                return Ok(());
            }
        }
        hang("the lock of the dead")
    }
}

/// A message that is announced before it is written.
struct Torn(Words);

impl Case for Torn {
    fn victim(&mut self) {
        let Self(words) = self;
        operation(|| {
            words.word(0).store(1, SeqCst);
            words.word(1).store(7, SeqCst);
        });
    }

    fn survive(self: Box<Self>) -> Outcome {
        let Self(words) = *self;
        let reader = Peer::fork("the reader", || {
            ensure(words.get(0) == 0 || words.get(1) == 7, || "announced, but not there".into())
        });
        reader.end("the reader")
    }
}

#[test]
fn broken_operations_are_caught() {
    if let Some(why) = cannot_trace() {
        return crate::kit::skip("the test of killing after every instruction", &why);
    }
    let spin = move || -> CaseResult { Ok(Box::new(SpinLock(Words::new()))) };
    let torn = move || -> CaseResult { Ok(Box::new(Torn(Words::new()))) };
    let spin = Operation { name: "a plain spin lock", state: "broken", stops: false, make: Box::new(spin) };
    let torn = Operation { name: "announced too early", state: "broken", stops: false, make: Box::new(torn) };
    eprintln!("The hangs and losses that follow are meant to be:");
    let results = sweep(&[spin, torn], usize::MAX);
    eprintln!("  {}\n  {}", results[0], results[1]);
    assert!(results[0].hangs > 0, "a spin lock with a dead owner went unnoticed");
    assert!(results[1].losses > 0, "a message that was announced too early went unnoticed");
    assert!(results[0].points > 0 && results[1].points > 0, "nothing was whole before or after");
}
