//! How long a message of 64 bytes takes: half a round trip between two parties.

use crate::contender::{Contender, Cores, Latency, LatencyCase, Unavailable};
use crate::control::{Control, task};
use crate::latency::{Echo, Meter};
use crate::process::{Group, RunError, cores};
use crate::statistics::percentile;
use crate::timing::Timing;
use std::sync::atomic::Ordering::*;
use std::time::Instant;

/// What one run says, in nanoseconds.
pub struct RoundTrips {
    /// Half the median round trip.
    pub one_way: f64,
    /// What 999 of 1000 round trips do not exceed.
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
            // Both closures want the opened channel, and each child has its own copy of it; the parent keeps neither.
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
