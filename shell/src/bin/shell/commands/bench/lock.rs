//! The reader-writer lock between processes, beside the C library's and, in threads of one process, std's.

use super::report::{Better, Case};
use super::{Bench, Budget};
use harness::collect::interleave_while;
use harness::control::Control;
use harness::locks::asking::{COPIED, Question, SECTION, ask};
use harness::locks::{Lock, pthread::Pthread, threads::Std};
use harness::statistics::percentile;
use harness::streams::Run;
use harness::timing::Timing;
use std::time::Duration;
use whorl::internal::contenders::lock::Whorl;

/// Measures a contender: operations per second, or waits in ms.
type Ask = fn(&'static Control, Question, &Timing) -> Run<Vec<f64>>;
const PARTIES: &[(&str, Ask)] = &[
    (Whorl::NAME, ask::<Whorl>),
    (Pthread::<false>::NAME, ask::<Pthread<false>>),
    #[cfg(target_env = "gnu")]
    (Pthread::<true>::NAME, ask::<Pthread<true>>),
    (Std::NAME, ask::<Std>),
];

/// Measures this part.
pub fn run(bench: &mut Bench, budget: Budget) {
    let two = |writes, copied| Question::Two { writes, copied };
    let mut questions = vec![
        ("read alone", "Lock: reading, without contention", Question::Alone { writes: false }),
        ("write alone", "Lock: writing, without contention", Question::Alone { writes: true }),
        ("two 5% 64 KiB", "Lock: two parties, 5 % writes, 64 KiB copied inside", two(5, COPIED)),
        ("two 50% 64 KiB", "Lock: two parties, 50 % writes, 64 KiB copied inside", two(50, COPIED)),
    ];
    if bench.detail {
        questions.extend([
            ("two 5% empty", "Lock: two parties, 5 % writes, nothing inside", two(5, 0)),
            ("two 50% empty", "Lock: two parties, 50 % writes, nothing inside", two(50, 0)),
            ("wait writer", "Lock: a writer among four overlapping readers", Question::Wait { writes: true }),
            ("wait reader", "Lock: a reader among four busy writers", Question::Wait { writes: false }),
        ]);
    }
    let each = 1.0 / questions.len() as f64;
    for (name, title, question) in questions {
        if bench.is_over() {
            return;
        }
        one(bench, &budget.share(each), name, title, question);
    }
}

fn one(bench: &mut Bench, budget: &Budget, name: &str, title: &str, question: Question) {
    let control = bench.control;
    let mut timing = budget.timing(PARTIES.len());
    let waits = matches!(question, Question::Wait { .. });
    if waits && !budget.quick {
        // Sections of 10 ms: a shorter run would see too few waits.
        timing.measure = timing.measure.max(Duration::from_millis(500));
    }
    let rows = interleave_while(
        PARTIES,
        |round| budget.wants(round),
        2,
        |(name, _)| (*name).into(),
        |(_, ask)| ask(control, question, &timing),
    );
    let (unit, better, figure): (_, _, fn(&Vec<f64>) -> f64) = match question {
        Question::Alone { .. } => ("ns", Better::Lower, |rates| 1e9 / rates[0]),
        Question::Two { .. } => ("Mop/s", Better::Higher, |rates| rates[0] / 1e6),
        Question::Wait { .. } => ("ms", Better::Lower, |waits| percentile(waits, 0.999)),
    };
    let suffix =
        if waits { format!(", sections of {SECTION:?}: 99.9 % of its waits") } else { String::new() };
    bench.report.case(Case {
        name: format!("lock {name}"),
        title: format!("{title}{suffix}"),
        unit,
        better,
        rows: rows.iter().map(|row| row.map(figure)).collect(),
    });
}
