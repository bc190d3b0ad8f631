//! Time: nanoseconds for intervals, the processor's own counter for round trips, and the CPU time of processes.

use std::time::Duration;

/// Returns nanoseconds of the monotonic clock, which all processes share.
pub fn nanoseconds() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// Returns a counter that is cheaper to read than the clock. A round trip through a shared word takes only ten times as
/// long as reading the clock. The harness finds the counter's unit by comparing both at the two ends of a run.
#[cfg(target_arch = "x86_64")]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has this instruction, and Linux leaves it open to user space.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Returns the clock itself, on processors without a known counter.
#[cfg(not(target_arch = "x86_64"))]
pub fn ticks() -> u64 {
    nanoseconds()
}

/// Returns the CPU time that a whole process has used so far, or `None` if it no longer exists.
pub fn cpu_time_of(pid: libc::pid_t) -> Option<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is writable for the call.
    let error = unsafe { libc::clock_getcpuclockid(pid, &mut clock) };
    (error == 0).then(|| Duration::from_nanos(read_clock(clock)))
}

/// Returns the CPU time, in nanoseconds, that this process has used so far.
pub fn own_cpu_time() -> u64 {
    read_clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable for the call.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
