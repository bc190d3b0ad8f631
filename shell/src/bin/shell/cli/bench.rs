//! `shell bench`.

use crate::ui::units::parse_whole;
use clap::ValueEnum;
use harness::control::MOST_RECEIVERS;
use std::path::PathBuf;

/// Measure this machine: Whorl beside what every Linux has, in under a minute.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell bench ring --rate 10000",
    after_long_help = "\
Whorl and its rivals run in turn, round after round, in processes of their own;
a figure is the median of the rounds, beside the least and the most. The last
column says how many times as fast Whorl is. Leave the machine alone meanwhile.

ring   a stream to 1, 4, 16 receivers: pipes, unix sockets, tee(2), and the bare
       loops over the data; how late messages are at a fixed rate; a slow reader
copy   a file to many: cp, xargs -P2 cp, tee, and two processes that only write
lock   the reader-writer lock: pthread_rwlock in processes, std's in threads
dipc   the mailbox server: redis-server and memcached, where they are installed

With --rate a message's latency counts from when it was due, not from when a
sender that was held up got round to it: coordinated omission is accounted for.

Examples:
  shell bench
  shell bench ring --rate 10000 --receivers 4   a histogram of latencies
  shell bench ring --slow-reader --json | jq '.slow_reader[0].sender'
  shell bench copy -d /dev/shm
  shell bench --json | jq '.cases[] | {case, rows}'

Exit codes: 0 measured; 1 Whorl failed in some case, or nothing can be measured
here; 2 used wrongly. Stopped by a signal, it cleans up and dies of it."
)]
pub struct Args {
    /// What to measure; all four if left out, in less detail
    #[arg(value_name = "WHAT", value_enum, hide_possible_values = true)]
    pub what: Option<What>,

    /// ring: only how late messages come, so many in a second
    #[arg(long, value_name = "N", value_parser = rate, allow_hyphen_values = true)]
    pub rate: Option<u64>,

    /// ring: only a stream whose first reader pauses
    #[arg(long, conflicts_with = "rate")]
    pub slow_reader: bool,

    /// ring: how many processes receive, 1 to 64
    #[arg(long, value_name = "N", value_parser = receivers, allow_hyphen_values = true)]
    pub receivers: Option<usize>,

    /// About how long to measure, 1 to 600
    #[arg(long, value_name = "N", default_value = "45", value_parser = seconds, allow_hyphen_values = true)]
    pub seconds: u64,

    /// A second or two for each: to see that all works, not to quote
    #[arg(long, conflicts_with = "seconds")]
    pub quick: bool,

    /// Where copies go; the directory for temporary files if left out
    #[arg(short, long, value_name = "DIR")]
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
    /// What does not go together; clap knows the rest.
    pub fn mismatch(&self) -> Option<String> {
        let asked = [
            ("--rate", self.rate.is_some()),
            ("--slow-reader", self.slow_reader),
            ("--receivers", self.receivers.is_some()),
        ];
        let ring = asked.iter().find(|(_, asked)| *asked && self.what != Some(What::Ring));
        if let Some((option, _)) = ring {
            return Some(format!("{option} is for the ring alone: shell bench ring {option}"));
        }
        let copies = matches!(self.what, None | Some(What::Copy));
        (self.directory.is_some() && !copies)
            .then(|| "--directory is for copies alone: shell bench copy --directory DIR".into())
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
