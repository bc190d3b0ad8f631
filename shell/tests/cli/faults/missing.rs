//! A command without one of its system calls, as on an old kernel or under a container's filter: from the program's start on
//! every call of one number is answered with an error. By a seccomp filter, which the command's own processes inherit.

use crate::kit::seccomp::refuse;
use std::process::Command;

/// How a call is answered: by a kernel that does not know it, and by a filter that forbids it.
pub const ANSWERS: [(&str, i32); 2] = [("ENOSYS", libc::ENOSYS), ("EPERM", libc::EPERM)];

/// What no command can do without, and no filter forbids.
pub const NEEDED: [&str; 17] = [
    // Without them a process cannot begin or end.
    "execve",
    "exit",
    "exit_group",
    "rt_sigreturn",
    "restart_syscall",
    "arch_prctl",
    // Who a process is cannot fail, and callers rely on it.
    "getpid",
    "gettid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "umask",
    // The C library aborts where its locks fail, and the standard library panics where its sleep does.
    "futex",
    "clock_nanosleep",
    // Nothing could be told.
    "write",
];

/// Lets a command be started under a filter that answers every call of this number with this error.
pub fn without(command: &mut Command, number: u32, error: i32) {
    refuse(command, &[number as libc::c_long], error);
}

/// Whether no filter can be installed here.
pub fn no_filters() -> bool {
    let mut command = Command::new("true");
    without(&mut command, u32::MAX, libc::ENOSYS);
    !command.status().is_ok_and(|status| status.success())
}
