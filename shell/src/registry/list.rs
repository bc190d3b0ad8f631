//! What exists, who holds it, who is behind; and removing it.

use super::listener::{identity, probe, remove};
use super::wait_file::{dismiss, is_live, remove_if_stale, visible_pid};
use crate::os::file::OpenError;
use crate::os::pid::{pid_in_words, shares_pid_namespace};
use crate::os::socket::Peer;
use crate::os::thread::start_scoped_thread;
use crate::registry::protocol::{ControlMessage, Token};
use crate::registry::status::{Kind, PeerState, Phase, Report};
use crate::registry::{Client, ConnectError, FileId, Locked, Name, Probe, RequestError, RuntimeDir, Waiter};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::thread::Builder;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long an owner may take to say how it is.
const ANSWER: Duration = Duration::from_secs(2);
/// How long an owner may take to end.
const ENDING: Duration = Duration::from_secs(5);
/// How many owners are asked at once.
const AT_ONCE: usize = 32;

/// How something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// At work.
    Live,
    /// Its owner waits for receivers, or receivers wait for an owner.
    Waiting,
    /// Its process is dead.
    Stale,
}

/// Something with a name.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The name.
    pub name: Name,
    /// What it is, where somebody knows.
    pub kind: Option<Kind>,
    /// How it is.
    pub state: State,
    /// The owner's process, if it is visible here; of a stale wait file, the process that waited.
    pub owner: Option<u32>,
    /// What its owner says. Pids in it are 0 if the owner counts them in another pid namespace.
    pub report: Option<Report>,
    /// Processes that wait for an owner; 0 for one of another pid namespace.
    pub waiting: Vec<u32>,
    /// Why there is no report of a live owner.
    pub silent: Option<String>,
}

/// Why nothing was removed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RemoveError {
    /// There is nothing of that name.
    #[error("no such channel")]
    Nothing,
    /// It is the name of a mailbox server.
    #[error("that is a mailbox server; 'shell dipcrm {0}' stops it")]
    Mailboxes(u16),
    /// It is in use.
    #[error("in use by {0} process{end}; --force ends it anyway", end = if *.0 == 1 { "" } else { "es" })]
    InUse(usize),
    /// Its owner does not answer.
    #[error("its owner ({}) does not answer; --force takes the name away from it", pid_in_words(*.0))]
    Silent(u32),
    /// Its owner was asked, and goes on.
    #[error("its owner ({}) was asked to end and is still running", pid_in_words(*.0))]
    StillRunning(u32),
    /// Another owner has the name by now.
    #[error("its owner ({}) did not answer, and another process took the name meanwhile", pid_in_words(*.0))]
    Passed(u32),
    /// Somebody changes what has the name, without the directory's lock.
    #[error("another process changed the files of that name; try again")]
    Changed,
    /// There is a file like that of a process that waits, which is none of ours.
    #[error("{} exists and is not a regular file owned by you; remove it and try again", crate::os::escape::shown(.0.as_ref()))]
    NotOwned(String),
    /// It is not ours.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A system call failed.
    #[error("{}", crate::os::error::reason(*.0))]
    System(Errno),
}

/// What was removed. A pid is 0 if the process is not visible here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removed {
    /// The socket of a dead owner.
    Stale,
    /// The wait file of a dead process.
    StaleWait(u32),
    /// A live owner ended, as asked.
    Ended(u32),
    /// The name was taken away from an owner that does not answer.
    Taken(u32),
    /// A process that waited was told to end.
    Waiter(u32),
}

/// Everything there is, by name.
///
/// # Blocking
/// Owners are asked, each for at most two seconds, many at once.
///
/// # Errors
/// The directory cannot be read.
pub fn list(directory: &RuntimeDir) -> Result<Vec<Listed>, Errno> {
    let (mut sockets, mut waiting, mut listed) = (Vec::new(), BTreeMap::new(), Vec::new());
    for file in directory.names()? {
        if let Some(name) = socket_of(&file) {
            sockets.push(name);
        } else if let Some(waiter) = Waiter::parse(&file) {
            let pid = visible_pid(directory, &file, &waiter);
            match is_live(directory, &file) {
                Ok(true) => waiting.entry(waiter.name).or_insert_with(Vec::new).push(pid),
                Ok(false) if judged_stale(directory, &file) => {
                    let owner = Some(pid).filter(|&pid| pid != 0);
                    listed.push(Listed { owner, ..Listed::new(waiter.name, State::Stale) })
                }
                _ => {} // gone meanwhile, or just made
            }
        }
    }
    for some in sockets.chunks(AT_ONCE) {
        let asked: Vec<_> = std::thread::scope(|scope| {
            let start = |name| start_scoped_thread(Builder::new(), scope, move || ask(directory, name));
            let asking: Vec<_> = some.iter().map(start).collect();
            // Where no more threads are to be had, this one asks.
            let answers = asking.into_iter().zip(some).map(|(thread, name)| {
                thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| ask(directory, name))
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
    pub(crate) fn new(name: Name, state: State) -> Self {
        Self { name, kind: None, state, owner: None, report: None, waiting: Vec::new(), silent: None }
    }
}

/// The channel whose socket a file is; mailbox servers look after theirs themselves.
fn socket_of(file: &str) -> Option<Name> {
    let name: Name = file.strip_suffix(".sock")?.parse().ok()?;
    name.mailbox_port().is_none().then_some(name)
}

/// A wait file is locked a moment after it was made: only under the directory's lock is an unlocked one surely stale.
fn judged_stale(directory: &RuntimeDir, file: &str) -> bool {
    directory.lock().is_ok_and(|_locked| is_live(directory, file) == Ok(false))
}

fn ask(directory: &RuntimeDir, name: &Name) -> Option<Listed> {
    let live = |owner: Option<Peer>, silent| Listed {
        owner: owner.map(|owner| owner.pid).filter(|&pid| pid != 0),
        silent,
        ..Listed::new(name.clone(), State::Live)
    };
    let client = match Client::connect(directory, name) {
        Ok(client) => client,
        Err(ConnectError::NotFound) => return None,
        Err(ConnectError::Dead) => {
            // Or just about to listen: under the lock that is told apart.
            let Ok(locked) = directory.lock() else {
                // Who has it was stopped in the middle, perhaps of beginning. What cannot be told counts as alive.
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
            let state = if report.stage == Phase::Waiting { State::Waiting } else { State::Live };
            Some(Listed { kind: Some(report.kind), state, report: Some(report), ..live(owner, None) })
        }
        Err(RequestError::Closed) => None, // it ended just now
        Err(error) => Some(live(owner, Some(error.to_string()))),
    }
}

fn report(client: &Client) -> Result<Report, RequestError> {
    let answer = client.ask(ControlMessage::Status, Token::default(), Some(Instant::now() + ANSWER))?;
    let report = Report::decode(&answer.rest).filter(|_| answer.record.saying == ControlMessage::Report);
    let mut report = report.ok_or(crate::registry::protocol::ProtocolError::Malformed)?;
    if !shares_pid_namespace(client.owner().pid) {
        // The owner tells how it sees its participants: here these numbers are other processes.
        report.participants.iter_mut().for_each(|participant| participant.pid = 0);
    }
    Ok(report)
}

/// Removes everything of a name: asks a live owner to end, tells who waits to end, removes what the dead left.
///
/// # Blocking
/// A live owner has five seconds to end.
///
/// # Errors
/// Why something of that name is still there. Without `force` whatever is in use is left alone.
pub fn remove_name(directory: &RuntimeDir, name: &Name, force: bool) -> Result<Vec<Removed>, RemoveError> {
    if let Some(port) = name.mailbox_port() {
        return Err(RemoveError::Mailboxes(port));
    }
    let mut removed = Vec::new();
    let locked = directory.lock().map_err(RemoveError::System)?;
    match probe(&locked, name) {
        Probe::Nothing => drop(locked),
        Probe::Stale(file) => {
            removed.push(remove_stale(&locked, name, file)?);
            drop(locked);
        }
        Probe::NotOwned => return Err(ConnectError::NotOwned.into()),
        Probe::Unknown(error) => return Err(RemoveError::System(error)),
        Probe::Alive(_) | Probe::Backlog => {
            drop(locked); // the owner needs it to end
            removed.push(end(directory, name, force)?);
        }
    }
    for (file, waiter) in waiters(directory)? {
        if waiter.name == *name {
            let locked = directory.lock().map_err(RemoveError::System)?;
            removed.extend(remove_waiter(&locked, &file, &waiter)?);
        }
    }
    if removed.is_empty() { Err(RemoveError::Nothing) } else { Ok(removed) }
}

/// Whoever waits is in nobody's way: its file goes, and it ends.
fn remove_waiter(locked: &Locked<'_>, file: &str, waiter: &Waiter) -> Result<Option<Removed>, RemoveError> {
    let pid = visible_pid(locked.directory(), file, waiter);
    Ok(match met(file, remove_if_stale(locked, file))? {
        None => None,
        Some(true) => Some(Removed::StaleWait(pid)),
        Some(false) => {
            let told = met(file, dismiss(locked, file))?;
            told.filter(|told| *told).map(|_| Removed::Waiter(pid))
        }
    })
}

/// What was met under the name of a wait file; `None`: nothing is there any more.
fn met(file: &str, looked: Result<bool, OpenError>) -> Result<Option<bool>, RemoveError> {
    match looked {
        Ok(answer) => Ok(Some(answer)),
        Err(OpenError::System(Errno::NOENT)) => Ok(None),
        Err(OpenError::System(error)) => Err(RemoveError::System(error)),
        Err(OpenError::NotOwned) => Err(RemoveError::NotOwned(file.to_owned())),
    }
}

fn remove_stale(locked: &Locked<'_>, name: &Name, file: FileId) -> Result<Removed, RemoveError> {
    match remove(locked, name, file) {
        Ok(true) => Ok(Removed::Stale),
        Ok(false) => Err(RemoveError::Changed),
        Err(error) => Err(RemoveError::System(error)),
    }
}

fn waiters(directory: &RuntimeDir) -> Result<Vec<(String, Waiter)>, RemoveError> {
    let names = directory.names().map_err(RemoveError::System)?;
    Ok(names.into_iter().filter_map(|file| Waiter::parse(&file).map(|waiter| (file, waiter))).collect())
}

fn end(directory: &RuntimeDir, name: &Name, force: bool) -> Result<Removed, RemoveError> {
    let file = identity(directory, name);
    let client = match Client::connect(directory, name) {
        Err(ConnectError::NotFound) => return Err(RemoveError::Nothing), // it ended just now
        other => other?,
    };
    let pid = client.owner().pid;
    let take_away = || {
        // Read once it wakes up: then it ends, and does not put its name back.
        let _ = client.say(ControlMessage::Stop, Token::default());
        take_away(directory, name, file, pid)
    };
    let attached = match report(&client) {
        Ok(report) => report.participants.iter().filter(|peer| peer.standing != PeerState::Done).count(),
        Err(RequestError::Closed) => return Ok(Removed::Ended(pid)),
        Err(_) if force => return take_away(),
        Err(_) => return Err(RemoveError::Silent(pid)),
    };
    if attached > 0 && !force {
        return Err(RemoveError::InUse(attached));
    }
    let deadline = Some(Instant::now() + ENDING);
    match client.ask(ControlMessage::Stop, Token::default(), deadline) {
        Ok(_) => {}
        Err(RequestError::Closed) => return Ok(Removed::Ended(pid)),
        Err(_) if force => return take_away(),
        Err(_) => return Err(RemoveError::Silent(pid)),
    }
    // It hangs up when it has ended, and by then its name is gone.
    loop {
        match crate::registry::readable(rustix::fd::AsFd::as_fd(&client), deadline) {
            Ok(()) if !client.listen() => return Ok(Removed::Ended(pid)),
            Ok(()) => {}
            Err(_) if force => return take_away(),
            Err(_) => return Err(RemoveError::StillRunning(pid)),
        }
    }
}

/// The owner finds that the name is no longer its own when it ends, and leaves it alone. So do we if it is another's by now.
fn take_away(
    directory: &RuntimeDir,
    name: &Name,
    file: Result<FileId, Errno>,
    pid: u32,
) -> Result<Removed, RemoveError> {
    let locked = directory.lock().map_err(RemoveError::System)?;
    let was = file.map_err(RemoveError::System)?;
    match identity(directory, name) {
        Err(Errno::NOENT) => return Err(RemoveError::Nothing),
        Err(error) => return Err(RemoveError::System(error)),
        Ok(_) => {}
    }
    match remove(&locked, name, was).map_err(RemoveError::System)? {
        true => Ok(Removed::Taken(pid)),
        false => Err(RemoveError::Passed(pid)),
    }
}

/// What was removed, and what could not be.
pub type Cleared = (Vec<(Name, Removed)>, Vec<(Name, RemoveError)>);

/// Removes what the dead left; returns what, and what could not be removed.
///
/// # Errors
/// The directory cannot be read or locked.
pub fn remove_dead(directory: &RuntimeDir) -> Result<Cleared, RemoveError> {
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    for file in directory.names().map_err(RemoveError::System)? {
        let socket = socket_of(&file);
        let waiter = Waiter::parse(&file);
        // Judged and removed under one lock, taken anew for each, so that nobody waits long.
        let (name, result) = match (socket, waiter) {
            (Some(name), _) => {
                let locked = directory.lock().map_err(RemoveError::System)?;
                let gone = match probe(&locked, &name) {
                    Probe::Stale(file) => Some(remove_stale(&locked, &name, file)),
                    Probe::Unknown(error) => Some(Err(RemoveError::System(error))),
                    _ => None,
                };
                (name, gone)
            }
            (None, Some(waiter)) => {
                let locked = directory.lock().map_err(RemoveError::System)?;
                let pid = visible_pid(directory, &file, &waiter);
                let gone = match met(&file, remove_if_stale(&locked, &file)) {
                    Ok(Some(true)) => Some(Ok(Removed::StaleWait(pid))),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                };
                (waiter.name, gone)
            }
            (None, None) => continue,
        };
        match result {
            Some(Ok(what)) => removed.push((name, what)),
            Some(Err(error)) => failed.push((name, error)),
            None => {}
        }
    }
    Ok((removed, failed))
}
