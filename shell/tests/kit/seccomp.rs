//! Commands for which the kernel refuses some calls, as an old kernel or a container's filter does.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// `BPF_LD | BPF_W | BPF_ABS`: loads a word of the call's data.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const IF_EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// Makes every call with one of these numbers fail with `error`, in `command` and in the processes that it starts.
pub fn refuse(command: &mut Command, calls: &[libc::c_long], error: i32) {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The call's data begin with its number.
    let mut program = vec![step(LOAD, 0, 0, 0)];
    for &call in calls {
        program.push(step(IF_EQUAL, 0, 1, call as u32));
        program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32));
    }
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    // SAFETY: between fork and exec it makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(move || install(&mut program)) };
}

/// Puts a filter on this thread and on all threads that it starts. It makes system calls only.
pub fn install(program: &mut [libc::sock_filter]) -> std::io::Result<()> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: it takes no pointer.
    let closed = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: `filter` and the program behind it live through the call, which copies them.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if closed == 0 && filtered == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Makes the kernel refuse netlink sockets to this process, as a container's filter does.
///
/// # Errors
/// The kernel allows no filter.
pub fn refuse_netlink() -> std::io::Result<()> {
    refuse_family(libc::AF_NETLINK, libc::EPERM)
}

/// Makes the kernel refuse sockets of a family to this process.
///
/// # Errors
/// The kernel allows no filter.
pub fn refuse_family(family: i32, error: i32) -> std::io::Result<()> {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The number of the call, then the low half of its first argument.
    let first_argument = if cfg!(target_endian = "little") { 16 } else { 20 };
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(IF_EQUAL, 0, 3, libc::SYS_socket as u32),
        step(LOAD, 0, 0, first_argument),
        step(IF_EQUAL, 0, 1, family as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    install(&mut filter)
}
