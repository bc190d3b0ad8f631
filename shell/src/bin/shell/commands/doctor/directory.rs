//! The runtime directory, what lies in it, and whether a channel in it works.

use super::{Finding, files};
use crate::commands::survey::survey;
use rustix::fs::inotify;
use std::thread::Builder;
use std::time::{Duration, Instant};
use whorl::os::error::reason;
use whorl::os::escape::shown;
use whorl::os::thread::start_thread;
use whorl::registry::RuntimeDir;
use whorl::registry::State;
use whorl::{Name, Received, Receiver, Sender};

pub(super) fn look() -> Vec<Finding> {
    let directory = match RuntimeDir::open() {
        Ok(directory) => directory,
        Err(error) => {
            let finding = error.to_string();
            // What an unsafe one says ends in what to do about it.
            let advice = "set XDG_RUNTIME_DIR to a directory of yours with mode 0700";
            let (finding, advice) = finding.rsplit_once("; ").unwrap_or((&finding, advice));
            return vec![Finding::fail("runtime directory", finding, advice)];
        }
    };
    let path = shown(directory.path());
    let place = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(_) => Finding::ok("runtime directory", path),
        // A login without a session may have another one than the desktop: then they do not find each other.
        None => Finding::warn(
            "runtime directory",
            format!("{path}, for want of XDG_RUNTIME_DIR"),
            "programs find each other only where it is set alike",
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
        Err(error) => return Finding::fail(name, error, "look into the runtime directory"),
    };
    let silent = listed.iter().find_map(|channel| Some((&channel.name, channel.silent.as_ref()?)));
    match (listed.iter().filter(|channel| channel.state == State::Stale).count(), silent) {
        (0, None) => Finding::ok(name, "none"),
        (0, Some((channel, why))) => Finding::warn(name, format!("{channel}: {why}"), "see 'shell ls'"),
        (count, _) => {
            Finding::warn(name, format!("{count} of dead processes"), "'shell rm --dead' removes them")
        }
    }
}

fn watching() -> Finding {
    match inotify::init(inotify::CreateFlags::CLOEXEC) {
        Ok(_) => Finding::ok("inotify", "who waits for a name hears of it at once"),
        Err(error) => Finding::warn(
            "inotify",
            reason(error),
            "who waits looks once a second instead; raise fs.inotify.max_user_instances",
        ),
    }
}

/// Sends a few messages through a channel of our own, to a receiver that sleeps.
fn channel() -> Finding {
    match woken() {
        // A wake that does not arrive is made up for after 50 ms, a slice of a sleep.
        Ok(fastest) if fastest < Duration::from_millis(40) => {
            Finding::ok("shared futex", format!("a channel works; a sleeper was woken in {fastest:.0?}"))
        }
        Ok(fastest) => Finding::warn(
            "shared futex",
            format!("a sleeper was woken after {fastest:.0?} at best"),
            "wakes get lost, or the machine is overloaded; try again when it is idle",
        ),
        Err(error) => {
            Finding::fail("shared futex", format!("a channel does not work: {error}"), "see the other lines")
        }
    }
}

/// The shortest of a few wakes.
fn woken() -> Result<Duration, String> {
    const ROUNDS: usize = 5;
    let name: Name = format!("doctor-{}", std::process::id()).parse().map_err(|error| format!("{error}"))?;
    let options = Sender::options().slot_size(64).slots(2).seats(2);
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
    let sleeper = sleeper.map_err(|error| format!("no thread: {}", whorl::os::error::reason_of(&error)))?;
    let sent = sender.wait_for_receivers_timeout(1, patience).and_then(|()| {
        let mut sent = Vec::new();
        for _ in 0..ROUNDS {
            std::thread::sleep(Duration::from_millis(5)); // so that it sleeps
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
