//! Usage errors: what is wrong with a command line, how the command is used, and where its help is.

use crate::cli::Cli;
use crate::ui::exit::Exit;
use crate::ui::terminal::{Colour, print_lines};
use clap::CommandFactory;

/// Reports a usage error of a command, which its words name: `["mail", "read"]`, or nothing for `shell` itself.
pub fn refuse(words: &[&str], why: &str) -> Exit {
    let mut command = Cli::command();
    command.build();
    for word in words {
        let Some(found) = command.find_subcommand(word).cloned() else { break };
        command = found;
    }
    let usage = command.render_usage().to_string();
    let usage = usage.split_whitespace().collect::<Vec<_>>().join(" ");
    let prefix = words.first().map_or(String::new(), |command| format!("{command}: "));
    let path = ["shell"].iter().chain(words).copied().collect::<Vec<_>>().join(" ");
    let help = format!("For all options: {path} --help");
    print_lines(Some(Colour::Red), &[&format!("{prefix}{why}"), &usage, &help]);
    Exit::Usage
}
