//! `shell bench`.

use crate::ui::units::parse_whole;
use clap::ValueEnum;
use harness::control::MOST_RECEIVERS;
use std::path::PathBuf;

/// Measure this machine: Whorl beside standard Linux tools, in under a minute.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell bench ring --rate 10000",
    after_long_help = "\
Whorl and each contender run in turn, in several rounds, in processes of their
own. A figure is the median of the rounds, followed by the lowest and the
highest. The last column says how many times as fast Whorl is. Keep the machine
idle while measuring.

ring   a stream to 1, 4 and 16 receivers, beside pipes, unix sockets, tee(2) and
       bare loops over the data; latency at a fixed rate; a slow reader
copy   a file to many, beside cp, xargs -P2 cp, tee and bare writes
lock   the reader-writer lock, beside pthread_rwlock and Rust's RwLock
dipc   the mailbox server, beside redis-server and memcached if installed

With --rate, the latency of a message counts from the time when the schedule
says to send it, not from the time when a delayed sender sends it.

Examples:
  shell bench
  shell bench ring --rate 10000 --receivers 4   a histogram of latencies
  shell bench ring --slow-reader --json | jq '.slow_reader[0].sender'
  shell bench copy -d /dev/shm
  shell bench --json | jq '.cases[] | {case, rows}'

Exit codes: 0 measured; 1 Whorl failed in a case, or nothing can be measured
here; 2 usage error. If a signal stops it, it cleans up and dies of that
signal."
)]
pub struct Args {
    /// What to measure: ring, copy, lock or dipc; all four in less detail by default
    #[arg(value_name = "WHAT", value_enum, hide_possible_values = true)]
    pub what: Option<What>,

    /// ring: measure only the latency, at N messages/s, 100 to 10000000
    #[arg(long, value_name = "N", value_parser = rate, allow_hyphen_values = true)]
    pub rate: Option<u64>,

    /// ring: measure only a stream whose first reader pauses
    #[arg(long, conflicts_with = "rate")]
    pub slow_reader: bool,

    /// ring: the number of receivers, 1 to 64
    #[arg(long, value_name = "N", value_parser = receivers, allow_hyphen_values = true)]
    pub receivers: Option<usize>,

    /// Measure for about N seconds, 1 to 600
    #[arg(long, value_name = "N", default_value = "45", value_parser = seconds, allow_hyphen_values = true)]
    pub seconds: u64,

    /// Measure for a second or two each: a check, not figures to quote
    #[arg(long, conflicts_with = "seconds")]
    pub quick: bool,

    /// Where to write copies; $TMPDIR or /tmp by default
    #[arg(short, long = "dir", value_name = "DIR")]
    pub directory: Option<PathBuf>,

    /// Print one JSON object at the end
    #[arg(long)]
    pub json: bool,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum What {
    /// The broadcast ring.
    Ring,
    /// Copying a file to many.
    Copy,
    /// The reader-writer lock.
    Lock,
    /// The mailbox server.
    Dipc,
}

impl Args {
    /// Returns what is wrong if options do not fit together and clap cannot find that.
    pub fn mismatch(&self) -> Option<String> {
        let asked = [
            ("--rate", self.rate.is_some()),
            ("--slow-reader", self.slow_reader),
            ("--receivers", self.receivers.is_some()),
        ];
        let ring = asked.iter().find(|(_, asked)| *asked && self.what != Some(What::Ring));
        if let Some((option, _)) = ring {
            return Some(format!("{option} is only for the ring: shell bench ring {option}"));
        }
        let copies = matches!(self.what, None | Some(What::Copy));
        (self.directory.is_some() && !copies)
            .then(|| "--dir is only for copies: shell bench copy --dir DIR".into())
    }
}

fn rate(text: &str) -> Result<u64, String> {
    parse_whole(text, 100..=10_000_000).ok_or_else(|| "it must be a whole number from 100 to 10000000".into())
}

fn receivers(text: &str) -> Result<usize, String> {
    parse_whole(text, 1..=MOST_RECEIVERS as u64)
        .map(|receivers| receivers as usize)
        .ok_or_else(|| format!("it must be a whole number from 1 to {MOST_RECEIVERS}"))
}

fn seconds(text: &str) -> Result<u64, String> {
    parse_whole(text, 1..=600).ok_or_else(|| "it must be a whole number from 1 to 600".into())
}
