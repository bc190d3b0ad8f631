//! The command line: clap's types with their help texts, one file for each command, and nothing else.

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

use crate::ui::terminal::When;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use whorl::Name;
use whorl::error::NameError;
use whorl::internal::os::escape;

/// Send one file or stream to many processes on one Linux machine.
#[derive(Parser, Debug)]
#[command(name = "shell", version, after_help = MORE, after_long_help = EXAMPLES_AND_EXITS)]
#[command(disable_help_subcommand = true, max_term_width = 80)]
pub struct Cli {
    /// Use colours: auto (on a terminal), always or never
    ///
    /// With auto, the variable NO_COLOR turns colours off.
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value = "auto",
        global = true,
        display_order = 1000
    )]
    #[arg(hide_short_help = true, hide_possible_values = true)]
    pub color: When,

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
    /// Receive a stream that a process sends under a name
    Recv(recv::Args),
    /// List channels and servers with their owners and receivers
    Ls(ls::Args),
    /// Remove channels: end live ones, clean up after dead ones
    Rm(rm::Args),
    /// Announce a server that gives each client two messages
    Serve(serve::Args),
    /// Query every server that is announced in a directory
    Servers(servers::Args),
    /// Serve mailboxes over TCP, in the background
    Dipc(dipc::Args),
    /// Stop a mailbox server, or remove what a dead one left
    Dipcrm(dipc::RemoveArgs),
    /// Read and write mailboxes
    Mail(mail::Args),
    /// Watch channels and servers: rate, fill level, slowest receiver
    Top(top::Args),
    /// Check whether this machine has what the commands need
    Doctor(doctor::Args),
    /// Measure this machine: Whorl beside pipes, cp, locks, redis
    Bench(bench::Args),
    /// Print the script that sets up completion in a shell
    #[command(hide = true)]
    Completions(completions::Args),
    /// Write the manual pages
    #[command(hide = true)]
    Man(man::Args),
}

/// The end of the short help, which has to fit a screen.
const MORE: &str = "Examples and exit codes: shell --help, shell COMMAND --help";

/// The end of the long help.
const EXAMPLES_AND_EXITS: &str = "\
'shell help COMMAND' is 'shell COMMAND --help'; 'shell version' prints the
version.

Examples:
  shell copy -n 16 bigfile          one file to sixteen processes
  tar c src | shell send x          a stream; elsewhere: shell recv x | tar x
  shell ls                          channels, their owners and receivers
  source <(shell completions bash)  completion, for this shell; zsh and fish too
  shell man ~/.local/share/man/man1 the manual pages

Exit codes: 0 done; 1 failed; 2 usage error; 3 no such channel or server;
4 receivers were lost, or failed while others succeeded, or a wait timed out;
5 data were lost, or a checksum does not match. If a signal stops the command,
it cleans up and dies of that signal.";

/// The commands that a link to this program can be named after.
pub const LINKS: [&str; 2] = ["dipc", "dipcrm"];

/// Returns the command that a link of this name stands for.
pub fn link(program: &OsStr) -> Option<&'static str> {
    let name = Path::new(program).file_name()?;
    LINKS.into_iter().find(|known| name == *known)
}

/// Returns the arguments as clap reads them. A link's name becomes its command, `help COMMAND` becomes `COMMAND --help`, and
/// `version` becomes `--version`. Help names the program by its path, unless the path is not fit for a terminal.
pub fn arguments(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    if let Some(first) = arguments.first_mut() {
        match link(first) {
            Some(name) => drop(arguments.splice(..1, ["shell".into(), name.into()])),
            None if matches!(escape::line(first.as_bytes()), Cow::Owned(_)) => *first = "shell".into(),
            None => {}
        }
    }
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some("help") => {
            arguments.remove(1);
            arguments.push("--help".into());
        }
        Some("version") => arguments[1] = "--version".into(),
        _ => {}
    }
    arguments
}

/// Reads a command line.
///
/// # Errors
/// Returns clap's error. It shows control characters in arguments as escapes.
pub fn parse(line: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let arguments = arguments(line);
    Cli::try_parse_from(&arguments).map_err(|error| {
        // clap drops escape sequences from its messages, which would hide what was wrong.
        let escaped = arguments.iter().map(|argument| escape::line(argument.as_bytes()).into_owned());
        Cli::try_parse_from(escaped).err().filter(|again| again.kind() == error.kind()).unwrap_or(error)
    })
}

/// Reads the name of a channel or server.
fn name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|error: NameError| error.to_string())
}

/// Returns the words of a command line that name a command: `["mail", "read"]`.
pub fn command_words(arguments: &[OsString]) -> Vec<String> {
    let mut command = Cli::command();
    let mut words = Vec::new();
    for argument in arguments.iter().skip(1).take_while(|argument| *argument != "--") {
        let Some(next) = command.find_subcommand(argument) else { continue };
        words.push(next.get_name().to_owned());
        command = next.clone();
    }
    words
}

/// Returns what is wrong with a command line, in one line: the flag, the value, what is allowed.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    if let ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand = error.kind() {
        return "a command is missing".into();
    }
    // clap's text is what is wrong, then perhaps tips, then the usage.
    let message =
        text.split("\n\nUsage:").next().unwrap_or(text).split("\n\nFor more").next().unwrap_or(text);
    let parts = message.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    escape::line(&parts.collect::<Vec<_>>().join("; ")).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    /// clap would break a longer line a second time.
    #[test]
    fn the_ends_of_the_help_fit_their_width() {
        fn check(command: &Command) {
            for end in command.get_after_help().into_iter().chain(command.get_after_long_help()) {
                for line in end.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
                }
            }
            command.get_subcommands().for_each(check);
        }
        check(&super::Cli::command());
    }

    #[test]
    fn the_whole_parser_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
