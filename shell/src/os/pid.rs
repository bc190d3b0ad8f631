//! Process ids and the pid namespaces that they belong to.
//!
//! A pid in a file counts in the pid namespace of its writer. In this process's namespace, the same number may belong to another
//! process. So a caller uses such a pid only after one of the checks below.

use rustix::fs::{AtFlags, CWD, StatxFlags};
use std::path::PathBuf;

/// Returns the number of this process's pid namespace, which the process writes beside its pid. Returns `None` if `/proc` does not
/// show it.
pub fn pid_namespace() -> Option<u64> {
    namespace_at("/proc/self/ns/pid")
}

/// Returns the number of this thread's mount namespace. Returns `None` if `/proc` does not show it.
pub(crate) fn mount_namespace() -> Option<u64> {
    namespace_at("/proc/thread-self/ns/mnt")
}

/// Returns whether a pid that was written beside `namespace` names the same process in this namespace. `None` counts as another
/// namespace.
pub fn is_own_pid_namespace(namespace: Option<u64>) -> bool {
    namespace.is_some() && namespace == pid_namespace()
}

/// Returns whether the process `pid`, which this process sees, has the same pid namespace. If so, the pids that it reports are
/// valid here. If `/proc` shows nothing about this process, every visible process counts as one of the same namespace.
pub fn shares_pid_namespace(pid: u32) -> bool {
    match pid_namespace() {
        None => pid != 0,
        own => pid != 0 && namespace_at(&format!("/proc/{pid}/ns/pid")) == own,
    }
}

/// Returns the directory of a process in `/proc`. Returns `None` if `/proc` belongs to another pid namespace, because its numbers
/// then name other processes.
pub fn proc_of(pid: u32) -> Option<PathBuf> {
    let own = std::fs::read_link("/proc/self").ok()?;
    let is_own_proc = own.to_str().and_then(|own| own.parse().ok()) == Some(std::process::id());
    is_own_proc.then(|| PathBuf::from(format!("/proc/{pid}")))
}

/// Describes a process for a message: by its pid or, if `pid` is 0, as a process of another pid namespace.
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
    fn pids_are_valid_only_in_their_own_namespace() {
        let own = pid_namespace();
        assert!(own.is_some() && is_own_pid_namespace(own));
        assert!(!is_own_pid_namespace(None) && !is_own_pid_namespace(own.map(|own| own + 1)));
        assert!(shares_pid_namespace(std::process::id()) && !shares_pid_namespace(0));
        assert_eq!(proc_of(7), Some("/proc/7".into()));
    }
}
