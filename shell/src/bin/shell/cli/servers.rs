//! `shell servers`.

use crate::ui::units::parse_duration;
use std::path::PathBuf;
use std::time::Duration;

/// Ask every server that is announced in a directory.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell servers --dir servers",
    after_long_help = "\
Prints how many there are, how many of them run on this host (both the socket
and shared memory work), in a container (the socket alone), or in a virtual
machine (neither; a dead one counts so too), and all messages, in the order of
the files.

Examples:
  shell servers --dir servers
  shell servers --dir servers --json --timeout 500ms

Exit codes: 0 asked, whatever they said; 1 the directory cannot be read; 2 used
wrongly."
)]
pub struct Args {
    /// Where servers announce themselves
    #[arg(long = "dir", value_name = "DIR")]
    pub directory: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// How long each server may take
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Duration,
}
