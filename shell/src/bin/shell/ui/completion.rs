//! Completion: the script of `shell completions` runs this program for the words that can continue a line. Names and ports
//! are looked up when the key is pressed.

use crate::cli::{Cli, link};
use crate::ui::terminal::{print_error, wrote};
use clap::{CommandFactory, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::Shells;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use whorl::internal::os::escape;
use whorl::internal::os::escape::shown;
use whorl::internal::os::standard::output;

/// The variable that the script sets.
pub const VARIABLE: &str = "WHORL_COMPLETE";

/// Answers a completion script. Returns whether the answer was written, or `None` if no script asks.
pub fn answer() -> Option<bool> {
    let shell = std::env::var_os(VARIABLE).filter(|shell| !shell.is_empty() && shell != "0")?;
    let shells = Shells::builtins();
    let Some(shell) = Path::new(&shell).file_stem().and_then(|name| shells.completer(name.to_str()?)) else {
        let known = shells.names().collect::<Vec<_>>().join(", ");
        print_error(&format!("{VARIABLE} is {}; it may be one of {known}", shown(shell.as_ref())));
        return Some(false);
    };
    let mut command = asked();
    command.build();
    let line = std::env::args_os().skip_while(|argument| argument != "--").skip(1).collect();
    let mut answer = Vec::new();
    Some(
        match shell.write_complete(&mut command, line, std::env::current_dir().ok().as_deref(), &mut answer) {
            Ok(()) => wrote(output().write_all(&answer)),
            Err(error) => {
                print_error(&format!("completion: {}", whorl::internal::os::error::reason_of(&error)));
                false
            }
        },
    )
}

/// Returns the command to complete. The typed words follow a `--`, and a link's name stands for its command.
fn asked() -> clap::Command {
    let all = Cli::command();
    let program = std::env::args_os().skip_while(|argument| argument != "--").nth(1);
    let found = program.and_then(|program| all.find_subcommand(link(&program)?).cloned());
    with_safe_paths(found.unwrap_or(all))
}

/// Makes [`paths`] complete the paths of a command.
fn with_safe_paths(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| match argument.get_value_hint() {
        ValueHint::AnyPath => argument.add(ArgValueCompleter::new(paths)),
        _ => argument,
    });
    command.mut_subcommands(with_safe_paths)
}

/// Returns the files whose paths begin with the typed text, except names with control characters: a shell would print them,
/// and split them at line ends.
fn paths(typed: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = PathCompleter::any().complete(typed);
    found.sort();
    found.retain(|path| matches!(escape::line(path.get_value().as_bytes()), Cow::Borrowed(_)));
    found
}
