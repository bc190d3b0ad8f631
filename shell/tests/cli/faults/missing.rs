//! A command without one of its system calls, as on an old kernel or under a container's filter. From the program's
//! start on, every call with one number fails. A seccomp filter does this, and the command's own processes inherit it.

use crate::kit::seccomp::refuse;
use std::process::Command;

/// The two errors: from a kernel that does not know the call, and from a filter that forbids it.
pub const ANSWERS: [(&str, i32); 2] = [("ENOSYS", libc::ENOSYS), ("EPERM", libc::EPERM)];

/// Calls that every command needs, and no filter forbids.
pub const NEEDED: [&str; 17] = [
    // Without these a process cannot begin or end.
    "execve",
    "exit",
    "exit_group",
    "rt_sigreturn",
    "restart_syscall",
    "arch_prctl",
    // These calls cannot fail, and callers rely on that.
    "getpid",
    "gettid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "umask",
    // The C library aborts if its locks fail, and the standard library panics if its sleep does.
    "futex",
    "clock_nanosleep",
    // Without this call no error could be printed.
    "write",
];

/// Starts a command under a filter by which every call with this number fails with this error.
pub fn without(command: &mut Command, number: u32, error: i32) {
    refuse(command, &[number as libc::c_long], error);
}

/// Whether no filter can be installed here.
pub fn no_filters() -> bool {
    let mut command = Command::new("true");
    without(&mut command, u32::MAX, libc::ENOSYS);
    !command.status().is_ok_and(|status| status.success())
}
