//! `shell doctor`.

/// Check whether this machine has what the commands need.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell doctor",
    after_long_help = "\
One line for each thing that was looked at: ok; warn, where something works less
well or only up to a size; or fail, where some command cannot work; and what to
do about it. Nothing is changed, and nothing is left behind.

Examples:
  shell doctor
  shell doctor --json | jq '.checks[] | select(.verdict != \"ok\")'

Exit codes: 0 nothing failed; 1 something did; 2 used wrongly."
)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
