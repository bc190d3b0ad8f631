//! A victim under ptrace. It marks the beginning and the end of its operation. The tester steps through the operation
//! once to learn its instructions. Then, for each kill, it sends a new victim to one of them by a breakpoint.

use libc::{c_void, pid_t};
use std::arch::asm;
use std::ptr::null_mut;

const PAUSE: u64 = 1;
const BEGIN: u64 = 2;
const END: u64 = 3;

const INT3: u8 = 0xCC;

/// In the victim: lets the tester do its part of the preparations.
pub fn pause() {
    mark(PAUSE);
}

/// In the victim: runs the operation that is stepped through.
pub fn operation<R>(run: impl FnOnce() -> R) -> R {
    mark(BEGIN);
    let result = run();
    mark(END);
    result
}

#[inline(always)]
fn mark(kind: u64) {
    // SAFETY: stops this process, which is traced; changes no register and no memory.
    unsafe { asm!("int3", in("rax") kind) };
}

/// Where a victim has stopped.
#[derive(PartialEq, Eq, Debug)]
pub enum Stop {
    Pause,
    Begin,
    End,
}

/// One instruction of an operation: its address, and how often the victim comes by there up to it.
#[derive(Clone, Copy)]
pub struct Point {
    pub address: u64,
    pub visit: u32,
}

/// A child of this process that is traced by it. Killed when dropped.
pub struct Victim {
    pid: pid_t,
}

impl Victim {
    /// Forks a victim that runs `body`, and stops before it.
    pub fn fork(body: impl FnOnce()) -> Self {
        // SAFETY: this process has one thread (`sweep`), so the child may call anything.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            trace(libc::PTRACE_TRACEME, 0, 0, 0);
            // SAFETY: stops this process until its tracer lets it go on.
            unsafe { libc::raise(libc::SIGSTOP) };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_ok();
            // SAFETY: ends this process without the tester's own exit handlers.
            unsafe { libc::_exit(if done { 0 } else { 101 }) };
        }
        let victim = Self { pid };
        assert_eq!(victim.wait(), Ok(libc::SIGSTOP));
        trace(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_EXITKILL as u64);
        victim
    }

    /// Lets it run to its next mark, without a breakpoint.
    pub fn resume(&self) -> Stop {
        trace(libc::PTRACE_CONT, self.pid, 0, 0);
        let stop = self.wait();
        assert_eq!(stop, Ok(libc::SIGTRAP), "the victim fell: {stop:?}");
        let registers = self.registers();
        match (self.peek(registers.rip - 1) as u8, registers.rax) {
            (INT3, PAUSE) => Stop::Pause,
            (INT3, BEGIN) => Stop::Begin,
            (INT3, END) => Stop::End,
            _ => panic!("a trap that is no mark, at {:#x}", registers.rip),
        }
    }

    /// Steps from the beginning of the operation to its end: the point before the first instruction, and the one after each.
    pub fn instructions(&self) -> Vec<Point> {
        let mut visits = std::collections::HashMap::new();
        let mut points = Vec::new();
        loop {
            let address = self.registers().rip;
            let visit = visits.entry(address).or_insert(0);
            *visit += 1;
            points.push(Point { address, visit: *visit });
            if self.peek(address) as u8 == INT3 {
                return points; // the mark of the end comes next
            }
            trace(libc::PTRACE_SINGLESTEP, self.pid, 0, 0);
            let stop = self.wait();
            assert_eq!(stop, Ok(libc::SIGTRAP), "the victim fell: {stop:?}");
        }
    }

    /// Goes from the beginning of the operation to a point of it. Returns false if the victim came to the end without
    /// passing that point, because its peers made it take another path.
    pub fn reach(&self, point: Point) -> bool {
        let original = self.peek(point.address);
        if original as u8 == INT3 {
            return self.resume() == Stop::End;
        }
        let planted = original & !0xFF | u64::from(INT3);
        for visit in 1..=point.visit {
            self.poke(point.address, planted);
            trace(libc::PTRACE_CONT, self.pid, 0, 0);
            let stop = self.wait();
            assert_eq!(stop, Ok(libc::SIGTRAP), "the victim fell: {stop:?}");
            let mut registers = self.registers();
            if registers.rip != point.address + 1 {
                return false; // the end
            }
            self.poke(point.address, original);
            registers.rip = point.address;
            self.set_registers(&mut registers);
            if visit < point.visit {
                trace(libc::PTRACE_SINGLESTEP, self.pid, 0, 0);
                let stop = self.wait();
                assert_eq!(stop, Ok(libc::SIGTRAP), "the victim fell: {stop:?}");
            }
        }
        true
    }

    /// Kills it at this point, and waits until the kernel has released everything that it held.
    pub fn kill(self) {
        drop(self);
    }

    fn wait(&self) -> Result<i32, i32> {
        let mut status = 0;
        // SAFETY: writes the status of our own child.
        while unsafe { libc::waitpid(self.pid, &raw mut status, 0) } != self.pid {}
        if libc::WIFSTOPPED(status) { Ok(libc::WSTOPSIG(status)) } else { Err(status) }
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: plain integers, for which zero is a value.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        trace(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers as u64);
        registers
    }

    fn set_registers(&self, registers: &mut libc::user_regs_struct) {
        trace(libc::PTRACE_SETREGS, self.pid, 0, registers as *mut _ as u64);
    }

    fn peek(&self, address: u64) -> u64 {
        trace(libc::PTRACE_PEEKTEXT, self.pid, address, 0)
    }

    fn poke(&self, address: u64, word: u64) {
        trace(libc::PTRACE_POKETEXT, self.pid, address, word);
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // SAFETY: our own child, not reaped yet.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        while self.wait().is_ok() {}
    }
}

fn trace(request: libc::c_uint, pid: pid_t, address: u64, data: u64) -> u64 {
    // SAFETY: it only returns the address of this thread's `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: that address is this thread's own.
    unsafe { *errno = 0 };
    let (address, data) = (address as *mut c_void, data as *mut c_void);
    // SAFETY: each request here writes at most what `data` points to, which has the size that the request expects.
    let word = unsafe { libc::ptrace(request, pid, address, data) };
    let error = std::io::Error::last_os_error();
    assert!(word != -1 || error.raw_os_error() == Some(0), "ptrace request {request}: {error}");
    word as u64
}

/// Returns why ptrace cannot be used here; `None` if it can.
pub fn cannot_trace() -> Option<String> {
    // SAFETY: the child only tries ptrace and ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: as below.
        let refused =
            unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, null_mut::<c_void>(), null_mut::<c_void>()) };
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(refused == -1)) };
    }
    let mut status = 0;
    // SAFETY: our own child.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    (pid < 0 || status != 0).then(|| "ptrace is refused here".into())
}
