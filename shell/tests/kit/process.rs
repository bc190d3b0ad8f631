//! What `/proc` reports about a process, and signals to it.

use super::{LIMIT, until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs;
use std::path::{Path, PathBuf};

pub fn all_pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The fields of /proc/PID/stat after the name: state, parent, ...
pub fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split_whitespace().map(String::from).collect())
}

/// A field of /proc/PID/status.
pub fn proc_status(pid: i32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// The processor time that a process has used, in ticks of 10 ms.
pub fn cpu_ticks(pid: i32) -> u64 {
    let fields = stat(pid).expect("it runs");
    fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
}

/// Whether a process runs or sleeps. A dead process that is not reaped yet does neither.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

pub fn is_stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] == "T")
}

/// Waits until every thread of a process sleeps.
#[track_caller]
pub fn until_asleep(pid: i32) {
    until(LIMIT, "every thread sleeps", || thread_states(pid).iter().all(|state| state == "S"));
}

/// The state of each thread of a process.
pub fn thread_states(pid: i32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| stat(thread.file_name().to_str()?.parse().ok()?))
        .map(|mut fields| fields.swap_remove(0))
        .collect()
}

pub fn children(parent: i32) -> Vec<i32> {
    if let Ok(list) = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")) {
        return list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    }
    let parent = parent.to_string();
    all_pids().into_iter().filter(|&pid| stat(pid).is_some_and(|fields| fields[1] == parent)).collect()
}

/// How many bytes a file has that a process writes below `directory`, named or not.
pub fn written(pid: i32, directory: &Path) -> Option<u64> {
    open_file(pid, directory).and_then(|fd| fs::metadata(fd).ok()).map(|file| file.len())
}

/// The /proc path of the file that a process writes below `directory`.
pub fn open_file(pid: i32, directory: &Path) -> Option<PathBuf> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let below = |fd: &PathBuf| fs::read_link(fd).is_ok_and(|at| at.starts_with(directory));
    let is_file = |fd: &PathBuf| fs::metadata(fd).is_ok_and(|file| file.is_file());
    descriptors.map(|entry| entry.path()).find(|fd| below(fd) && is_file(fd))
}

/// Sends a signal to one process. Returns false if there is none.
pub fn signal(pid: i32, signal: Signal) -> bool {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).is_ok()
}

/// Sends a signal to a process group, as a terminal does.
pub fn signal_group(pid: i32, signal: Signal) {
    kill_process_group(Pid::from_raw(pid).expect("a pid"), signal).expect("an own process group");
}

/// Stops a process, and waits until each of its threads has stopped: the signal alone returns before that.
#[track_caller]
pub fn stop(pid: i32) {
    signal(pid, Signal::STOP);
    until(LIMIT, "every thread has stopped", || {
        thread_states(pid).iter().all(|state| state == "T" || state == "t")
    });
}
