//! `shell ls`.

/// List channels and servers: who holds them, who takes part, who is behind.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell ls --json",
    after_long_help = "\
One line for each name, and under it one for each process that takes part or
waits. A name is live, waiting (its owner for receivers, or receivers for an
owner), or stale (its process is dead; 'shell rm --dead' removes what it left).

Examples:
  shell ls
  shell ls --json | jq '.channels[] | select(.state == \"stale\") | .name'
  shell ls --sysv        also what older programs left: System V shared memory

Exit codes: 0 done, also if there is nothing; 1 failed; 2 used wrongly."
)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// List your System V shared memory segments too
    #[arg(long)]
    pub sysv: bool,
}
