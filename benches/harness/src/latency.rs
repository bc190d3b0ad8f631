//! The two parties of a round trip of a message of 64 bytes, each on its own core.

use crate::clock;
use crate::control::{Control, MOST_SAMPLES, phase};
use crate::load::{self, LAST};
use crate::process::pin;
use std::sync::atomic::Ordering::*;

/// The number of words in a message.
pub const WORDS: usize = 8;

/// Checks a message that arrived, and returns its stamp.
///
/// # Panics
/// If a word is wrong, which ends the run.
#[inline]
pub fn verified(words: &[u64]) -> u64 {
    assert!(load::check(words, words[0] & !LAST), "a message came damaged");
    words[0]
}

/// One end of a channel back and forth, for messages of 64 bytes: `load::fill` on one side, `load::check` on the other.
pub trait Link {
    fn send(&mut self, stamp: u64);
    /// Waits for the next message and returns its stamp. Panics if a word of the message is wrong.
    fn receive(&mut self) -> u64;
}

/// The party that sends, waits for the answer, and measures.
pub struct Meter {
    pub(crate) control: &'static Control,
    pub(crate) core: Option<usize>,
}

/// The party that answers.
pub struct Echo {
    pub(crate) control: &'static Control,
    pub(crate) core: Option<usize>,
}

impl Meter {
    /// Sends messages back and forth until the run is over. Call it when everything is set up.
    pub fn run(&mut self, link: &mut impl Link) {
        self.core.into_iter().for_each(pin);
        let Control { phase, sender, samples, .. } = self.control;
        self.control.arrive();
        let (mut number, mut counted) = (0u64, 0usize);
        let mut before = clock::ticks();
        loop {
            let now = phase.0.load(Relaxed);
            let last = now == phase::STOP || counted == MOST_SAMPLES;
            if counted == 0 && now != phase::WARM {
                sender.0.start_ns.store(clock::nanoseconds(), Relaxed);
                sender.0.start_ticks.store(clock::ticks(), Relaxed);
                before = clock::ticks();
            }
            link.send(if last { number | LAST } else { number });
            let answer = link.receive();
            assert_eq!(answer & !LAST, number, "an answer to another question");
            let after = clock::ticks();
            if now != phase::WARM && !last {
                samples[counted].store(u32::try_from(after - before).unwrap_or(u32::MAX), Relaxed);
                counted += 1;
            }
            before = after;
            number += 1;
            if last {
                break;
            }
        }
        sender.0.end_ticks.store(clock::ticks(), Relaxed);
        sender.0.end_ns.store(clock::nanoseconds(), Relaxed);
        sender.0.sent.store(counted as u64, Release);
    }
}

impl Echo {
    /// Answers until the last message. Call it when everything is set up.
    pub fn run(&mut self, link: &mut impl Link) {
        self.core.into_iter().for_each(pin);
        self.control.arrive();
        loop {
            let stamp = link.receive();
            link.send(stamp);
            if stamp & LAST != 0 {
                break;
            }
        }
    }
}
