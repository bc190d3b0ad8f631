//! Names and ports that a command line may go on with. They are looked up when the key is pressed.

use clap_complete::engine::CompletionCandidate;
use whorl::Name;
use whorl::internal::mailbox_server::server_registry::ServerRegistry;
use whorl::internal::registry::{Client, RuntimeDir, Waiter};

/// Channels that have an owner, for `recv`.
pub fn channels() -> Vec<CompletionCandidate> {
    named(|directory, file| {
        let name: Name = file.strip_suffix(".sock")?.parse().ok()?;
        let owned = name.mailbox_port().is_none() && Client::connect(directory, &name).is_ok();
        owned.then_some(name)
    })
}

/// Names that a process waits for, for `send`.
pub fn awaited() -> Vec<CompletionCandidate> {
    named(|_, file| Waiter::parse(file).map(|waiter| waiter.name))
}

/// Names that can be removed, for `rm`.
pub fn removable() -> Vec<CompletionCandidate> {
    named(|_, file| {
        let socket =
            || file.strip_suffix(".sock")?.parse().ok().filter(|name: &Name| name.mailbox_port().is_none());
        Waiter::parse(file).map(|waiter| waiter.name).or_else(socket)
    })
}

/// The ports of mailbox servers that run.
pub fn ports() -> Vec<CompletionCandidate> {
    let Ok(Some(_)) = RuntimeDir::open_existing() else { return Vec::new() };
    let ports = ServerRegistry::open().map(|servers| servers.live_ports()).unwrap_or_default();
    ports.into_iter().map(|port| port.to_string().into()).collect()
}

/// Names in the runtime directory. An error leaves the list empty, because a person who presses a key wants no message.
fn named(pick: impl Fn(&RuntimeDir, &str) -> Option<Name>) -> Vec<CompletionCandidate> {
    let Ok(Some(directory)) = RuntimeDir::open_existing() else { return Vec::new() };
    let files = directory.names().unwrap_or_default();
    let mut names: Vec<_> = files.iter().filter_map(|file| pick(&directory, file)).collect();
    names.sort();
    names.dedup();
    names.iter().map(|name| name.to_string().into()).collect()
}
