//! `shell top`.

use crate::ui::units::parse_duration;
use std::time::Duration;

/// Watch channels and servers: rate, fill level, slowest receiver.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell top",
    after_long_help = "\
Shows a row for each channel and server. FILL is the part of the ring that the
slowest receiver still has to take: at 100% the sender waits. Enter shows one
row in detail: a line for each receiver, or all mailboxes with their versions.

Keys: up, down, Enter, Esc; s sorts by another column; ? is help; q quits.

Examples:
  shell top
  shell top --once                       one table, for scripts
  shell top --json | jq '.channels[] | select(.fill == 1) | .slowest.pid'

Exit codes: 0 done; 1 the runtime directory could not be read, or the terminal
failed; 2 usage error. If a signal stops it, it dies of that signal."
)]
pub struct Args {
    /// Print one table and end
    #[arg(long)]
    pub once: bool,

    /// Print one JSON object and end
    #[arg(long)]
    pub json: bool,

    /// The time between updates: 100ms, 1s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration, allow_hyphen_values = true)]
    pub interval: Duration,
}
