//! `shell send`.

use super::copy::{block, ring};
use super::name;
use crate::ui::candidates::awaited;
use crate::ui::terminal::When;
use crate::ui::units::{parse_duration, parse_whole};
use clap::ArgGroup;
use clap_complete::ArgValueCandidates;
use std::path::PathBuf;
use std::time::Duration;
use whorl::Name;
use whorl_core::layout::MAX_SEATS;

/// Send a file or stream to processes that ask for it by name.
#[derive(clap::Args, Debug)]
#[command(
    group = ArgGroup::new("transport"),
    after_help = "", // -h is to fit a screen; the examples are --help's
    after_long_help = concat!(
        "Examples:\n",
        "  echo hello | shell send x           waits for a 'shell recv x', in any order\n",
        "  shell send x --peers 3 bigfile      begins when three are there\n",
        "  producer | shell send x --peers 0   begins at once, also without receivers\n",
        "  tail -f log | shell send x --lines  each line is one message\n",
        "\n",
        "It ends when every receiver has everything. A receiver that joins late gets\n",
        "everything if the first block is still in the ring. Otherwise it is refused,\n",
        "unless it joins with --from now. A slow receiver delays the others, unless\n",
        "--evict-after is given.\n",
        "\n",
        "Exit codes: 0 every receiver has everything; 1 the source failed, or the name is\n",
        "in use; 2 usage error; 4 receivers were lost, failed or evicted, none was left,\n",
        "or --timeout passed. If a signal stops it, it dies of that signal."
    )
)]
pub struct Args {
    /// The name by which receivers find this
    #[arg(value_name = "NAME", value_parser = name, add = ArgValueCandidates::new(awaited))]
    pub name: Name,

    /// The file to send; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub source: PathBuf,

    /// Use a ring in shared memory (default)
    #[arg(long, group = "transport")]
    pub shm: bool,

    /// Use a unix socket for each receiver
    #[arg(long, group = "transport")]
    pub socket: bool,

    /// Wait for N receivers first, 0 to 1024
    #[arg(short = 'n', long, value_name = "N", default_value = "1", value_parser = peers, allow_hyphen_values = true)]
    pub peers: u32,

    /// Give up if no byte moves for this long: 500ms, 10s
    #[arg(long, value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,

    /// Block size, 512 to 64M; 1K is 1024 [default: 80K]
    ///
    /// At most half of the ring.
    #[arg(long, value_name = "SIZE", value_parser = block, allow_hyphen_values = true)]
    pub block: Option<u32>,

    /// Size of the ring, 4K to 8G
    ///
    /// It is rounded up to a power of two.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = ring, conflicts_with = "socket", allow_hyphen_values = true)]
    pub ring: u64,

    /// Send each line as a message of its own
    ///
    /// A receiver never gets a part of a line. A line with more than half of the ring is an error.
    #[arg(long, conflicts_with_all = ["socket", "block"])]
    pub lines: bool,

    /// Most receivers at a time, 1 to 1024
    #[arg(long, value_name = "SEATS", default_value = "64", value_parser = seats, allow_hyphen_values = true)]
    pub seats: u32,

    /// Send a checksum, which receivers compare
    #[arg(long)]
    pub verify: bool,

    /// Wait for the slowest receiver (default)
    #[arg(long, conflicts_with = "evict_after")]
    pub lossless: bool,

    /// Evict a receiver that blocks the sender this long
    #[arg(long, value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    pub evict_after: Option<Duration>,

    /// Show progress: auto, always, never
    ///
    /// With auto, progress is shown if standard error is a terminal.
    #[arg(long, value_name = "WHEN", value_enum, default_value = "never", hide_possible_values = true)]
    pub progress: When,

    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
}

fn peers(text: &str) -> Result<u32, String> {
    number(text, 0)
}

fn seats(text: &str) -> Result<u32, String> {
    number(text, 1)
}

fn number(text: &str, least: u64) -> Result<u32, String> {
    let number = parse_whole(text, least..=MAX_SEATS.into()).map(|number| number as u32);
    number.ok_or_else(|| format!("it must be a whole number from {least} to {MAX_SEATS}"))
}
