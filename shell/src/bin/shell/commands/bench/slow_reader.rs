//! The timeline of a stream at a fixed rate whose first receiver pauses.

use super::{Bench, Budget};
use harness::collect::interleave_while;
use harness::contender::{Contender, StreamCase};
use harness::contenders::pipes::Pipes;
use harness::role::{PAUSE, PAUSE_AT};
use harness::schedule::BUCKET;
use harness::streams::slow_reader;
use serde_json::json;
use std::time::Duration;
use whorl::internal::contenders::ring::Whorl;

const PARTIES: [&dyn Contender; 2] = [&Whorl, &Pipes];
/// Messages per second, bytes of a message, and receivers.
const RATE: u64 = 20_000;
const SIZE: usize = 4096;
const RECEIVERS: usize = 3;
/// Slots of the ring, for a tenth of a second. (Pipes hold what the system allows, usually 1 MiB.)
const SLOTS: usize = 2048;
/// The length of the stream by its schedule.
const LENGTH: Duration = Duration::from_millis(700);

/// Measures this part.
pub fn run(bench: &mut Bench, _: Budget) {
    if bench.is_over() {
        return;
    }
    let receivers = bench.args.receivers.unwrap_or(RECEIVERS);
    let case = StreamCase { size: SIZE, receivers, slots: SLOTS, batch: 1 };
    let count = RATE * LENGTH.as_millis() as u64 / 1000;
    let (control, deadline) = (bench.control, Duration::from_secs(30));
    // One round, because the result is the picture of one run.
    let rows = interleave_while(
        &PARTIES,
        |round| round == 0,
        1,
        |party| party.name().into(),
        |party| slow_reader(control, *party, &case, (RATE, count), deadline),
    );
    let mut table = Vec::new();
    for row in &rows {
        if row.who == "whorl" {
            bench.report.judge("ring slow reader", row);
        }
        let counts = row.values.first().map(|(_, counts)| counts.as_slice());
        let (sender, readers) = counts.and_then(|counts| counts.split_first()).unzip();
        table.push(match sender {
            Some(sender) => vec![
                row.who.clone(),
                format!("sender still for {} ms", still(sender)),
                format!("on schedule {} ms after the pause", recovered(sender)),
            ],
            None => vec![row.who.clone(), row.note().unwrap_or_else(|| "nothing was measured".into())],
        });
        bench.report.slow_reader(json!({
            "who": row.who,
            "rate": RATE,
            "size": SIZE,
            "slots": case.slots,
            "slice_ms": BUCKET.as_millis() as u64,
            // The pause of the first receiver.
            "pause_at_ms": PAUSE_AT.as_millis() as u64,
            "pause_ms": PAUSE.as_millis() as u64,
            // Messages in each time slice.
            "sender": sender,
            "receivers": readers,
            "note": row.note(),
        }));
    }
    let title = format!(
        "Ring: {RATE} messages/s of 4 KiB to {receivers} receivers, of which one pauses for {} ms",
        PAUSE.as_millis()
    );
    bench.report.rows("ring slow reader", &title, table);
}

/// Returns how long the sender sent nothing, in ms.
fn still(sender: &[u32]) -> u128 {
    sender.iter().filter(|&&count| count == 0).count() as u128 * BUCKET.as_millis()
}

/// Returns how long after the pause the sender was on schedule again, in ms.
fn recovered(sender: &[u32]) -> u128 {
    let slice = BUCKET.as_millis();
    let in_slice = RATE * slice as u64 / 1000;
    let after = ((PAUSE_AT + PAUSE).as_millis() / slice) as usize;
    let mut sent = 0;
    let on_time = sender.iter().enumerate().map(|(index, &count)| {
        sent += u64::from(count);
        // At the end of this slice, everything due before it was sent.
        (index, sent >= index as u64 * in_slice)
    });
    let first = on_time.skip(after).find(|(_, on_time)| *on_time).map_or(sender.len(), |(index, _)| index);
    (first - after.min(first)) as u128 * slice
}
