//! `shell ls`.

/// List channels and servers with their owners and receivers.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell ls --json",
    after_long_help = "\
Prints one line for each name, and below it one for each receiver and each
process that waits. A name is live, waiting (its owner waits for receivers, or
receivers wait for an owner) or stale (its process is dead; 'shell rm --dead'
removes what it left). Elsewhere than on a terminal, tabs separate the fields.

Examples:
  shell ls
  shell ls --json | jq '.channels[] | select(.state == \"stale\") | .name'
  shell ls --sysv        also your System V shared memory, as ipcs -m

Exit codes: 0 done, also if there is nothing to list; 1 failed; 2 usage error."
)]
pub struct Args {
    /// Print the list as one JSON object
    #[arg(long)]
    pub json: bool,

    /// List your System V shared memory segments too
    #[arg(long)]
    pub sysv: bool,
}
