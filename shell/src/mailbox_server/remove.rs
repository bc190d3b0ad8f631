//! Stopping a server, and removing a dead server's files.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::time::{Duration, Instant};
use thiserror::Error;

use crate::registry::Client;
use crate::registry::protocol::{ControlMessage, Token};

use super::server_registry::{RegistryError, ServerEntry, ServerRegistry, name_of};

/// How long a server may take to end.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often to check whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removed {
    /// A server was stopped.
    Server,
    /// A server was killed.
    Killed,
    /// A dead server's files were removed.
    Leftovers,
}

/// Why no server was stopped or removed.
#[derive(Debug, Error)]
pub enum RemoveError {
    /// This user has no server on that port, and no dead server left files there.
    #[error("no mailbox server owned by you on port {0}")]
    Nothing(u16),
    /// It did not end.
    #[error("the server on port {port} (process {pid}) is still there after 5 s; --force kills it")]
    Stays {
        /// The port.
        port: u16,
        /// Its process id.
        pid: u32,
    },
    /// It did not end, and this process cannot signal it.
    #[error(
        "the server on port {0} is still there after 5 s, and cannot be signalled: its process is not visible in this pid \
         namespace; run 'shell dipcrm --force {0}' in the container where the server runs, or where that was started"
    )]
    OutOfSight(u16),
    /// Its files cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Stops the server of `port`, waits until it has ended, and removes what is left.
///
/// # Blocking
/// At most 5 s, and with `force` at most 10 s.
///
/// # Errors
/// There is no such server, or it is still running.
pub fn remove(port: u16, force: bool) -> Result<Removed, RemoveError> {
    let registry = ServerRegistry::open()?;
    let Some(entry) = registry.lookup(port)? else { return Err(RemoveError::Nothing(port)) };
    if registry.remove_stale(&entry) {
        return Ok(Removed::Leftovers);
    }
    let deadline = Some(Instant::now() + TIMEOUT);
    let client = Client::connect(registry.directory(), &name_of(port)).ok();
    let asked =
        client.and_then(|client| client.request(ControlMessage::Stop, Token::default(), deadline).ok());
    if asked.is_none() {
        signal(registry.pid_of(&entry), &entry, Signal::TERM);
    }
    let mut killed = false;
    if !wait(&entry) {
        let pid = registry.pid_of(&entry);
        if force && signal(pid, &entry, Signal::KILL) {
            killed = wait(&entry);
        }
        if !killed {
            return Err(match pid {
                0 => RemoveError::OutOfSight(port),
                pid => RemoveError::Stays { port, pid },
            });
        }
    }
    registry.remove_stale(&entry); // a killed server could not do it
    Ok(if killed { Removed::Killed } else { Removed::Server })
}

/// Signals the server's process while the server holds its file's lock, because then the process id cannot be another
/// process's. Returns `false` if it cannot be signalled.
fn signal(pid: u32, entry: &ServerEntry, signal: Signal) -> bool {
    let pid = pid.try_into().ok().and_then(Pid::from_raw);
    let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return false };
    if !entry.is_live() {
        return true; // it has ended already
    }
    let mut ends = [PollFd::new(&process, PollFlags::IN)];
    if poll(&mut ends, Some(&crate::os::timeout::NOW)).is_ok_and(|ended| ended > 0) {
        return false; // that process has ended, but the lock is held, so the file names another process
    }
    pidfd_send_signal(&process, signal).is_ok()
}

/// Waits until the lock is free. Returns `false` if it stays locked.
fn wait(entry: &ServerEntry) -> bool {
    let until = Instant::now() + TIMEOUT;
    while entry.is_live() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    true
}
