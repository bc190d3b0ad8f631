//! `shell man`.

use std::path::PathBuf;

/// Write the manual pages, one for each command.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell man ~/.local/share/man/man1",
    after_long_help = "\
Examples:
  shell man ~/.local/share/man/man1    then: man shell, man shell-copy
  shell man . && man ./shell-ls.1      to look at one

The directory is made if need be; pages of an older version are replaced.

Exit codes: 0 written; 1 the directory or a page cannot be written; 2 used
wrongly."
)]
pub struct Args {
    /// The directory for them
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
