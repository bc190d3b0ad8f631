//! One timed run. The work runs in its own process, which waits for all processes that it has caused.

use super::{Copier, Job};
use crate::clock;
use crate::control::{Control, task};
use crate::process::Group;
use crate::streams::Run;
use std::io::Write;
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

/// The times of a run, in seconds.
pub struct Taken {
    pub wall: f64,
    /// User and system time of all processes of the run.
    pub cpu: f64,
}

pub fn run(control: &'static Control, copier: &Copier, job: &Job, deadline: Duration) -> Run<Taken> {
    let work = copier.work.as_ref().map_err(Clone::clone)?;
    control.reset(task::NONE);
    let mut group = Group::new();
    group.spawn(control, || {
        // Orphaned processes of the run become this process's children, and count.
        // SAFETY: a plain call on this process.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        let record = &control.sender.0;
        record.start_ns.store(clock::nanoseconds(), Relaxed);
        let result = work(job).and_then(|()| wait_for_all());
        record.end_ns.store(clock::nanoseconds(), Release);
        result
    });
    let result = group.finish(control, Instant::now() + deadline);
    Ok(result.map(|()| {
        let record = &control.sender.0;
        let ns = record.end_ns.load(Acquire) - record.start_ns.load(Relaxed);
        Taken { wall: ns as f64 / 1e9, cpu: group.cpu(0).as_secs_f64() }
    }))
}

/// Waits for all children that are left.
pub fn wait_for_all() -> Result<(), String> {
    let mut failures = 0;
    loop {
        let mut status = 0;
        // SAFETY: `status` is writable.
        if unsafe { libc::waitpid(-1, &mut status, 0) } < 0 {
            break;
        }
        failures += usize::from(status != 0);
    }
    if failures == 0 { Ok(()) } else { Err(format!("{failures} processes failed")) }
}

/// Forks a child of the timed process. `wait_for_all` reports how it ended.
pub fn fork(work: impl FnOnce() -> Result<(), String>) {
    // SAFETY: no other thread exists in this process.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: plain calls on this process: it does not outlive its parent, and ends without its exit handlers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let result = work();
        if let Err(text) = &result {
            // Not `eprintln`, which panics if standard error cannot be written.
            let _ = writeln!(std::io::stderr(), "{}", text.escape_debug());
        }
        // SAFETY: as above.
        unsafe { libc::_exit(i32::from(result.is_err())) }
    }
}
