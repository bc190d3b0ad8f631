//! A program that opens something and forks at the same time, and a check of what its child has.
//!
//! The program is this test binary in the role of the [`victim`]. One thread opens and closes things, and ptrace may
//! stop it after any of its system calls. Another thread forks on request.

use crate::kit::{SOON, until};
use libc::pid_t;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The signal of a stop at a system call.
const CALL: i32 = libc::SIGTRAP | 0x80;

/// The open descriptors that show that a process lives: sockets, and files with locks.
pub fn lives(pid: pid_t) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten() {
        let to = std::fs::read_link(entry.path()).map_or(String::new(), |to| to.display().to_string());
        let number = entry.file_name().into_string().expect("a number");
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        if to.starts_with("socket:") || info.contains("lock:") {
            found.push(format!("{number} -> {to}"));
        }
    }
    found
}

/// The program whose child is checked, as its tester sees it.
pub struct Victim {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    said: String,
    opener: pid_t,
    forker: pid_t,
}

impl Victim {
    /// Starts it in the role that `test` of this binary has, with its opener stopped before its first action. Only the
    /// thread that called this may use the result.
    pub fn start(test: &str, variables: &[(&str, &OsStr)]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).envs(variables.iter().copied());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this binary");
        let (input, output) = (process.stdin.take().expect("a pipe"), process.stdout.take().expect("a pipe"));
        let mut victim = Self { process, input, output, said: String::new(), opener: 0, forker: 0 };
        victim.forker = victim.wait_for("forker");
        victim.opener = victim.wait_for("opener");
        assert_eq!(victim.wait(), Some(libc::SIGSTOP), "it stops itself");
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        victim.ptrace(libc::PTRACE_SETOPTIONS, options as usize);
        victim
    }

    pub fn pid(&self) -> pid_t {
        self.process.id() as pid_t
    }

    /// The number that it printed after this word, if it has printed that.
    pub fn printed(&mut self, word: &str) -> Option<pid_t> {
        while rustix::io::ioctl_fionread(&self.output).is_ok_and(|bytes| bytes > 0) {
            self.listen();
        }
        // The harness begins its lines without ending them.
        let whole = self.said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let number = |line: &str| line.rsplit_once(&format!("{word} ")).map(|(_, number)| number.to_owned());
        whole.lines().find_map(number).map(|number| number.parse().expect("a number"))
    }

    /// Waits until it has printed this word.
    pub fn wait_for(&mut self, word: &str) -> pid_t {
        loop {
            if let Some(number) = self.printed(word) {
                return number;
            }
            self.listen();
        }
    }

    fn listen(&mut self) {
        let mut bytes = [0; 512];
        let count = self.output.read(&mut bytes).expect("what the victim says");
        assert_ne!(count, 0, "the victim has ended; its output: {:?}", self.said);
        self.said.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }

    /// Lets the opener continue to the end of its next system call.
    pub fn next_call(&mut self) {
        // Into the call, and out of it.
        for _ in 0..2 {
            let mut signal = 0;
            loop {
                self.ptrace(libc::PTRACE_SYSCALL, signal as usize);
                match self.wait().expect("the opener lives") {
                    CALL => break,
                    other => signal = other,
                }
            }
        }
    }

    /// Makes it fork while the opener is stopped. Returns when the other thread has forked, or waits for the opener.
    pub fn fork(&mut self) {
        self.input.write_all(b"f").expect("it listens");
        let waits = format!("{} ", libc::SYS_futex);
        let call = format!("/proc/{}/task/{}/syscall", self.pid(), self.forker);
        until(SOON * 4, "it forks", || {
            self.printed("forked").is_some()
                || std::fs::read_to_string(&call).is_ok_and(|call| call.starts_with(&waits))
        });
    }

    /// Lets the opener continue without further stops.
    pub fn run_on(&mut self) {
        self.ptrace(libc::PTRACE_DETACH, 0);
    }

    /// The signal that stopped the opener; `None` if it has ended.
    fn wait(&self) -> Option<i32> {
        let mut status = 0;
        // SAFETY: `status` is writable.
        let stopped = unsafe { libc::waitpid(self.opener, &raw mut status, libc::__WALL) };
        assert_eq!(stopped, self.opener, "{}", std::io::Error::last_os_error());
        libc::WIFSTOPPED(status).then(|| libc::WSTOPSIG(status))
    }

    fn ptrace(&self, request: libc::c_uint, data: usize) {
        // SAFETY: the opener is stopped, and nothing of this process's memory is touched.
        let result = unsafe { libc::ptrace(request, self.opener, 0, data) };
        assert_ne!(result, -1, "ptrace {request}: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        // A traced thread ends when its tracer has seen its end.
        // SAFETY: no status is asked for.
        while unsafe { libc::waitpid(self.opener, std::ptr::null_mut(), libc::__WALL) } == self.opener {}
        let _ = self.process.wait();
    }
}

/// A child of the victim's; killed when dropped.
pub struct Grandchild(pub pid_t);

impl Drop for Grandchild {
    fn drop(&mut self) {
        // SAFETY: it lives until it is killed here, so the number is its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
    }
}

fn say(word: &str, number: pid_t) {
    let line = format!("{word} {number}\n");
    // Not `println`, whose lock a stopped thread may hold.
    // SAFETY: the line lives through the call.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
}

/// The victim's side. `body` gets a function that prints how far it is. Ends when its tester does.
pub fn victim(body: impl FnOnce(&dyn Fn(&str, i32))) {
    std::thread::scope(|scope| {
        scope.spawn(fork_on_request);
        // SAFETY: from now on this process's parent traces this thread.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        // SAFETY: a plain system call.
        say("opener", unsafe { libc::gettid() });
        // SAFETY: a plain system call: lets the parent begin.
        unsafe { libc::raise(libc::SIGSTOP) };
        body(&say);
    });
}

fn fork_on_request() {
    // SAFETY: a plain system call.
    say("forker", unsafe { libc::gettid() });
    let mut byte = [0];
    while std::io::stdin().read_exact(&mut byte).is_ok() {
        // SAFETY: the child only sleeps.
        match unsafe { libc::fork() } {
            // It outlives its parent, until the tester kills it.
            0 => loop {
                // SAFETY: no memory is involved.
                unsafe { libc::pause() };
            },
            child => say("forked", child),
        }
    }
}
