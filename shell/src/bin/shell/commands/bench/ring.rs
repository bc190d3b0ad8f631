//! The throughput of the ring to several receivers, each of which gets every message.

use super::report::{Better, Case};
use super::{Bench, Budget, lateness, slow_reader};
use harness::collect::interleave_while;
use harness::contender::{Contender, StreamCase};
use harness::contenders::{no_ring::NoRing, pipes::Pipes, sockets::Sockets, tee::Tee};
use harness::streams::throughput;
use whorl::internal::contenders::ring::Whorl;

/// Bytes of a message, their label, and the slots of the ring.
const SIZES: [(usize, &str, usize); 3] = [(64, "64 B", 64), (4096, "4 KiB", 64), (81920, "80 KiB", 16)];
/// The most messages in one publish.
const RUN: usize = 32;

/// Measures throughput, then latency, then the effect of a slow reader.
pub fn run(bench: &mut Bench, budget: Budget) {
    let throughputs = budget.share(0.7);
    let receivers = match bench.args.receivers {
        Some(receivers) => vec![receivers],
        None if bench.detail => vec![1, 4, 16],
        None => vec![1, 4],
    };
    let cases = SIZES.len() * receivers.len();
    for (size, label, slots) in SIZES {
        for &receivers in &receivers {
            let case = StreamCase { size, receivers, slots, batch: RUN };
            let parties: &[&dyn Contender] = &[&Whorl, &Pipes, &Sockets, &Tee, &NoRing];
            // Bare loops over the data are the bound for large messages.
            let parties = &parties[..if label == "80 KiB" { 5 } else { 4 }];
            if bench.is_over() {
                return;
            }
            one(bench, &throughputs.share(1.0 / cases as f64), parties, label, case);
        }
    }
    lateness::run(bench, budget.share(0.2));
    slow_reader::run(bench, budget.share(0.1));
}

fn one(bench: &mut Bench, budget: &Budget, parties: &[&dyn Contender], label: &str, case: StreamCase) {
    let (control, timing) = (bench.control, budget.timing(parties.len()));
    let (unit, factor) = match case.size {
        64 => ("messages/s", 1.0),
        size => ("MiB/s", size as f64 / f64::from(1 << 20)),
    };
    let rows = interleave_while(
        parties,
        |round| budget.wants(round),
        2,
        |party| party.name().into(),
        |party| throughput(control, *party, &case, &timing),
    );
    let plural = if case.receivers == 1 { "" } else { "s, each sees all" };
    bench.report.case(Case {
        name: format!("ring {label} x{}", case.receivers),
        title: format!("Ring: messages of {label} to {} receiver{plural}", case.receivers),
        unit,
        better: Better::Higher,
        rows: rows.iter().map(|row| row.map(|rate| rate * factor)).collect(),
    });
}
