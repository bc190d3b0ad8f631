//! Keeps the stacks of the models' threads from one execution to the next.
//!
//! Loom runs each thread of each execution on a stack of its own. It maps the stack before the thread begins, and unmaps
//! it after the thread has ended. The kernel then spends more time on a model than loom does. Two models of one
//! process also wait for each other, because a process changes its mappings one at a time.
//!
//! This program therefore defines `mmap` and `munmap` itself, and the linker prefers these to the C library's. A stack
//! that is unmapped stays mapped, and the next thread gets it again. All other calls go to the kernel.

use std::ffi::{c_int, c_long, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A stack that [`mmap`] returned: never unmapped, and used by at most one thread at a time.
struct Stack {
    address: usize,
    len: usize,
    free: bool,
}

static STACKS: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

fn stacks() -> MutexGuard<'static, Vec<Stack>> {
    STACKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how many stacks this process has mapped so far.
pub fn mapped() -> usize {
    stacks().len()
}

/// Maps memory as mmap(2) does. A stack may be one that was used before.
///
/// # Safety
/// As for mmap(2). The caller of a stack expects no particular contents.
// SAFETY: the signature and the contract are those of the C library's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    address: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: c_long,
) -> *mut c_void {
    let is_stack = flags & libc::MAP_STACK != 0 && address.is_null();
    if is_stack && let Some(stack) = stacks().iter_mut().find(|stack| stack.free && stack.len == len) {
        stack.free = false;
        return stack.address as *mut c_void;
    }
    // SAFETY: the caller's own call, whose contract is that of this function.
    let mapped = unsafe { libc::syscall(libc::SYS_mmap, address, len, protection, flags, file, offset) };
    if is_stack && mapped != -1 {
        stacks().push(Stack { address: mapped as usize, len, free: false });
    }
    mapped as *mut c_void
}

/// Unmaps memory as munmap(2) does. A stack of [`mmap`] stays mapped, and is free from now on.
///
/// # Safety
/// As for munmap(2).
// SAFETY: the signature and the contract are those of the C library's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn munmap(address: *mut c_void, len: usize) -> c_int {
    let address_of_stack = address as usize;
    if let Some(stack) =
        stacks().iter_mut().find(|stack| stack.address == address_of_stack && stack.len == len)
    {
        stack.free = true;
        return 0;
    }
    // SAFETY: the caller's own call, whose contract is that of this function.
    unsafe { libc::syscall(libc::SYS_munmap, address, len) as c_int }
}
