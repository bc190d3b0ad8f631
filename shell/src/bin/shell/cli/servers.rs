//! `shell servers`.

use crate::ui::units::parse_duration;
use std::path::PathBuf;
use std::time::Duration;

/// Query every server that is announced in a directory.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell servers --dir servers",
    after_long_help = "\
Prints the number of servers; how many run on this host (the socket and shared
memory work), in a container (only the socket works) or in a virtual machine
(neither works; a dead server counts here too); and all messages, in the order
of the files.

Examples:
  shell servers --dir servers
  shell servers --dir servers --json --timeout 500ms

Exit codes: 0 done, whatever the servers answered; 1 the directory could not be
read; 2 usage error."
)]
pub struct Args {
    /// The directory where servers announce themselves
    #[arg(short, long = "dir", value_name = "DIR")]
    pub directory: PathBuf,

    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,

    /// The longest wait for each server: 500ms, 2s
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Duration,
}
