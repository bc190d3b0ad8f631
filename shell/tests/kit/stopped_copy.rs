//! Copies that are stopped in the middle.

use super::{LIMIT, Running, SOON, Sandbox, children, is_alive, is_stopped, signal, start, until, written};
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

/// A copy with one receiver stopped in the middle, for which the sender waits.
pub struct StoppedCopy {
    pub copy: Running,
    pub receivers: Vec<i32>,
    /// The stopped receiver.
    pub stopped: i32,
}

/// Starts a copy of a regular file with these arguments and `peers` peers, and stops a receiver that has written a part
/// of it. Returns when the command has printed that it waits for a receiver.
#[track_caller]
pub fn copy_with_stopped_receiver(
    sandbox: &Sandbox,
    arguments: &[&str],
    peers: usize,
    directory: &Path,
    length: u64,
) -> StoppedCopy {
    for _attempt in 0..20 {
        let mut copy = start(&mut sandbox.shell(arguments));
        let mut receivers = Vec::new();
        until(LIMIT, "the receivers are there", || {
            receivers = children(copy.pid());
            receivers.len() == peers || !copy.is_running()
        });
        if receivers.len() == peers && stop_midway(&mut copy, receivers[0], directory, length) {
            let stopped = receivers[0];
            return StoppedCopy { copy, receivers, stopped };
        }
        for pid in receivers {
            signal(pid, Signal::CONT);
        }
        copy.end(LIMIT); // it was too fast: try again
        let _ = fs::remove_dir_all(directory);
    }
    panic!("no copy could be caught in its middle");
}

fn stop_midway(copy: &mut Running, receiver: i32, directory: &Path, length: u64) -> bool {
    while copy.is_running() && is_alive(receiver) && written(receiver, directory).unwrap_or(0) == 0 {}
    if !signal(receiver, Signal::STOP) {
        return false;
    }
    let asleep = Instant::now();
    while !is_stopped(receiver) {
        if !is_alive(receiver) || asleep.elapsed() > SOON {
            return false;
        }
    }
    // The rest must be larger than a full ring or socket, or the sender would not wait.
    if written(receiver, directory).is_none_or(|size| size == 0 || size + (4 << 20) > length) {
        return false;
    }
    until(LIMIT, "the copy waits for a receiver", || copy.stderr().contains("waiting for peer"));
    true
}

/// A stream copy that waits for standard input after every receiver has written `sent` bytes.
#[track_caller]
pub fn copy_waiting_for_input(
    sandbox: &Sandbox,
    arguments: &[&str],
    peers: usize,
    sent: &[u8],
) -> (Running, Vec<i32>) {
    let mut copy = start(sandbox.shell(arguments).stdin(Stdio::piped()));
    copy.stdin().write_all(sent).expect("it reads");
    let receivers = copy.receivers(peers);
    copy.have(&receivers, &sandbox.at("received-files"), sent.len() as u64);
    (copy, receivers)
}
