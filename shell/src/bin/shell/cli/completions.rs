//! `shell completions`.

use clap::ValueEnum;

/// A shell whose completion can be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Shell {
    /// bash 3.2 or newer
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Print the script that sets up completion in a shell.
///
/// The script completes commands, flags and their values, and the names of channels and ports of mailbox servers that exist
/// when the key is pressed. It also completes for links named dipc and dipcrm.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: source <(shell completions bash)",
    after_long_help = "\
Examples:
  source <(shell completions bash)     in ~/.bashrc for every new shell
  source <(shell completions zsh)      in ~/.zshrc, after compinit
  shell completions fish > ~/.config/fish/completions/shell.fish

The script calls the program as you called it. If it is not on your PATH, call
it by its path.

Exit codes: 0 printed; 1 it could not be written; 2 usage error."
)]
pub struct Args {
    /// The shell: bash, zsh or fish
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}
