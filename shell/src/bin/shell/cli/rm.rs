//! `shell rm`.

use super::name;
use crate::ui::candidates::removable;
use clap::ArgGroup;
use clap_complete::ArgValueCandidates;
use whorl::Name;

/// Remove channels: ask live owners to end, clear away what the dead left.
#[derive(clap::Args, Debug)]
#[command(
    group = ArgGroup::new("what").required(true),
    after_help = "Example: shell rm --dead",
    after_long_help = "\
A live owner that nobody is attached to is asked to end, and so is whoever
waits for that name. What is in use is left alone unless --force. Goes on after
a failure.

Examples:
  shell rm --dead            whatever killed processes left, and nothing else
  shell rm x y               these two
  shell rm --force x         even if somebody is attached

Exit codes: 0 everything named is gone; 1 something is not; 2 used wrongly; 3
there was nothing of that name."
)]
pub struct Args {
    /// What to remove
    #[arg(value_name = "NAME", value_parser = name, group = "what", add = ArgValueCandidates::new(removable))]
    pub names: Vec<Name>,

    /// Remove what dead processes left
    #[arg(long, group = "what")]
    pub dead: bool,

    /// Also end what is in use
    #[arg(long, conflicts_with = "dead")]
    pub force: bool,
}
