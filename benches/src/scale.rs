//! The ring with more and more receivers: the cost of one more of them.

use crate::collect::{interleave, present};
use crate::contender::{Contender, StreamCase};
use crate::control::Control;
use crate::options::{Options, Timing};
use crate::report::{Better, Case};
use crate::streams::{Delivery, delivery};
use crate::targets::{Target, at_most};
use std::time::Duration;

const RECEIVERS: [usize; 8] = [1, 2, 4, 8, 16, 64, 256, 1000];
const QUICK: [usize; 3] = [1, 16, 256];
/// The contenders that publish batches between processes, and the kernel's own means.
const PARTIES: [&str; 6] = ["whorl", "iceoryx2, polling", "shaq", "pipe", "unix socket", "tee(2)"];
/// A page, which tee(2) duplicates whole. With 64 B the switching between processes would hide everything else, and
/// with 80 KiB the loops over the data would.
const SIZE: usize = 4096;
const SLOTS: usize = 64;
const RUN: usize = 32;

/// Runs the case and prints its two tables.
pub fn run(options: &Options, control: &'static Control, parties: &[&'static dyn Contender]) {
    let all: &[usize] = if options.quick { &QUICK } else { &RECEIVERS };
    let chosen = |party: &&&dyn Contender| PARTIES.iter().any(|name| party.name().starts_with(name));
    let chosen = parties.iter().filter(chosen);
    let points: Vec<(&dyn Contender, usize)> =
        chosen.flat_map(|party| all.iter().map(|&receivers| (*party, receivers))).collect();
    let rows = interleave(
        &points,
        options.rounds(1, 3),
        1,
        |(party, receivers)| format!("{} x{receivers}", party.name()),
        |(party, receivers)| {
            let case = StreamCase { size: SIZE, receivers: *receivers, slots: SLOTS, batch: RUN };
            let delivered = delivery(control, *party, &case, &timing(options, *receivers))?;
            let kib = SIZE as f64 / 1024.0;
            Ok(delivered.map(|Delivery { rate, cpu }| Delivery {
                rate: rate * *receivers as f64 * kib / 1024.0,
                cpu: cpu / kib,
            }))
        },
    );
    let rates: Vec<_> = rows.iter().map(|row| row.map(|delivery| delivery.rate)).collect();
    let cpus: Vec<_> = present(&rows).map(|row| row.map(|delivery| delivery.cpu)).collect();
    let flat = [at_most(1.25, &["whorl x16"]).of("whorl x1000")];
    let none: &[Target] = &[];
    let tables = [
        ("scale-rate", "to all receivers together", "MiB/s", Better::Higher, &rates, none),
        ("scale-cpu", "CPU time of all for each KiB to each receiver", "ns/KiB", Better::Lower, &cpus, &flat),
    ];
    for (name, what, unit, better, rows, targets) in tables {
        Case {
            bench: "ring",
            name: name.into(),
            title: format!("{name}: 4 KiB, published in runs of up to {RUN}, {what}"),
            size: Some(SIZE as u64),
            receivers: None,
            unit,
            better,
            rows,
            targets,
        }
        .print(options.json);
    }
}

/// Returns a timing that grows with the receivers: a lap of the ring takes a turn of every receiver.
fn timing(options: &Options, receivers: usize) -> Timing {
    let receivers = receivers as u64;
    let timing = options.timing(40 + receivers / 2, 300 + receivers);
    // Setting up and taking down are not measured, so they get extra time.
    Timing { deadline: timing.deadline + Duration::from_millis(20 * receivers), ..timing }
}
