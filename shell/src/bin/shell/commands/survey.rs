//! What exists, and the words for it: shared by the commands that show channels and servers.

use crate::cli::{self, Cli, Command};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use whorl::internal::os::escape;
use whorl::internal::os::pid::proc_of;
use whorl::internal::registry::RuntimeDir;
use whorl::internal::registry::status::{Kind, PeerState, ReceiverStatus};
use whorl::internal::registry::{Listed, State, list};

/// Returns every channel and server, sorted by name. It does not create the runtime directory.
///
/// # Errors
/// The runtime directory cannot be used.
pub fn survey() -> Result<Vec<Listed>, String> {
    let Some(directory) = RuntimeDir::open_existing().map_err(|error| error.to_string())? else {
        return Ok(Vec::new());
    };
    let failed = |error| {
        format!(
            "{}: {}",
            whorl::internal::os::escape::shown(directory.path()),
            whorl::internal::os::error::reason(error)
        )
    };
    list(&directory).map_err(failed)
}

/// Returns the word for a kind.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Ring => "ring",
        Kind::Mailboxes => "mailboxes",
        Kind::Server => "server",
    }
}

/// Returns the word for a state.
pub fn state(state: State) -> &'static str {
    match state {
        State::Live => "live",
        State::Waiting => "waiting",
        State::Stale => "stale",
    }
}

/// Returns the word for the state of a receiver.
pub fn peer_state(peer: &ReceiverStatus) -> &'static str {
    match peer.state {
        _ if peer.pid != 0 && is_stopped(peer.pid) => "stopped",
        PeerState::Joining => "joining",
        PeerState::Live => "live",
        PeerState::Evicted => "evicted",
        PeerState::Done => "done",
    }
}

/// Returns the beginning of a process's command line.
pub fn command(pid: u32) -> Option<String> {
    const LONGEST: usize = 80;
    let bytes = std::fs::read(proc_of(pid)?.join("cmdline")).ok()?;
    let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    let text = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ");
    let shown: String = text.chars().take(LONGEST).collect();
    (!shown.is_empty()).then_some(shown)
}

/// Describes a process in a few words, escaped for a terminal: its pid, and its command without the program's directory.
pub fn in_short(pid: Option<u32>, command: &Option<String>) -> String {
    let command = command.as_deref().unwrap_or_default();
    let (program, rest) = command.split_once(' ').unwrap_or((command, ""));
    let program = program.rsplit('/').next().unwrap_or(program);
    let pid = pid.map_or("in another namespace".into(), |pid| pid.to_string());
    escape::line(format!("{pid} {program} {rest}").trim_end()).into_owned()
}

/// Describes a receiver so that receivers differ: its pid, and what it does. For a `shell recv` that is its file, or the
/// program that started it; for another program its name and arguments.
pub fn peer_in_short(pid: u32, command: &Option<String>) -> String {
    let words = arguments(pid);
    let program = words.first().and_then(|program| Path::new(program).file_name());
    if program != Some(OsStr::new("shell")) {
        return in_short(Some(pid), command);
    }
    let parent = || parent_name(pid).map_or(String::new(), |parent| format!(" by {parent}"));
    let does = match cli::parse(words.iter().cloned()) {
        Ok(Cli { command: Command::Recv(args), .. }) if args.target != Path::new("-") => {
            format!("recv {}", args.target.file_name().unwrap_or_default().to_string_lossy())
        }
        _ => words.get(1).map_or(String::new(), |word| word.to_string_lossy().into_owned()) + &parent(),
    };
    escape::line(&format!("{pid} {does}")).into_owned()
}

/// Returns the command line of a process; empty if the process is gone.
fn arguments(pid: u32) -> Vec<OsString> {
    let bytes =
        proc_of(pid).and_then(|process| std::fs::read(process.join("cmdline")).ok()).unwrap_or_default();
    let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    words.map(|word| OsStr::from_bytes(word).to_owned()).collect()
}

/// Returns the name of a process's parent.
fn parent_name(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(proc_of(pid)?.join("stat")).ok()?;
    let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
    let name = std::fs::read(proc_of(parent)?.join("comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

fn is_stopped(pid: u32) -> bool {
    let stat = proc_of(pid).and_then(|process| std::fs::read_to_string(process.join("stat")).ok());
    let stat = stat.unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}
