//! The entry point and two system calls, without a library.

use core::arch::{asm, naked_asm};

#[cfg(target_arch = "x86_64")]
mod numbers {
    pub const WRITE: usize = 1;
    pub const EXIT: usize = 231; // exit_group
}

#[cfg(target_arch = "aarch64")]
mod numbers {
    pub const WRITE: usize = 64;
    pub const EXIT: usize = 94; // exit_group
}

#[cfg(target_arch = "arm")]
mod numbers {
    pub const WRITE: usize = 4;
    pub const EXIT: usize = 248; // exit_group
}

#[cfg(target_arch = "x86")]
mod numbers {
    pub const WRITE: usize = 4;
    pub const EXIT: usize = 252; // exit_group
}

/// The entry point of the program. It aligns the stack and calls `main`.
///
/// # Safety
/// Only the kernel enters it.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym crate::main)
}

/// The entry point of the program, with an aligned stack. It calls `main`.
///
/// # Safety
/// Only the kernel enters it.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("mov x29, #0", "mov x30, #0", "bl {main}", "brk #1", main = sym crate::main)
}

/// The entry point of the program, with an aligned stack. It calls `main`.
///
/// # Safety
/// Only the kernel enters it.
#[cfg(target_arch = "arm")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("mov r11, #0", "mov lr, #0", "bl {main}", "udf #0", main = sym crate::main)
}

/// The entry point of the program. It aligns the stack and calls `main`.
///
/// # Safety
/// Only the kernel enters it.
#[cfg(target_arch = "x86")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "and esp, -16", "call {main}", "ud2", main = sym crate::main)
}

/// # Safety
/// - The call does with its arguments what Linux documents, and that is sound.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, arguments: [usize; 3]) -> isize {
    let result;
    // SAFETY: the system call convention; the kernel clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// # Safety
/// - The call does with its arguments what Linux documents, and that is sound.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, arguments: [usize; 3]) -> isize {
    let result;
    // SAFETY: the system call convention.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1], in("x2") arguments[2],
            options(nostack),
        );
    }
    result
}

/// # Safety
/// - The call does with its arguments what Linux documents, and that is sound.
#[cfg(target_arch = "arm")]
unsafe fn call(number: usize, arguments: [usize; 3]) -> isize {
    let result;
    // SAFETY: the system call convention. The compiler may use r7 itself, so r7 gets its value back.
    unsafe {
        asm!(
            "mov {kept}, r7", "mov r7, {number}", "svc #0", "mov r7, {kept}",
            kept = out(reg) _,
            number = in(reg) number,
            inlateout("r0") arguments[0] => result,
            in("r1") arguments[1], in("r2") arguments[2],
            options(nostack),
        );
    }
    result
}

/// # Safety
/// - The call does with its arguments what Linux documents, and that is sound.
#[cfg(target_arch = "x86")]
unsafe fn call(number: usize, arguments: [usize; 3]) -> isize {
    let result;
    // SAFETY: the system call convention. The compiler may use ebx itself, so ebx gets its value back.
    unsafe {
        asm!(
            "xchg ebx, {first}", "int 0x80", "xchg ebx, {first}",
            first = inout(reg) arguments[0] => _,
            inlateout("eax") number => result,
            in("ecx") arguments[1], in("edx") arguments[2],
            options(nostack),
        );
    }
    result
}

/// Writes a line to standard output. Returns whether all of it was written.
pub fn print(line: &str) -> bool {
    // SAFETY: write(2) reads `line.len()` bytes from `line`.
    let written = unsafe { call(numbers::WRITE, [1, line.as_ptr() as usize, line.len()]) };
    written == line.len() as isize
}

/// Ends the program.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: exit_group(2) touches no memory and does not return.
        unsafe { call(numbers::EXIT, [code as usize, 0, 0]) };
    }
}

/// Compiled code asks this about the processor before it picks an instruction for an atomic operation. The answer:
/// nothing is known.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
extern "C" fn getauxval(_: usize) -> usize {
    0
}

/// Tables for unwinding refer to this symbol. Nothing here unwinds.
#[cfg(target_arch = "arm")]
#[unsafe(no_mangle)]
extern "C" fn __aeabi_unwind_cpp_pr0() {}
