//! The time that a message of 64 bytes takes: half a round trip between two parties, each on its own core.

use crate::clock;
use crate::contender::{Contender, Cores, Latency, LatencyCase, Link, Unavailable};
use crate::control::{Control, MOST_SAMPLES, phase, task};
use crate::load::{self, LAST};
use crate::process::{Group, RunError, cores, pin};
use crate::statistics::percentile;
use crate::timing::Timing;
use std::sync::atomic::Ordering::*;
use std::time::Instant;

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

/// The party that sends, waits for the answer, and measures.
pub struct Meter {
    control: &'static Control,
    core: Option<usize>,
}

/// The party that answers.
pub struct Echo {
    control: &'static Control,
    core: Option<usize>,
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

/// The result of one run, in nanoseconds.
pub struct RoundTrips {
    /// Half the median round trip.
    pub one_way: f64,
    /// The value that 999 of 1000 round trips do not exceed.
    pub tail: f64,
}

/// Runs one contender once.
pub fn run(
    control: &'static Control,
    contender: &dyn Contender,
    case: &LatencyCase,
    timing: &Timing,
) -> Result<Result<RoundTrips, RunError>, Unavailable> {
    let cores = cores();
    let (here, there) = match case.cores {
        Cores::One => (cores[0], cores[0]),
        Cores::Two if cores.len() < 2 => return Err(Unavailable::cannot("needs two cores")),
        Cores::Two => (cores[0], cores[1]),
    };
    control.reset(task::NONE);
    let opened = contender.latency(case)?;
    let mut group = Group::new();
    let mut meter = Meter { control, core: Some(here) };
    let mut echo = Echo { control, core: Some(there) };
    match opened {
        Latency::Threads(threads) => group.spawn(control, || {
            threads.run(&mut meter, echo);
            Ok(())
        }),
        Latency::Processes(parties) => {
            // Both closures want the opened channel, and each child has its own copy of it. The parent keeps neither
            // copy.
            let mut parties = Some(parties);
            for asks in [true, false] {
                let parties = &mut parties;
                group.spawn(control, || {
                    let parties = parties.take().expect("inherited whole");
                    if asks {
                        parties.ping(&mut meter)
                    } else {
                        parties.pong(&mut echo)
                    }
                    Ok(())
                });
            }
        }
    }
    let result = steer(control, &mut group, timing);
    drop(group);
    contender.clean_up();
    Ok(result)
}

fn steer(control: &'static Control, group: &mut Group, timing: &Timing) -> Result<RoundTrips, RunError> {
    let deadline = Instant::now() + timing.deadline;
    group.measure(control, 2, timing, deadline)?;

    let record = &control.sender.0;
    let span = |end: u64, start: u64| (end - start) as f64;
    let ns = span(record.end_ns.load(Relaxed), record.start_ns.load(Relaxed));
    let ticks = span(record.end_ticks.load(Relaxed), record.start_ticks.load(Relaxed));
    let count = record.sent.load(Acquire) as usize;
    if count == 0 {
        return Err(RunError::Failed("not one round trip".into()));
    }
    let times: Vec<f64> =
        control.samples[..count].iter().map(|t| f64::from(t.load(Relaxed)) * ns / ticks).collect();
    Ok(RoundTrips { one_way: percentile(&times, 0.5) / 2.0, tail: percentile(&times, 0.999) })
}
