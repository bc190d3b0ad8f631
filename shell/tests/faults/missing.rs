//! A command without one of its system calls, as on an old kernel or under a container's filter: from the program's start on
//! every call of one number is answered with an error. By a seccomp filter, which the command's own processes inherit.

use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
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
    let filter = filter(number, error as u32);
    // SAFETY: between fork and execve only two system calls are made, on memory that was filled before.
    unsafe { command.pre_exec(move || install(&filter)) };
}

/// The filter: load the number of the call; if it is this one, the error; else it may pass.
fn filter(number: u32, error: u32) -> [libc::sock_filter; 4] {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

fn install(filter: &[libc::sock_filter]) -> Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: plain numbers.
    let allowed = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program points to the filter, which lives through the call; the kernel copies it.
    let set = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER as libc::c_ulong, &raw const program)
    };
    if allowed == 0 && set == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Whether no filter can be installed here.
pub fn no_filters() -> bool {
    let mut command = Command::new("true");
    without(&mut command, u32::MAX, libc::ENOSYS);
    !command.status().is_ok_and(|status| status.success())
}
