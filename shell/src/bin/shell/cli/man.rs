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

The directory is created if it does not exist. Existing pages are replaced.

Exit codes: 0 written; 1 the directory or a page could not be written; 2 usage
error."
)]
pub struct Args {
    /// The directory for the pages
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
