//! Forked parties, and the deadline that ends all of them. The process that measures never has a second thread.

use crate::control::{Control, phase};
use crate::timing::Timing;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

/// The processes of one run. Dropping it kills the processes that still run.
pub struct Group {
    children: Vec<Child>,
    /// The system had no process left for one of them.
    incomplete: bool,
}

struct Child {
    pid: libc::pid_t,
    alive: bool,
    /// The CPU time that it and its waited-for children have used, once it has ended.
    cpu: Duration,
}

/// Why a run has no figure.
#[derive(Clone, Debug, PartialEq)]
pub enum RunError {
    /// The run was not done by the deadline.
    Hung,
    /// The caller stopped the measurement ([`stop_when`]).
    Interrupted,
    Failed(String),
}

static STOP_WHEN: OnceLock<fn() -> bool> = OnceLock::new();

/// Ends each run as soon as `stopped` returns true. Without this call only a signal's default action ends a run.
pub fn stop_when(stopped: fn() -> bool) {
    let _ = STOP_WHEN.set(stopped);
}

/// Returns whether the caller wants the measurement to end.
pub fn is_stopped() -> bool {
    STOP_WHEN.get().is_some_and(|stopped| stopped())
}

/// Sleeps for `time`, or until the caller wants the measurement to end.
pub fn nap(time: Duration) -> Result<(), RunError> {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if is_stopped() {
            return Err(RunError::Interrupted);
        }
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

impl Group {
    pub fn new() -> Self {
        // The parent process may have set SIGCHLD to be ignored. Then the kernel reaps the parties, and their exit
        // statuses are lost.
        // SAFETY: the default action runs no code of this process.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        Group { children: Vec::new(), incomplete: false }
    }

    /// Forks a process that does `work` and ends. It dies with the bench. It leads its own process group, so that its
    /// children are killed with it. If the system has no process left, the run fails with that reason.
    pub fn spawn(&mut self, control: &'static Control, work: impl FnOnce() -> Result<(), String>) {
        // Without this, both processes would write what the buffers hold.
        std::io::stdout().flush().ok();
        let bench = std::process::id() as libc::pid_t;
        // SAFETY: no other thread exists in this process.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            let why = std::io::Error::last_os_error();
            control.failure.report(&format!("no process after {} of them: {why}", self.children.len()));
            self.incomplete = true;
            return;
        }
        if pid > 0 {
            self.children.push(Child { pid, alive: true, cpu: Duration::ZERO });
            return;
        }
        // SAFETY: plain system calls on this process.
        unsafe { libc::setpgid(0, 0) };
        // SAFETY: as above.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        // SAFETY: as above. The bench may have died before that call.
        if unsafe { libc::getppid() } != bench {
            // SAFETY: ends this process.
            unsafe { libc::_exit(1) };
        }
        std::panic::set_hook(Box::new(|_| ()));
        let result = std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
            Err(text.unwrap_or_else(|| "panicked".into()))
        });
        if let Err(text) = &result {
            control.failure.report(text);
        }
        // SAFETY: ends this process without the parent's exit handlers.
        unsafe { libc::_exit(i32::from(result.is_err())) }
    }

    pub fn pid(&self, index: usize) -> libc::pid_t {
        self.children[index].pid
    }

    /// Returns the CPU time, user and system, of a process that has ended and of its waited-for children.
    pub fn cpu(&self, index: usize) -> Duration {
        self.children[index].cpu
    }

    /// Kills one of the processes, and reaps it.
    pub fn kill(&mut self, index: usize) {
        let child = &mut self.children[index];
        if child.alive {
            // SAFETY: the pid is that of a child that was not reaped yet, so no other process has it.
            unsafe { libc::kill(child.pid, libc::SIGKILL) };
            // SAFETY: its children are in its process group, if it lived long enough to make one.
            unsafe { libc::kill(-child.pid, libc::SIGKILL) };
            let mut status = 0;
            // SAFETY: `status` is writable.
            unsafe { libc::waitpid(child.pid, &mut status, 0) };
            child.alive = false;
        }
    }

    /// Waits until `parties` parties are ready, lets them warm up, measure and stop, and waits for their ends.
    pub fn measure(
        &mut self,
        control: &Control,
        parties: u32,
        timing: &Timing,
        deadline: Instant,
    ) -> Result<(), RunError> {
        self.wait_until(control, deadline, || control.ready.0.load(Acquire) == parties)?;
        control.advance(phase::WARM);
        nap(timing.warm_up)?;
        control.advance(phase::MEASURE);
        nap(timing.measure)?;
        control.advance(phase::STOP);
        self.finish(control, deadline)
    }

    /// Waits until `done` returns true, and looks about once per millisecond. Gives up at the deadline, or when a
    /// process has failed.
    pub fn wait_until(
        &mut self,
        control: &Control,
        deadline: Instant,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), RunError> {
        while !done() {
            self.reap(control)?;
            if Instant::now() > deadline {
                return Err(RunError::Hung);
            }
            self.pause();
        }
        Ok(())
    }

    /// Waits until all processes have ended without an error.
    pub fn finish(&mut self, control: &Control, deadline: Instant) -> Result<(), RunError> {
        loop {
            self.reap(control)?;
            if self.children.iter().all(|child| !child.alive) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(RunError::Hung);
            }
            self.pause();
        }
    }

    /// Sleeps between two looks. A look takes one call per child, so looks at many children must be rare.
    fn pause(&self) {
        std::thread::sleep(Duration::from_micros(1000.max(10 * self.children.len() as u64)));
    }

    fn reap(&mut self, control: &Control) -> Result<(), RunError> {
        if is_stopped() {
            return Err(RunError::Interrupted);
        }
        if self.incomplete {
            return Err(RunError::Failed(control.failure.text().unwrap_or_default()));
        }
        for child in self.children.iter_mut().filter(|child| child.alive) {
            let mut status = 0;
            // SAFETY: plain numbers; all zero is valid.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: `status` and `usage` are writable.
            let pid = unsafe { libc::wait4(child.pid, &mut status, libc::WNOHANG, &mut usage) };
            if pid == child.pid {
                child.alive = false;
                child.cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
                if status != 0 {
                    let text =
                        control.failure.text().unwrap_or_else(|| format!("ended with status {status:#x}"));
                    return Err(RunError::Failed(text));
                }
            } else if pid == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
                child.alive = false;
                return Err(RunError::Failed("ended, and something else has reaped it".into()));
            }
        }
        Ok(())
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|index| self.kill(index));
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
}

/// Returns the cores that this process may use.
pub fn cores() -> Vec<usize> {
    // SAFETY: a set of bits; all zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is writable and of the size given.
    unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    let limit = libc::CPU_SETSIZE as usize;
    // SAFETY: the index is below the set's size.
    (0..limit).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Binds the calling thread to one core.
pub fn pin(core: usize) {
    // SAFETY: a set of bits; all zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the core came from `cores`.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is of the size given.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
}
