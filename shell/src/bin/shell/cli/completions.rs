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

/// Print what sets up completion in a shell.
///
/// Commands, flags and their values are completed, and the names of channels and ports of mailbox servers that are there
/// when the key is pressed. So are the lines of links named dipc and dipcrm.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: source <(shell completions bash)",
    after_long_help = "\
Examples:
  source <(shell completions bash)     in ~/.bashrc for every new shell
  source <(shell completions zsh)      in ~/.zshrc, after compinit
  shell completions fish > ~/.config/fish/completions/shell.fish

What is printed names the program as you called it: call it by a path if it is
not on your PATH.

Exit codes: 0 printed; 1 it cannot be written; 2 used wrongly."
)]
pub struct Args {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}
