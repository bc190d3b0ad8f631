//! Checks of the runtime directory, of its files, and of a channel in it.

use super::{Finding, files};
use crate::commands::survey::survey;
use crate::ui::units::{count, elapsed};
use rustix::fs::inotify;
use std::thread::Builder;
use std::time::{Duration, Instant};
use whorl::internal::os::error::reason;
use whorl::internal::os::escape::shown;
use whorl::internal::os::thread::start_thread;
use whorl::internal::registry::RuntimeDir;
use whorl::internal::registry::State;
use whorl::{Name, Received, Receiver, Sender};

pub(super) fn check() -> Vec<Finding> {
    let directory = match RuntimeDir::open() {
        Ok(directory) => directory,
        Err(error) => {
            let finding = error.to_string();
            // The message about an unsafe directory ends with the advice.
            let advice = "set XDG_RUNTIME_DIR to a directory owned by you with mode 0700";
            let (finding, advice) = finding.rsplit_once("; ").unwrap_or((&finding, advice));
            return vec![Finding::fail("runtime directory", finding, advice)];
        }
    };
    let path = shown(directory.path());
    let place = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(_) => Finding::ok("runtime directory", path),
        // A login without a session may use another directory than the desktop, so their programs do not meet.
        None => Finding::warn(
            "runtime directory",
            format!("{path}, because XDG_RUNTIME_DIR is not set"),
            "programs find each other only if it is the same for all of them",
        ),
    };
    vec![
        place,
        files::runtime_directory(&directory),
        files::sockets_and_locks(&directory),
        leftovers(),
        watching(),
        channel(),
    ]
}

fn leftovers() -> Finding {
    let name = "leftovers";
    let listed = match survey() {
        Ok(listed) => listed,
        Err(error) => return Finding::fail(name, error, "see 'shell ls'"),
    };
    let silent = listed.iter().find_map(|channel| Some((&channel.name, channel.silent.as_ref()?)));
    match (listed.iter().filter(|channel| channel.state == State::Stale).count(), silent) {
        (0, None) => Finding::ok(name, "none"),
        (0, Some((channel, why))) => Finding::warn(name, format!("{channel}: {why}"), "see 'shell ls'"),
        (stale, _) => Finding::warn(
            name,
            format!("{} of dead processes", count(stale as u64, "file")),
            "'shell rm --dead' removes them",
        ),
    }
}

fn watching() -> Finding {
    match inotify::init(inotify::CreateFlags::CLOEXEC) {
        Ok(_) => Finding::ok("inotify", "a process that waits for a name is woken at once"),
        Err(error) => Finding::warn(
            "inotify",
            reason(error),
            "a process that waits for a name polls once a second; raise fs.inotify.max_user_instances",
        ),
    }
}

/// Sends a few messages through a new channel to a sleeping receiver.
fn channel() -> Finding {
    match woken() {
        // A sleeper polls every 50 ms, so a lost wake shows as a late one.
        Ok(fastest) if fastest < Duration::from_millis(40) => Finding::ok(
            "shared futex",
            format!("a channel works; a sleeper was woken in {}", elapsed(fastest)),
        ),
        Ok(fastest) => Finding::warn(
            "shared futex",
            format!("a sleeper was woken after {} at best", elapsed(fastest)),
            "wakes are lost, or the machine is overloaded; try again when it is idle",
        ),
        Err(error) => {
            Finding::fail("shared futex", format!("a channel does not work: {error}"), "see the other checks")
        }
    }
}

/// Returns the shortest of a few wake times.
fn woken() -> Result<Duration, String> {
    const ROUNDS: usize = 5;
    let name: Name = format!("doctor-{}", std::process::id()).parse().map_err(|error| format!("{error}"))?;
    let options = Sender::options().ring(4096).seats(2);
    let patience = Duration::from_secs(5);
    let mut sender = options.create(&name).map_err(|error| error.to_string())?;
    let body = move || -> Result<Vec<Instant>, String> {
        let joined = Receiver::options().timeout(patience).join(&name);
        let mut receiver = joined.map_err(|error| error.to_string())?;
        let mut woken = Vec::new();
        while let Received::Bytes(_) =
            receiver.recv_timeout(&mut [0; 64], patience).map_err(|error| error.to_string())?
        {
            woken.push(Instant::now());
        }
        Ok(woken)
    };
    let sleeper = start_thread(Builder::new(), body);
    let sleeper =
        sleeper.map_err(|error| format!("no thread: {}", whorl::internal::os::error::reason_of(&error)))?;
    let sent = sender.wait_for_receivers_timeout(1, patience).and_then(|()| {
        let mut sent = Vec::new();
        for _ in 0..ROUNDS {
            std::thread::sleep(Duration::from_millis(5)); // until the receiver sleeps
            sent.push(Instant::now());
            sender.send_timeout(b"wake", patience)?;
        }
        sender.finish_timeout(patience)?;
        Ok(sent)
    });
    drop(sender);
    let woken = sleeper.join().map_err(|_| "the receiver failed".to_string())??;
    let sent = sent.map_err(|error| error.to_string())?;
    let waits = sent.iter().zip(&woken).map(|(sent, woken)| woken.saturating_duration_since(*sent));
    waits.min().ok_or_else(|| "nothing arrived".into())
}
