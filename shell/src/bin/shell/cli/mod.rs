//! What can be typed: clap's types with their help texts, one file for each command, and nothing else.

pub mod bench;
pub mod completions;
pub mod copy;
pub mod dipc;
pub mod doctor;
pub mod ls;
pub mod mail;
pub mod man;
pub mod recv;
pub mod rm;
pub mod send;
pub mod serve;
pub mod servers;
pub mod top;

use clap::error::{ContextKind, ErrorKind};
use clap::{Parser, Subcommand};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use whorl::Name;
use whorl::os::escape;
use whorl::registry::NameError;

/// One process talks to many on one Linux machine.
#[derive(Parser, Debug)]
#[command(name = "shell", version, after_help = MORE, after_long_help = EXAMPLES_AND_EXITS)]
#[command(disable_help_subcommand = true, max_term_width = 80)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Copy a file or stream to many processes, a file for each
    Copy(copy::Args),
    /// Send a file or stream to processes that ask for it by name
    Send(send::Args),
    /// Receive what somebody sends under a name
    Recv(recv::Args),
    /// List channels and servers: who holds them, who is behind
    Ls(ls::Args),
    /// Remove channels: end the living, clear away the dead
    Rm(rm::Args),
    /// Announce a server that gives each client two messages
    Serve(serve::Args),
    /// Ask every server that is announced in a directory
    Servers(servers::Args),
    /// Serve mailboxes over TCP, in the background
    Dipc(dipc::Args),
    /// Stop a mailbox server, and clear away what a dead one left
    Dipcrm(dipc::RemoveArgs),
    /// Read and write mailboxes
    Mail(mail::Args),
    /// Watch channels and servers: how fast, how full, who is behind
    Top(top::Args),
    /// Check whether this machine has what the commands need
    Doctor(doctor::Args),
    /// Measure this machine: Whorl beside pipes, cp, locks, redis
    Bench(bench::Args),
    /// Print what sets up completion in a shell
    #[command(hide = true)]
    Completions(completions::Args),
    /// Write the manual pages
    #[command(hide = true)]
    Man(man::Args),
}

/// The end of the short help, which is to fit a screen.
const MORE: &str = "Examples and exit codes: shell --help, shell COMMAND --help";

/// The end of the long help.
const EXAMPLES_AND_EXITS: &str = "\
Examples:
  shell copy -n 16 bigfile          one file to sixteen processes
  tar c src | shell send x          a stream; elsewhere: shell recv x | tar x
  shell ls                          who holds what, who is behind
  source <(shell completions bash)  completion, for this shell; zsh and fish too
  shell man ~/.local/share/man/man1 the manual pages

Exit codes: 0 done; 1 failed; 2 used wrongly; 3 no such channel or server;
4 peers were lost, or failed while others succeeded; 5 data lost, or a checksum
that does not match. Stopped by a signal, it dies of that signal.";

/// The commands that we are when we are called by their names, through a link.
pub const LINKS: [&str; 2] = ["dipc", "dipcrm"];

/// Which of them a program called so is.
pub fn link(program: &OsStr) -> Option<&'static str> {
    let name = Path::new(program).file_name()?;
    LINKS.into_iter().find(|known| name == *known)
}

/// The arguments as they are meant: called through a link, we are that command. Help names the program as it was called,
/// unless that is not fit for a terminal.
pub fn arguments(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    if let Some(first) = arguments.first_mut() {
        match link(first) {
            Some(name) => drop(arguments.splice(..1, ["shell".into(), name.into()])),
            None if matches!(escape::line(first.as_bytes()), Cow::Owned(_)) => *first = "shell".into(),
            None => {}
        }
    }
    arguments
}

/// Reads a command line.
///
/// # Errors
/// Why it is none. The error names arguments with what a terminal acts on escaped.
pub fn parse(line: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let arguments = arguments(line);
    Cli::try_parse_from(&arguments).map_err(|error| {
        // clap itself drops escape sequences from what it says, which hides what was wrong.
        let escaped = arguments.iter().map(|argument| escape::line(argument.as_bytes()).into_owned());
        Cli::try_parse_from(escaped).err().filter(|again| again.kind() == error.kind()).unwrap_or(error)
    })
}

/// Reads the name of a channel or server.
fn name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|error: NameError| error.to_string())
}

/// A usage error in one line: the flag, the value, what is allowed.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let hint = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            return "which command? Try 'shell --help'".into();
        }
        _ if error.get(ContextKind::SuggestedArg).is_some()
            || error.get(ContextKind::SuggestedSubcommand).is_some() =>
        {
            ""
        }
        _ => "; try --help",
    };
    // clap's own text is: what is wrong, perhaps tips, then the usage.
    let said = text.split("\n\nUsage:").next().unwrap_or(text).split("\n\nFor more").next().unwrap_or(text);
    let parts = said.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let said = parts.collect::<Vec<_>>().join("; ");
    format!("{}{hint}", escape::line(&said))
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    /// A line that was broken by hand and is broken again reads badly.
    #[test]
    fn the_ends_of_the_help_fit_their_width() {
        fn look(command: &Command) {
            for end in command.get_after_help().into_iter().chain(command.get_after_long_help()) {
                for line in end.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
                }
            }
            command.get_subcommands().for_each(look);
        }
        look(&super::Cli::command());
    }

    #[test]
    fn the_whole_parser_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
