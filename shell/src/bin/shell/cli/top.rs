//! `shell top`.

use crate::ui::units::parse_duration;
use std::time::Duration;

/// Watch channels and servers: how fast, how full, who is behind.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell top",
    after_long_help = "\
A row for each channel and server. FILL is how much of the ring the slowest
receiver has still to take: when it is full, the sender waits. Enter shows one
in detail: a line for each receiver, or all mailboxes with their versions.

Keys: up, down, Enter, Esc; s sorts by another column; ? explains; q ends.

Examples:
  shell top
  shell top --once                       a table, for scripts and mails
  shell top --json | jq '.channels[] | select(.fill == 1) | .slowest.pid'

Exit codes: 0 done; 1 the runtime directory cannot be read, or the terminal
failed; 2 used wrongly. Stopped by a signal, it dies of it."
)]
pub struct Args {
    /// Print once, as a table, and end
    #[arg(long)]
    pub once: bool,

    /// Print once, as one JSON object, and end
    #[arg(long)]
    pub json: bool,

    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration, allow_hyphen_values = true)]
    pub interval: Duration,
}
