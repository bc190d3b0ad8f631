//! Removing a name: ends live owners, and removes the files of dead ones.

use super::client::{Client, ConnectError, RequestError, readable};
use super::list::{report, socket_of};
use super::listener::{Probe, identity, probe, remove};
use super::lock_file::{Leftover, LockFileEntry};
use super::name::Name;
use super::protocol::{ControlMessage, Token};
use super::runtime_dir::{Locked, RuntimeDir};
use super::status::PeerState;
use super::wait_file::{Waiter, cancel};
use crate::os::file::OpenError;
use crate::os::file_id::FileId;
use crate::os::pid::pid_in_words;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long an owner may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// Why nothing was removed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RemoveError {
    /// Nothing has that name.
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
    /// Its owner was asked to end and is still running.
    #[error("its owner ({}) was asked to end and is still running", pid_in_words(*.0))]
    StillRunning(u32),
    /// Another owner has the name by now.
    #[error("its owner ({}) did not answer, and another process took the name meanwhile", pid_in_words(*.0))]
    Passed(u32),
    /// Another program changes the files of the name, without the directory's lock.
    #[error("another process changed the files of that name; try again")]
    Changed,
    /// A wait file of that name is not owned by this user.
    #[error("{} exists and is not a regular file owned by you; remove it and try again", crate::os::escape::shown(.0.as_ref()))]
    NotOwned(String),
    /// The runtime directory cannot be used.
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
    /// A waiting process was asked to end.
    Waiter(u32),
}

/// Removes everything that has a name: asks a live owner and waiting processes to end, and removes the files of dead
/// ones.
///
/// # Blocking
/// At most five seconds for a live owner to end.
///
/// # Errors
/// Something of that name remains. Without `force`, nothing that is in use is removed.
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
    for file in directory.names().map_err(RemoveError::System)? {
        if Waiter::parse(&file).is_some_and(|waiter| waiter.name == *name) {
            removed.extend(remove_waiter(directory, &file, true)?);
        }
    }
    if removed.is_empty() { Err(RemoveError::Nothing) } else { Ok(removed) }
}

/// Removes a wait file whose process is dead. With `cancels`, asks a live process to end.
fn remove_waiter(directory: &RuntimeDir, file: &str, cancels: bool) -> Result<Option<Removed>, RemoveError> {
    let remove = || -> Result<_, OpenError> {
        let entry = LockFileEntry::open(directory, file)?;
        let pid = entry.visible_pid();
        Ok(match entry.remove_stale(directory, file, |_| true)? {
            Leftover::Removed => Some(Removed::StaleWait(pid)),
            Leftover::Live if cancels && cancel(directory, file, &entry)? => Some(Removed::Waiter(pid)),
            Leftover::Live | Leftover::Gone => None,
        })
    };
    match remove() {
        Err(OpenError::System(Errno::NOENT)) => Ok(None),
        Err(OpenError::System(error)) => Err(RemoveError::System(error)),
        Err(OpenError::NotOwned) => Err(RemoveError::NotOwned(file.to_owned())),
        Ok(removed) => Ok(removed),
    }
}

fn remove_stale(locked: &Locked<'_>, name: &Name, file: FileId) -> Result<Removed, RemoveError> {
    match remove(locked, name, file) {
        Ok(true) => Ok(Removed::Stale),
        Ok(false) => Err(RemoveError::Changed),
        Err(error) => Err(RemoveError::System(error)),
    }
}

fn end(directory: &RuntimeDir, name: &Name, force: bool) -> Result<Removed, RemoveError> {
    let file = identity(directory, name);
    let client = match Client::connect(directory, name) {
        Err(ConnectError::NotFound) => return Err(RemoveError::Nothing), // it ended just now
        other => other?,
    };
    let pid = client.owner().pid;
    let take_away = || {
        // The owner reads it once it wakes up. Then it ends, and does not put its name back.
        let _ = client.send(ControlMessage::Stop, Token::default());
        take_away(directory, name, file, pid)
    };
    let attached = match report(&client) {
        Ok(report) => report.receivers.iter().filter(|peer| peer.state != PeerState::Done).count(),
        Err(RequestError::Closed) => return Ok(Removed::Ended(pid)),
        Err(_) if force => return take_away(),
        Err(_) => return Err(RemoveError::Silent(pid)),
    };
    if attached > 0 && !force {
        return Err(RemoveError::InUse(attached));
    }
    let deadline = Some(Instant::now() + ENDING);
    match client.request(ControlMessage::Stop, Token::default(), deadline) {
        Ok(_) => {}
        Err(RequestError::Closed) => return Ok(Removed::Ended(pid)),
        Err(_) if force => return take_away(),
        Err(_) => return Err(RemoveError::Silent(pid)),
    }
    // The owner closes the connection when it has ended. By then its name is gone.
    loop {
        match readable(client.as_fd(), deadline) {
            Ok(()) if !client.drain() => return Ok(Removed::Ended(pid)),
            Ok(()) => {}
            Err(_) if force => return take_away(),
            Err(_) => return Err(RemoveError::StillRunning(pid)),
        }
    }
}

/// Takes the name away. An owner that no longer has the name leaves it alone when it ends. If another owner has the
/// name by now, it keeps it.
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

/// The names that were removed, and those that could not be.
pub(super) type Cleared = (Vec<(Name, Removed)>, Vec<(Name, RemoveError)>);

/// Removes the files of all dead owners. Returns what was removed, and what could not be.
///
/// # Errors
/// The directory cannot be read or locked.
pub fn remove_dead(directory: &RuntimeDir) -> Result<Cleared, RemoveError> {
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    let files = directory.names().map_err(RemoveError::System)?;
    for file in &files {
        let (name, result) = match (socket_of(&files, file), Waiter::parse(file)) {
            (Some(name), _) => {
                // Checked and removed under one lock. The lock is taken again for each name, so that no process waits
                // long.
                let locked = directory.lock().map_err(RemoveError::System)?;
                let gone = match probe(&locked, &name) {
                    Probe::Stale(file) => Some(remove_stale(&locked, &name, file)),
                    Probe::Unknown(error) => Some(Err(RemoveError::System(error))),
                    _ => None,
                };
                (name, gone)
            }
            (None, Some(waiter)) => (waiter.name, remove_waiter(directory, file, false).transpose()),
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
