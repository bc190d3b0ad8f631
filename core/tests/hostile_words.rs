//! A hostile peer against rings, mailboxes and headers. One part plays seeds and random bytes, like a fuzzer (`fuzz/`).
//! The other is exhaustive: each word with a meaning, set to each tricky value, at each moment of a short run.

mod common;
mod hostile;

use common::Random;
use hostile::boxes::{self, Step as BoxStep};
use hostile::ring::{self, Step};
use hostile::{Tally, header};
use std::path::Path;
use whorl_core::layout::{Geometry, MailGeometry};

const RANDOM_INPUTS: u64 = 10_000;

/// Runs a fuzz target's function over its seeds and over random bytes.
fn feed(target: &str, run: impl Fn(&[u8]) -> Tally) -> Tally {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut tally = Tally::default();
    let mut seen = 0;
    for seed in std::fs::read_dir(&seeds).unwrap_or_else(|why| panic!("{}: {why}", seeds.display())) {
        tally.add(run(&std::fs::read(seed.unwrap().path()).unwrap()));
        seen += 1;
    }
    assert!(seen > 0, "no seeds in {}", seeds.display());
    for number in 0..RANDOM_INPUTS {
        let mut random = Random::new(number);
        let bytes: Vec<u8> = (0..random.below(700)).map(|_| random.word() as u8).collect();
        tally.add(run(&bytes));
    }
    tally
}

/// Checks that calls succeeded and calls failed. Otherwise the test tried nothing.
fn assert_busy(tally: Tally) {
    println!("{tally:?}");
    assert!(tally.received > 100 && tally.refused > 100, "{tally:?}");
}

#[test]
fn any_bytes_as_a_segment_are_refused_or_used_within_their_bounds() {
    assert_busy(feed("segment_header", header::run));
}

#[test]
fn a_ring_survives_any_word_changed_at_any_moment() {
    assert_busy(feed("hostile_ring", ring::run));
}

#[test]
fn mailboxes_survive_any_word_changed_at_any_moment() {
    assert_busy(feed("hostile_mailboxes", boxes::run));
}

/// Runs for every moment, word and value, and once without a change. `run` returns its counts, and how many moments and
/// words there are.
fn exhaust(run: impl Fn(Option<u32>, usize, usize) -> (Tally, u32, usize)) -> Tally {
    let (clean, moments, words) = run(None, 0, 0);
    let mut runs = 0u64;
    let mut differing = 0u64;
    for at in 0..moments {
        for word in 0..words {
            for value in 0..9 {
                let (tally, ..) = run(Some(at), word, value);
                runs += 1;
                differing += u64::from(tally != clean);
            }
        }
    }
    println!(
        "{moments} moments, {words} words, 9 values: {runs} runs, {differing} ended differently from the run without a change"
    );
    assert!(differing > 0, "no change had any effect");
    clean
}

#[test]
fn every_word_at_every_moment_of_four_messages_through_a_ring() {
    for evictable in [false, true] {
        let geometry = Geometry::new(64, 2).unwrap();
        let geometry = if evictable { geometry.evictable() } else { geometry };
        let mut steps =
            vec![Step::Ask(0, true), Step::Ask(1, false), Step::Admit, Step::Enter(0), Step::Enter(1)];
        for message in 0..4 {
            steps.push(Step::Send { count: 1, most: 9, waits: message % 2 == 0 });
            steps.push(Step::Receive { seat: 0, waits: message % 2 == 1 });
            steps.push(Step::Receive { seat: 1, waits: message % 2 == 0 });
        }
        steps.extend([Step::Arm(0), Step::Close, Step::Drain, Step::Leave(0)]);
        steps.extend([Step::Die(1), Step::Evict(1), Step::Reclaim]);
        let memory = ring::memory(geometry);
        let clean = exhaust(|at, word, value| ring::run_once(&memory, geometry, &steps, at, word, value));
        assert_eq!(clean, Tally { sent: 4, received: 8, refused: 0 });
    }
}

#[test]
fn every_word_at_every_moment_of_four_messages_through_a_mailbox() {
    // Messages of up to 64 bytes are copied word by word, longer ones at once.
    let geometry = MailGeometry::new(1, 64, 2).unwrap();
    let memory = boxes::memory(geometry);
    let mut steps = vec![BoxStep::Sit(0), BoxStep::Sit(1)];
    for message in 0..4 {
        let (seat, waits) = (message % 2, message < 2);
        steps.push(BoxStep::Write { seat, index: 0, waits });
        steps.push(BoxStep::Newer(0));
        steps.push(BoxStep::Read { seat: 1 - seat, index: 0, waits });
    }
    steps.extend([BoxStep::Leave(0), BoxStep::Die(1), BoxStep::Reclaim]);
    let clean = exhaust(|at, word, value| boxes::run_once(&memory, geometry, &steps, at, word, value));
    assert_eq!(clean, Tally { sent: 4, received: 4, refused: 0 });
}
