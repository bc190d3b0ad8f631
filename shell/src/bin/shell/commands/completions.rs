//! `shell completions`: prints the script that calls this program whenever the completion key is pressed.

use crate::cli::LINKS;
use crate::cli::completions::{Args, Shell};
use crate::ui::completion::VARIABLE;
use crate::ui::exit::Exit;
use crate::ui::terminal::{print, print_error};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use std::borrow::Cow;
use std::path::Path;
use whorl::internal::os::escape;

/// Runs it.
pub fn run(args: Args) -> Exit {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    for name in ["shell", "whorl"].iter().chain(&LINKS) {
        // Writing to memory does not fail.
        let _ = shell.write_registration(VARIABLE, name, name, &program(), &mut script);
    }
    let script = match escape::text(&script, &['\n']) {
        Cow::Borrowed(script) => script,
        // The script would not find the program by its escaped path.
        Cow::Owned(_) => {
            print_error(
                "completions: the path of this program has control characters; call the program by another path",
            );
            return Exit::Failed;
        }
    };
    // Zsh reads only the first line to learn which commands a file on its path completes.
    let script =
        script.replacen("#compdef shell\n", &format!("#compdef shell whorl {}\n", LINKS.join(" ")), 1);
    if print(script.trim_end()) { Exit::Done } else { Exit::Failed }
}

/// Returns this program as it was called. A bare name stays one, so that the script survives a move of the program. A path
/// becomes absolute, so that it works in every directory.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| "shell".into());
    let path = Path::new(&called);
    let whole = match path.components().count() {
        0 | 1 => path.to_owned(),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    };
    whole.to_string_lossy().into_owned()
}
