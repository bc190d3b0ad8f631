//! Stopping a server, and clearing away what a dead one left.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::time::{Duration, Instant};
use thiserror::Error;

use crate::registry::Client;
use crate::registry::protocol::{ControlMessage, Token};

use super::server_registry::{RegistryError, ServerEntry, ServerRegistry, name_of};

/// How long a server has to go.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often to look whether it has.
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

/// Why nothing was done.
#[derive(Debug, Error)]
pub enum RemoveError {
    /// There is no server of this user on that port, nor anything left of one.
    #[error("no mailbox server owned by you on port {0}")]
    Nothing(u16),
    /// It did not go.
    #[error("the server on port {port} (process {pid}) is still there after 5 s; --force kills it")]
    Stays {
        /// The port.
        port: u16,
        /// Its process id.
        pid: u32,
    },
    /// It did not go, and cannot be signalled from here.
    #[error(
        "the server on port {0} is still there after 5 s, and cannot be signalled: its process is not visible in this pid \
         namespace; run 'shell dipcrm --force {0}' in the container where the server runs, or where that was started"
    )]
    OutOfSight(u16),
    /// Its files cannot be looked at.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Stops the server of `port`, waits until it is gone, and removes what is left.
///
/// # Blocking
/// At most 5 s, and as long again with `force`.
///
/// # Errors
/// There is none, or it stays.
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
    registry.remove_stale(&entry); // a server that was killed could not do so
    Ok(if killed { Removed::Killed } else { Removed::Server })
}

/// Signals the server's process, while the server still holds its file's lock: the number cannot be another's then. False:
/// it cannot be signalled.
fn signal(pid: u32, entry: &ServerEntry, signal: Signal) -> bool {
    let pid = pid.try_into().ok().and_then(Pid::from_raw);
    let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return false };
    if !entry.is_live() {
        return true; // it is gone already
    }
    let mut ends = [PollFd::new(&process, PollFlags::IN)];
    if poll(&mut ends, Some(&crate::os::timeout::NOW)).is_ok_and(|ended| ended > 0) {
        return false; // that process has ended, and the lock is held: the file names another
    }
    pidfd_send_signal(&process, signal).is_ok()
}

/// Waits for the lock to fall. False: it did not.
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
