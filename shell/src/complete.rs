//! Completion on a command line: asked by the script of `shell completions`, we say how the line may go on. What exists
//! when the key is pressed is looked up then.

use crate::cli::{Cli, link};
use clap::CommandFactory;
use clap_complete::{CompleteEnv, CompletionCandidate};
use whorl::Name;
use whorl::channel::{State, mailbox_servers};
use whorl::rendezvous::{Client, RuntimeDir, Waiter};

/// The variable by which the script asks.
pub const VARIABLE: &str = "WHORL_COMPLETE";

/// Answers and ends the process, if a script asks.
pub fn answer() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(asked).var(VARIABLE).complete();
    }
}

/// The command whose line is to go on: what is typed follows a `--`, and a link's name stands for its command.
fn asked() -> clap::Command {
    let all = Cli::command();
    let program = std::env::args_os().skip_while(|argument| argument != "--").nth(1);
    let found = program.and_then(|program| all.find_subcommand(link(&program)?).cloned());
    found.unwrap_or(all)
}

/// Channels that somebody owns: for those who receive.
pub fn channels() -> Vec<CompletionCandidate> {
    named(|directory, file| {
        let name: Name = file.strip_suffix(".sock")?.parse().ok()?;
        let owned = name.mailbox_port().is_none() && Client::connect(directory, &name).is_ok();
        owned.then_some(name)
    })
}

/// Names that somebody waits for: for those who send.
pub fn awaited() -> Vec<CompletionCandidate> {
    named(|_, file| Waiter::parse(file).map(|waiter| waiter.name))
}

/// Whatever can be removed.
pub fn removable() -> Vec<CompletionCandidate> {
    named(|_, file| {
        let socket =
            || file.strip_suffix(".sock")?.parse().ok().filter(|name: &Name| name.mailbox_port().is_none());
        Waiter::parse(file).map(|waiter| waiter.name).or_else(socket)
    })
}

/// The ports of mailbox servers that run.
pub fn ports() -> Vec<CompletionCandidate> {
    let servers = mailbox_servers().unwrap_or_default();
    let live = servers.iter().filter(|server| server.state == State::Live);
    live.filter_map(|server| server.name.mailbox_port()).map(|port| port.to_string().into()).collect()
}

/// Names in the runtime directory. Whoever presses a key wants no errors, and no waiting for owners that do not answer.
fn named(pick: impl Fn(&RuntimeDir, &str) -> Option<Name>) -> Vec<CompletionCandidate> {
    let Ok(directory) = RuntimeDir::open() else { return Vec::new() };
    let files = directory.names().unwrap_or_default();
    let mut names: Vec<_> = files.iter().filter_map(|file| pick(&directory, file)).collect();
    names.sort();
    names.dedup();
    names.iter().map(|name| name.to_string().into()).collect()
}
