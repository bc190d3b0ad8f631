//! `shell bench`: measures Whorl beside standard tools of this machine, with the harness of the full benches.
//!
//! | file | what it is |
//! |---|---|
//! | `budget.rs` | the time and the rounds of each part |
//! | `machine.rs` | the description of the machine |
//! | `report.rs` | the report, as text and as JSON |
//! | `ring.rs`, `lateness.rs`, `slow_reader.rs` | the ring: throughput, latency at a fixed rate, a receiver that pauses |
//! | `copy.rs`, `lock.rs`, `dipc.rs` | the other parts |

mod budget;
mod copy;
mod dipc;
mod lateness;
mod lock;
mod machine;
mod report;
mod ring;
mod slow_reader;

use crate::cli::bench::{Args, What};
use crate::ui::exit::Exit;
use crate::ui::terminal::print_error;
use crate::ui::usage;
use budget::Budget;
use harness::control::Control;
use report::Report;
use std::path::PathBuf;
use std::time::Duration;
use whorl::internal::os::signal::{catch_stop_signals, stop_signal};

/// What every part uses.
struct Bench {
    args: Args,
    control: &'static Control,
    /// The path of this program.
    shell: PathBuf,
    /// The directory for temporary files.
    directory: PathBuf,
    /// Whether only one part is measured, in more detail.
    detail: bool,
    report: Report,
}

/// Runs it.
pub fn run(args: Args) -> Exit {
    if let Some(why) = args.mismatch() {
        return usage::refuse(&["bench"], &why);
    }
    let directory = args.directory.clone().unwrap_or_else(std::env::temp_dir);
    let found = std::env::current_exe().map_err(|error| ("this command".into(), error));
    let looked = std::fs::read_dir(&directory)
        .map_err(|error| (whorl::internal::os::escape::shown(&directory), error));
    let shell = match found.and_then(|shell| looked.map(|_| shell)) {
        Ok(shell) => shell,
        Err((what, error)) => {
            print_error(&format!("bench: {what}: {}", whorl::internal::os::error::reason_of(&error)));
            return Exit::Failed;
        }
    };
    catch_stop_signals();
    harness::process::stop_when(|| stop_signal().is_some());
    let report = Report::new(&args);
    let detail = args.what.is_some();
    let mut bench = Bench { control: Control::map(), shell, directory, detail, report, args };
    bench.all();
    if let Some(signal) = stop_signal() {
        return Exit::Signal(signal);
    }
    match bench.report.conclude() {
        Ok(()) => Exit::Done,
        Err(failures) => {
            failures.iter().for_each(|failure| print_error(&format!("bench: {failure}")));
            Exit::Failed
        }
    }
}

impl Bench {
    /// Measures every part that the arguments name, until a signal or a closed output.
    fn all(&mut self) {
        let seconds = if self.args.quick { if self.detail { 1 } else { 4 } } else { self.args.seconds };
        let budget =
            Budget::new(Duration::from_secs(seconds), if self.detail { 5 } else { 3 }, self.args.quick);
        match self.args.what {
            Some(What::Ring) if self.args.rate.is_some() => lateness::run(self, budget),
            Some(What::Ring) if self.args.slow_reader => slow_reader::run(self, budget),
            Some(What::Ring) => ring::run(self, budget),
            Some(What::Copy) => copy::run(self, budget),
            Some(What::Lock) => lock::run(self, budget),
            Some(What::Dipc) => dipc::run(self, budget),
            None => {
                ring::run(self, budget.share(0.4));
                copy::run(self, budget.share(0.2));
                lock::run(self, budget.share(0.15));
                dipc::run(self, budget.share(0.25));
            }
        }
    }

    /// Returns whether a signal asks for the end, or the reader has closed the output.
    fn is_over(&self) -> bool {
        stop_signal().is_some() || report::is_unread()
    }
}
