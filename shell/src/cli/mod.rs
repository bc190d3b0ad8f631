//! What can be typed: clap's types with their help texts, one file for each command, and nothing else.

pub mod copy;

use clap::error::{ContextKind, ErrorKind};
use clap::{Parser, Subcommand};

/// One process talks to many on one Linux machine.
#[derive(Parser, Debug)]
#[command(name = "shell", version, about, after_help = EXITS, disable_help_subcommand = true, max_term_width = 80)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Copy one file or stream to many processes, each writing a file of its own
    Copy(copy::Args),
}

/// The exit codes, at the end of every help text.
pub const EXITS: &str = "\
Exit codes: 0 done; 1 failed; 2 used wrongly; 4 peers were lost or failed while
others succeeded; 5 data lost or a checksum that does not match. Stopped by a
signal, it dies of that signal.";

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
    // It drops escape sequences, but not every character that a terminal acts on.
    let said = parts.collect::<Vec<_>>().join("; ").replace(char::is_control, "\u{fffd}");
    format!("{said}{hint}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_whole_parser_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
