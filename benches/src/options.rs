//! The command line of the benches, and the durations of runs.

use std::time::Duration;

pub use harness::timing::Timing;

pub const HELP: &str = "\
options, after `cargo bench -p benches --bench NAME --`:
  --quick           few and short rounds, under a minute in all
  --json            one JSON object per line instead of tables
  --only SUBSTRING  only the cases whose name contains this; `--list` prints the names
  --who NAME        only the parties whose name contains this (ratios need both sides)
  --rounds N        how many rounds, each party once per round
  --kills N         ring: how many receivers are killed for each party
  --list            print the names of the cases and stop
";

#[derive(Default)]
pub struct Options {
    pub quick: bool,
    pub json: bool,
    pub list: bool,
    pub only: Option<String>,
    pub who: Option<String>,
    pub rounds: Option<usize>,
    pub kills: Option<usize>,
}

impl Options {
    /// Reads the command line. If it is wrong, or asks for help, prints that and exits.
    pub fn from_args() -> Self {
        let mut options = Options::default();
        // `cargo bench` passes `--bench`; `cargo test --benches` does not.
        if !std::env::args().any(|arg| arg == "--bench") {
            println!("not run: this is a bench and not a test; add --bench to run it");
            std::process::exit(0);
        }
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| usage(&format!("{arg}: a value is missing")));
            match arg.as_str() {
                "--bench" => (),
                "--quick" => options.quick = true,
                "--json" => options.json = true,
                "--list" => options.list = true,
                "--only" => options.only = Some(value()),
                "--who" => options.who = Some(value()),
                "--rounds" => options.rounds = Some(count(&arg, &value())),
                "--kills" => options.kills = Some(count(&arg, &value())),
                "-h" | "--help" => {
                    print!("{HELP}");
                    std::process::exit(0)
                }
                _ => usage(&format!("{arg}: unknown option")),
            }
        }
        options
    }

    pub fn wants_case(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }

    pub fn wants(&self, who: &str) -> bool {
        self.who.as_ref().is_none_or(|part| who.contains(part.as_str()))
    }

    pub fn rounds(&self, quick: usize, full: usize) -> usize {
        self.rounds.unwrap_or(if self.quick { quick } else { full })
    }

    pub fn kills(&self) -> usize {
        self.kills.unwrap_or(if self.quick { 20 } else { 100 })
    }

    /// Returns the timing of a run that measures for `quick` or `full` milliseconds, with a quarter of that as warm-up.
    pub fn timing(&self, quick: u64, full: u64) -> Timing {
        let measure = if self.quick { quick } else { full };
        Timing {
            warm_up: Duration::from_millis(measure / 4),
            measure: Duration::from_millis(measure),
            deadline: Duration::from_secs(if self.quick { 3 } else { 10 }),
            patience: Duration::from_millis(if self.quick { 500 } else { 2000 }),
        }
    }
}

fn count(option: &str, text: &str) -> usize {
    let count = text.parse().ok().filter(|&n| n > 0);
    count.unwrap_or_else(|| usage(&format!("{option} {text}: a number from 1 on is needed")))
}

fn usage(text: &str) -> ! {
    eprintln!("{text}\n{HELP}");
    std::process::exit(2)
}
