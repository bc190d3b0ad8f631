//! The latency of messages at a fixed rate: percentiles and a histogram.
//!
//! The latency of a message counts from the time that the schedule gives, not from the time when the sender sends it.

use super::{Bench, Budget};
use crate::ui::units::count;
use harness::collect::interleave_while;
use harness::contender::{Contender, StreamCase};
use harness::contenders::{pipes::Pipes, sockets::Sockets};
use harness::control::MOST_SAMPLES;
use harness::statistics::number;
use harness::streams::lateness;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;
use whorl::internal::contenders::ring::Whorl;

const PARTIES: [&dyn Contender; 3] = [&Whorl, &Pipes, &Sockets];
/// The default rate, in messages per second.
const RATE: u64 = 10_000;
/// The percentiles of each histogram.
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
/// The longest bar of a histogram, and the least share of messages for a line.
const BAR: f64 = 30.0;
const LEAST_SHOWN: f64 = 0.0005;

/// Measures this part.
pub fn run(bench: &mut Bench, budget: Budget) {
    if bench.is_over() {
        return;
    }
    let (rate, receivers) = (bench.args.rate.unwrap_or(RATE), bench.args.receivers.unwrap_or(1));
    let case = StreamCase { size: 64, receivers, slots: 64, batch: 1 };
    let time = budget.timing(PARTIES.len()).measure;
    let messages = (rate as f64 * time.as_secs_f64()) as u64;
    let messages = messages.clamp(20, (MOST_SAMPLES / receivers) as u64);
    let deadline = time + Duration::from_secs_f64(messages as f64 / rate as f64) + Duration::from_secs(30);
    let control = bench.control;
    let rows = interleave_while(
        &PARTIES,
        |round| budget.wants(round),
        2,
        |party| party.name().into(),
        |party| lateness(control, *party, &case, (rate, messages), deadline),
    );
    let title =
        format!("Ring: latency of 64 B to {} at {rate} messages/s", count(receivers as u64, "receiver"));
    let mut table = Vec::new();
    let mut bars = String::new();
    for row in &rows {
        let mut histogram = Histogram::<u64>::new_with_max(u32::MAX.into(), 2).expect("allowed bounds");
        let samples = row.values.iter().flat_map(|(_, samples)| samples);
        samples.for_each(|&late| histogram.saturating_record(late.into()));
        if row.who == "whorl" {
            bench.report.judge("ring lateness", row);
        }
        let cells = match histogram.is_empty() {
            true => vec![row.note().unwrap_or_else(|| "nothing was measured".into())],
            false => PERCENTILES.map(|(name, part)| format!("{name} {}", us(at(&histogram, part)))).to_vec(),
        };
        table.push([vec![row.who.clone()], cells].concat());
        bars += &lines(&row.who, &histogram);
        bench.report.lateness(as_json(&row.who, row.note(), (rate, receivers), row.values.len(), &histogram));
    }
    bench.report.rows("ring lateness", &format!("{title} [us]"), table);
    if bench.report.is_table() {
        bench.report.print(&bars);
    }
}

fn at(histogram: &Histogram<u64>, part: f64) -> u64 {
    histogram.value_at_quantile(part)
}

fn us(nanoseconds: u64) -> String {
    number(nanoseconds as f64 / 1e3)
}

fn as_json(
    who: &str,
    note: Option<String>,
    (rate, receivers): (u64, usize),
    rounds: usize,
    histogram: &Histogram<u64>,
) -> Value {
    let percentiles = PERCENTILES.map(|(name, part)| {
        let value = (!histogram.is_empty()).then(|| at(histogram, part));
        (name.to_string(), json!(value))
    });
    let counts: Vec<_> = histogram
        .iter_recorded()
        .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
        .collect();
    json!({
        "who": who,
        "rate": rate,
        "receivers": receivers,
        "size": 64,
        "rounds": rounds,
        "messages": histogram.len(),
        "unit": "ns",
        "percentiles": Value::Object(percentiles.into_iter().collect()),
        // Pairs: an upper bound, and the messages between the previous bound and this one.
        "histogram": counts,
        "note": note,
    })
}

/// Formats the histogram as text, with a line for each doubling.
fn lines(who: &str, histogram: &Histogram<u64>) -> String {
    let mut text = format!("  {who}\n");
    let all = histogram.len() as f64;
    let steps = histogram.iter_log(1_000, 2.0);
    let shares: Vec<_> = steps
        .map(|step| (step.value_iterated_to(), step.count_since_last_iteration() as f64 / all))
        .filter(|(_, share)| *share >= LEAST_SHOWN)
        .collect();
    let most = shares.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    for (value, share) in shares {
        let bar = "#".repeat((share / most * BAR).ceil() as usize);
        text += &format!("  to {:>9} us {:>6.2} %  {bar}\n", us(value + 1), share * 100.0);
    }
    text
}
