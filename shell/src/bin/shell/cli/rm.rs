//! `shell rm`.

use super::name;
use crate::ui::candidates::removable;
use clap::ArgGroup;
use clap_complete::ArgValueCandidates;
use whorl::Name;

/// Remove channels: end live ones, clean up after dead ones.
#[derive(clap::Args, Debug)]
#[command(
    group = ArgGroup::new("what").required(true),
    after_help = "Example: shell rm --dead",
    after_long_help = "\
It asks the live owner of a name to end, and each receiver that waits for the
name. A channel with receivers is in use and stays, unless --force is given. A
failure of one name does not stop the removal of the others.

Examples:
  shell rm --dead            only what killed processes left
  shell rm x y               these two
  shell rm --force x         even if receivers are attached

Exit codes: 0 every name is gone; 1 a name is not; 2 usage error; 3 there was
no such channel."
)]
pub struct Args {
    /// The names to remove
    #[arg(value_name = "NAME", value_parser = name, group = "what", add = ArgValueCandidates::new(removable))]
    pub names: Vec<Name>,

    /// Remove what dead processes left
    #[arg(long, group = "what")]
    pub dead: bool,

    /// Also end channels that are in use
    #[arg(long, conflicts_with = "dead")]
    pub force: bool,
}
