//! The report: text for people, case by case, or one JSON object at the end.

use super::machine;
use crate::cli::bench::Args;
use crate::ui::table::{aligned, terminal_width};
use crate::ui::terminal::{print, print_json};
use harness::collect::Collected;
use harness::statistics::{number, spread};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use std::time::Instant;
use whorl::internal::os::standard::output;

/// Which direction is better.
#[derive(Clone, Copy, PartialEq)]
pub enum Better {
    Higher,
    Lower,
}

/// One question, with a figure for each contender. Whorl's own names begin with `whorl`.
pub struct Case {
    /// The part and the name of the case: short and stable.
    pub name: String,
    /// What is measured.
    pub title: String,
    pub unit: &'static str,
    pub better: Better,
    pub rows: Vec<Collected<f64>>,
}

/// Everything that was measured.
pub struct Report {
    json: bool,
    begun: Instant,
    machine: Value,
    quick: bool,
    cases: Vec<Value>,
    lateness: Vec<Value>,
    slow_reader: Vec<Value>,
    /// The cases in which Whorl itself failed.
    failed: Vec<String>,
    /// Whether every write to standard output worked.
    written: bool,
}

impl Report {
    /// Starts a report with a line about the machine.
    pub fn new(args: &Args) -> Self {
        let mut report = Self {
            json: args.json,
            begun: Instant::now(),
            machine: machine::machine(),
            quick: args.quick,
            cases: Vec::new(),
            lateness: Vec::new(),
            slow_reader: Vec::new(),
            failed: Vec::new(),
            written: true,
        };
        let words = machine::in_words(&report.machine);
        report.print(&if report.is_table() { words + "\n" } else { format!("machine\t{words}") });
        report
    }

    /// Returns whether the report is a table on a terminal.
    pub fn is_table(&self) -> bool {
        !self.json && terminal_width().is_some()
    }

    /// Adds a case.
    pub fn case(&mut self, case: Case) {
        let rows: Vec<Value> = case.rows.iter().map(|row| row_json(&case, row)).collect();
        for row in case.rows.iter().filter(|row| row.who.starts_with("whorl")) {
            self.judge(&case.name, row);
        }
        let title = format!("{} [{}]", case.title, case.unit);
        self.rows(&case.name, &title, case.rows.iter().map(|row| cells(&case, row)).collect());
        self.cases.push(json!({
            "case": case.name,
            "title": case.title,
            "unit": case.unit,
            "better": if case.better == Better::Higher { "higher" } else { "lower" },
            "rows": rows,
        }));
    }

    /// Adds the latencies of a contender.
    pub fn lateness(&mut self, value: Value) {
        self.lateness.push(value);
    }

    /// Adds the timeline of a contender while a reader paused.
    pub fn slow_reader(&mut self, value: Value) {
        self.slow_reader.push(value);
    }

    /// Notes a failure if this row, which is Whorl's own, shows one.
    pub fn judge<T>(&mut self, case: &str, row: &Collected<T>) {
        if row.values.len() < row.tried || row.absent.is_some() {
            let why = row.note().unwrap_or_default();
            self.failed.push(format!("{case}: {}: {why}", row.who));
        }
    }

    /// Prints rows under a title. Elsewhere than on a terminal each row is a line with tabs, after the case's name and title.
    pub fn rows(&mut self, name: &str, title: &str, rows: Vec<Vec<String>>) {
        if !self.is_table() {
            let lines: Vec<_> =
                rows.iter().map(|row| format!("{name}\t{title}\t{}", row.join("\t"))).collect();
            return self.print(&lines.join("\n"));
        }
        let width = terminal_width().unwrap_or(80).saturating_sub(2);
        let lines = aligned(&rows, width).into_iter().map(|line| format!("  {line}\n"));
        self.print(&format!("{title}\n{}", lines.collect::<String>()));
    }

    /// Prints lines of text, unless the report is JSON.
    pub fn print(&mut self, text: &str) {
        if !self.json {
            self.written &= print(text);
        }
    }

    /// Ends the report. Returns the failures, if there were any.
    pub fn conclude(mut self) -> Result<(), Vec<String>> {
        if self.json {
            let all = json!({
                "machine": self.machine,
                "quick": self.quick,
                "seconds": self.begun.elapsed().as_secs_f64(),
                "cases": self.cases,
                "lateness": self.lateness,
                "slow_reader": self.slow_reader,
            });
            self.written &= print_json(&all);
        }
        match self.written && self.failed.is_empty() {
            true => Ok(()),
            false => Err(self.failed),
        }
    }
}

/// Returns whether the reader of standard output has closed it. The command then ends quietly.
pub fn is_unread() -> bool {
    let stdout = output();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    poll(&mut asked, Some(&whorl::internal::os::timeout::NOW)).is_ok()
        && asked[0].revents().contains(PollFlags::ERR)
}

/// Returns the values without their rounds.
fn values(row: &Collected<f64>) -> Vec<f64> {
    row.values.iter().map(|(_, value)| *value).collect()
}

/// Returns how many times as fast Whorl, the first row, is as the contender of another row.
fn times(case: &Case, row: &Collected<f64>) -> Option<f64> {
    let whorl = case.rows.first().filter(|first| first.who.starts_with("whorl") && first.who != row.who)?;
    match case.better {
        Better::Higher => whorl.ratio_to(row),
        Better::Lower => row.ratio_to(whorl),
    }
}

fn row_json(case: &Case, row: &Collected<f64>) -> Value {
    let values = values(row);
    let (low, high) = spread(&values);
    let some = |value: f64| (!values.is_empty()).then_some(value);
    json!({
        "who": row.who,
        "median": row.median(),
        "min": some(low),
        "max": some(high),
        "rounds": values.len(),
        "whorl_times_as_fast": times(case, row),
        "note": row.note(),
    })
}

fn cells(case: &Case, row: &Collected<f64>) -> Vec<String> {
    let Some(median) = row.median() else {
        return vec![row.who.clone(), row.note().unwrap_or_else(|| "nothing was measured".into())];
    };
    let (low, high) = spread(&values(row));
    // Align the numbers at their ends.
    let widest = case.rows.iter().filter_map(Collected::median).map(|median| number(median).len()).max();
    let median = format!("{:>1$}", number(median), widest.unwrap_or(0));
    let times = times(case, row).map(|times| format!("whorl {times:.2}x"));
    let last: Vec<String> = times.into_iter().chain(row.note()).collect();
    vec![row.who.clone(), median, format!("{} .. {}", number(low), number(high)), last.join("; ")]
}
