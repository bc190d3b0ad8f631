//! `shell send`.

use super::copy::{block, slots};
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
        "  producer | shell send x --peers 0   begins at once, for whoever listens\n",
        "\n",
        "It ends when all have everything. Who comes after the beginning gets everything\n",
        "while the first block is still held, else is refused (unless it asks for\n",
        "--from now). Who is slow holds up the others, unless --evict-after says\n",
        "otherwise.\n",
        "\n",
        "Exit codes: 0 everybody has everything; 1 the source failed, or the name is in\n",
        "use; 2 used wrongly; 4 receivers were lost or failed, none was left, or the time\n",
        "was up. Stopped by a signal, it dies of it."
    )
)]
pub struct Args {
    /// The name by which receivers find this
    #[arg(value_name = "NAME", value_parser = name, add = ArgValueCandidates::new(awaited))]
    pub name: Name,

    /// What to send; - is the standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub source: PathBuf,

    /// Use a ring in shared memory (the default)
    #[arg(long, group = "transport")]
    pub shm: bool,

    /// Use a unix socket for each receiver
    #[arg(long, group = "transport")]
    pub socket: bool,

    /// Begin when so many receivers are there; 0: at once
    #[arg(long, value_name = "N", default_value = "1", value_parser = peers, allow_hyphen_values = true)]
    pub peers: u32,

    /// Give up after so long without any movement: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,

    /// Bytes in one block, 512 to 64M
    #[arg(long, value_name = "SIZE", default_value = "80K", value_parser = block, allow_hyphen_values = true)]
    pub block: u32,

    /// Blocks under way, a power of two
    #[arg(long, value_name = "SLOTS", default_value = "8", value_parser = slots, allow_hyphen_values = true)]
    pub slots: u32,

    /// Receivers at a time, 1 to 1024
    #[arg(long, value_name = "SEATS", default_value = "64", value_parser = seats, allow_hyphen_values = true)]
    pub seats: u32,

    /// Send a checksum along
    #[arg(long)]
    pub verify: bool,

    /// Wait for the slowest receiver (the default)
    #[arg(long, conflicts_with = "evict_after")]
    pub lossless: bool,

    /// Throw out who holds up the others for so long
    #[arg(long, value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    pub evict_after: Option<Duration>,

    /// Show progress: auto, always, never
    #[arg(long, value_name = "WHEN", value_enum, default_value = "never", hide_possible_values = true)]
    pub progress: When,

    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

fn peers(text: &str) -> Result<u32, String> {
    whole(text, 0)
}

fn seats(text: &str) -> Result<u32, String> {
    whole(text, 1)
}

fn whole(text: &str, least: u64) -> Result<u32, String> {
    let number = parse_whole(text, least..=MAX_SEATS.into()).map(|number| number as u32);
    number.ok_or_else(|| format!("it must be a whole number from {least} to {MAX_SEATS}"))
}
