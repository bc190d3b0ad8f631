//! Process ids and where they mean something. A pid that another process wrote down counts in the pid namespace of its
//! writer. Here it may be another process's, so it is used only after one of these looks.

use rustix::fs::{AtFlags, CWD, StatxFlags};
use std::path::PathBuf;

/// The number of this process's pid namespace, which it writes beside its pid. Nothing where `/proc` does not tell.
pub fn pid_namespace() -> Option<u64> {
    namespace_at("/proc/self/ns/pid")
}

/// The number of this thread's mount namespace. Nothing where `/proc` does not tell.
pub(crate) fn mount_namespace() -> Option<u64> {
    namespace_at("/proc/thread-self/ns/mnt")
}

/// Whether a pid written beside this namespace number means the same process here. An unknown namespace is another one.
pub fn is_own_pid_namespace(written: Option<u64>) -> bool {
    written.is_some() && written == pid_namespace()
}

/// Whether the process `pid`, which is visible here, counts pids as this process does: what it tells about other processes
/// can be used then. Where `/proc` tells nothing about this process, it is believed.
pub fn shares_pid_namespace(pid: u32) -> bool {
    match pid_namespace() {
        None => pid != 0,
        own => pid != 0 && namespace_at(&format!("/proc/{pid}/ns/pid")) == own,
    }
}

/// The directory of a process in `/proc`. Nothing if the `/proc` mounted here is another pid namespace's: its numbers are
/// other processes then.
pub fn proc_of(pid: u32) -> Option<PathBuf> {
    let own = std::fs::read_link("/proc/self").ok()?;
    let is_ours = own.to_str().and_then(|own| own.parse().ok()) == Some(std::process::id());
    is_ours.then(|| PathBuf::from(format!("/proc/{pid}")))
}

/// A process in words: its pid, or, for 0, that it has none here.
pub fn pid_in_words(pid: u32) -> String {
    match pid {
        0 => "a process of another pid namespace".into(),
        pid => format!("pid {pid}"),
    }
}

fn namespace_at(path: &str) -> Option<u64> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::INO).ok()?;
    Some(stat.stx_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_mean_something_in_their_own_namespace_alone() {
        let own = pid_namespace();
        assert!(own.is_some() && is_own_pid_namespace(own));
        assert!(!is_own_pid_namespace(None) && !is_own_pid_namespace(own.map(|own| own + 1)));
        assert!(shares_pid_namespace(std::process::id()) && !shares_pid_namespace(0));
        assert_eq!(proc_of(7), Some("/proc/7".into()));
    }
}
