//! `shell doctor`.

/// Check whether this machine has what the commands need.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell doctor",
    after_long_help = "\
Prints one line for each check: ok; warn if something works less well or only
up to a size; fail if some command cannot work. A warning or failure says what
to do. The last line is the verdict. The command changes nothing and leaves
nothing behind.

Examples:
  shell doctor
  shell doctor --json | jq '.checks[] | select(.verdict != \"ok\")'

Exit codes: 0 no check failed; 1 a check failed; 2 usage error."
)]
pub struct Args {
    /// Print the checks as one JSON object
    #[arg(long)]
    pub json: bool,
}
