//! What exists, and the words for it: for the commands that show it.

use whorl::os::escape;
use whorl::os::pid::proc_of;
use whorl::registry::RuntimeDir;
use whorl::registry::status::{Kind, Participant, PeerState};
use whorl::registry::{Listed, State, list};

/// Everything with a name, by name.
pub fn survey() -> Result<Vec<Listed>, String> {
    let directory = RuntimeDir::open().map_err(|error| error.to_string())?;
    let failed = |error| {
        format!("{}: {}", whorl::os::escape::shown(directory.path()), whorl::os::error::reason(error))
    };
    list(&directory).map_err(failed)
}

/// The word for a kind.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Ring => "ring",
        Kind::Mailboxes => "mailboxes",
        Kind::Server => "server",
    }
}

/// The word for a state.
pub fn state(state: State) -> &'static str {
    match state {
        State::Live => "live",
        State::Waiting => "waiting",
        State::Stale => "stale",
    }
}

/// The word for how a participant is doing.
pub fn standing(peer: &Participant) -> &'static str {
    match peer.standing {
        _ if peer.pid != 0 && is_stopped(peer.pid) => "stopped",
        PeerState::Joining => "joining",
        PeerState::Live => "live",
        PeerState::Evicted => "evicted",
        PeerState::Done => "done",
    }
}

/// The beginning of what a process was started as.
pub fn command(pid: u32) -> Option<String> {
    const LONGEST: usize = 80;
    let bytes = std::fs::read(proc_of(pid)?.join("cmdline")).ok()?;
    let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    let text = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ");
    let shown: String = text.chars().take(LONGEST).collect();
    (!shown.is_empty()).then_some(shown)
}

/// A process in few places and fit for a terminal: its pid, and its command without the program's directory.
pub fn in_short(pid: Option<u32>, command: &Option<String>) -> String {
    let command = command.as_deref().unwrap_or_default();
    let (program, rest) = command.split_once(' ').unwrap_or((command, ""));
    let program = program.rsplit('/').next().unwrap_or(program);
    let pid = pid.map_or("in another namespace".into(), |pid| pid.to_string());
    escape::line(format!("{pid} {program} {rest}").trim_end()).into_owned()
}

fn is_stopped(pid: u32) -> bool {
    let stat = proc_of(pid).and_then(|process| std::fs::read_to_string(process.join("stat")).ok());
    let stat = stat.unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}
