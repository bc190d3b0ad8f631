//! Lists what exists, which process owns it, and which receivers are behind.

use super::client::{Client, ConnectError, RequestError};
use super::listener::{Probe, probe};
use super::lock_file::LockFileEntry;
use super::name::Name;
use super::protocol::{ControlMessage, ProtocolError, Token};
use super::runtime_dir::RuntimeDir;
use super::status::{Kind, Phase, Report};
use super::wait_file::Waiter;
use crate::os::pid::shares_pid_namespace;
use crate::os::socket::Peer;
use crate::os::thread::start_scoped_thread;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How long an owner may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How many owners are queried at once.
const AT_ONCE: usize = 32;

/// The state of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Its owner is working.
    Live,
    /// Its owner waits for receivers, or receivers wait for an owner.
    Waiting,
    /// Its process is dead.
    Stale,
}

/// What `ls` knows about a name.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The name.
    pub name: Name,
    /// What it is, if that is known.
    pub kind: Option<Kind>,
    /// Its state.
    pub state: State,
    /// The owner's process, if it is visible here; of a stale wait file, the process that waited.
    pub owner: Option<u32>,
    /// Its owner's report. Pids in it are 0 if the owner counts them in another pid namespace.
    pub report: Option<Report>,
    /// The processes that wait for an owner; 0 for a process of another pid namespace.
    pub waiting: Vec<u32>,
    /// Why there is no report of a live owner.
    pub silent: Option<String>,
}

/// Lists everything in the directory, sorted by name.
///
/// # Blocking
/// Until each owner has answered, at most two seconds for each. Many are queried at once.
///
/// # Errors
/// The directory cannot be read.
pub fn list(directory: &RuntimeDir) -> Result<Vec<Listed>, Errno> {
    let (mut sockets, mut waiting, mut listed) = (Vec::new(), BTreeMap::new(), Vec::new());
    let files = directory.names()?;
    for file in &files {
        if let Some(name) = socket_of(&files, file) {
            sockets.push(name);
        } else if let Some(waiter) = Waiter::parse(file) {
            let Ok(entry) = LockFileEntry::open(directory, &**file) else { continue };
            match entry.is_live() {
                true => waiting.entry(waiter.name).or_insert_with(Vec::new).push(entry.visible_pid()),
                false => listed.push(Listed::stale(waiter.name, &entry)),
            }
        } else if let Some(name) = server_of(file) {
            let entry = LockFileEntry::open(directory, &**file);
            listed.extend(entry.map(|entry| server(directory, name, &entry)));
        }
    }
    for some in sockets.chunks(AT_ONCE) {
        let asked: Vec<_> = std::thread::scope(|scope| {
            let start =
                |name| start_scoped_thread(Builder::new(), scope, move || request_status(directory, name));
            let asking: Vec<_> = some.iter().map(start).collect();
            // If no more threads can be started, this thread queries the rest.
            let answers = asking.into_iter().zip(some).map(|(thread, name)| {
                thread
                    .ok()
                    .and_then(|thread| thread.join().ok())
                    .unwrap_or_else(|| request_status(directory, name))
            });
            answers.flatten().collect()
        });
        listed.extend(asked);
    }
    for found in listed.iter_mut().filter(|found| found.state != State::Stale) {
        found.waiting = waiting.remove(&found.name).unwrap_or_default();
    }
    let left = waiting.into_iter();
    listed.extend(left.map(|(name, pids)| Listed { waiting: pids, ..Listed::new(name, State::Waiting) }));
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

impl Listed {
    fn new(name: Name, state: State) -> Self {
        Self { name, kind: None, state, owner: None, report: None, waiting: Vec::new(), silent: None }
    }

    fn stale(name: Name, entry: &LockFileEntry) -> Self {
        let owner = Some(entry.visible_pid()).filter(|&pid| pid != 0);
        Self { owner, ..Self::new(name, State::Stale) }
    }
}

const LOCK_FILE: &str = ".info";

/// Returns the name whose socket a file is, if the socket alone represents the name. For a mailbox server its lock file
/// counts instead, which is missing only if the server failed while it put its files back.
///
/// `files` are the sorted names in the directory.
pub(crate) fn socket_of(files: &[String], file: &str) -> Option<Name> {
    let stem = file.strip_suffix(".sock")?;
    let name: Name = stem.parse().ok()?;
    let has_lock_file =
        name.mailbox_port().is_some() && files.binary_search(&format!("{stem}{LOCK_FILE}")).is_ok();
    (!has_lock_file).then_some(name)
}

/// Returns the mailbox server whose lock file a file is.
pub(crate) fn server_of(file: &str) -> Option<Name> {
    let name: Name = file.strip_suffix(LOCK_FILE)?.parse().ok()?;
    name.mailbox_port().is_some().then_some(name)
}

/// Describes a mailbox server. It is not queried, because its lock file shows whether it lives.
fn server(directory: &RuntimeDir, name: Name, entry: &LockFileEntry) -> Listed {
    let kind = Some(Kind::Mailboxes);
    if !entry.is_live() {
        return Listed { kind, ..Listed::stale(name, entry) };
    }
    let owner = owner_pid(directory, &name, entry);
    Listed { kind, owner: Some(owner).filter(|&pid| pid != 0), ..Listed::new(name, State::Live) }
}

/// Returns the process of a live lock file, as this process sees it; 0 if it does not see it. The kernel reports the
/// process that listens on the socket of the same name. The text of the file counts only if no process listens.
pub(crate) fn owner_pid(directory: &RuntimeDir, name: &Name, entry: &LockFileEntry) -> u32 {
    match Client::connect(directory, name) {
        Ok(client) => client.owner().pid,
        Err(ConnectError::Foreign) => 0,
        Err(_) => entry.visible_pid(),
    }
}

fn request_status(directory: &RuntimeDir, name: &Name) -> Option<Listed> {
    let live = |owner: Option<Peer>, silent| Listed {
        owner: owner.map(|owner| owner.pid).filter(|&pid| pid != 0),
        silent,
        ..Listed::new(name.clone(), State::Live)
    };
    let client = match Client::connect(directory, name) {
        Ok(client) => client,
        Err(ConnectError::NotFound) => return None,
        Err(ConnectError::Dead) => {
            // Or it is about to listen. The lock distinguishes these two cases.
            let Ok(locked) = directory.lock() else {
                // Its owner was stopped, perhaps while it started. An owner that cannot be checked counts as alive.
                return Some(live(None, Some("a stopped process holds the directory's lock".into())));
            };
            return match probe(&locked, name) {
                Probe::Nothing => None,
                Probe::Stale(_) => Some(Listed::new(name.clone(), State::Stale)),
                _ => Some(live(None, Some("it has just begun".into()))),
            };
        }
        Err(error) => return Some(live(None, Some(error.to_string()))),
    };
    let owner = Some(client.owner());
    match report(&client) {
        Ok(report) => {
            let state = if report.phase == Phase::Waiting { State::Waiting } else { State::Live };
            Some(Listed { kind: Some(report.kind), state, report: Some(report), ..live(owner, None) })
        }
        Err(RequestError::Closed) => None, // it ended just now
        Err(error) => Some(live(owner, Some(error.to_string()))),
    }
}

pub(crate) fn report(client: &Client) -> Result<Report, RequestError> {
    let answer = client.request(ControlMessage::Status, Token::default(), Some(Instant::now() + ANSWER))?;
    let report = Report::decode(&answer.rest).filter(|_| answer.record.message == ControlMessage::Report);
    let mut report = report.ok_or(ProtocolError::Malformed)?;
    if !shares_pid_namespace(client.owner().pid) {
        // The owner reports its receivers by pids that name other processes here.
        report.receivers.iter_mut().for_each(|receiver| receiver.pid = 0);
    }
    Ok(report)
}
