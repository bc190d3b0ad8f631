//! A command in which one system call kills or fails, by strace, or is missing, by a filter. Each scene runs first
//! without a fault, to learn which calls the command makes and how often. Then it runs once for each fault.

use super::missing;
use crate::kit::{Ended, Running, SHELL, SOON, Sandbox, until};
use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is wrong, if anything is.
pub type Verdict = Result<(), String>;

/// One command with the fault, among others without, and what it may print if something in it fails.
pub struct Scene {
    pub name: &'static str,
    pub play: fn(&Sandbox, &Fault) -> Verdict,
}

/// What happens to the command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing. Its calls are recorded.
    Nothing,
    /// Each of its processes is killed when it comes to its `nth` call of this name.
    Kill { call: String, nth: u32 },
    /// Its `nth` call of this name fails, in each of its processes.
    Fail { call: String, nth: u32, error: &'static str },
    /// Every call of this name fails, in each of its processes, from their start on.
    Missing { call: String, number: u32, answer: (&'static str, i32) },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "undisturbed"),
            Self::Kill { call, nth } => write!(f, "{call}:signal=KILL:when={nth}"),
            Self::Fail { call, nth, error } => write!(f, "{call}:error={error}:when={nth}"),
            Self::Missing { call, answer: (error, _), .. } => write!(f, "{call}:error={error}"),
        }
    }
}

impl Fault {
    /// `shell` with these words and this fault.
    pub fn shell(&self, sandbox: &Sandbox, words: &str) -> Command {
        if let Self::Missing { number, answer: (_, error), .. } = self {
            let mut command = sandbox.words(words);
            missing::without(&mut command, *number, *error);
            return command;
        }
        let mut command = sandbox.program("strace");
        command.args(["-D", "-f", "-qq"]);
        match self {
            Self::Nothing => command.arg("-n").arg("-o").arg(sandbox.at(CALLS)),
            Self::Kill { call, .. } | Self::Fail { call, .. } | Self::Missing { call, .. } => {
                command.args(["-o", "/dev/null", "--seccomp-bpf", "-e", &format!("trace={call}")]);
                command.args(["-e", &format!("inject={self}")])
            }
        };
        command.arg(SHELL).args(words.split_whitespace());
        command
    }

    pub fn is_kill(&self) -> bool {
        matches!(self, Self::Kill { .. })
    }

    /// The call that fails, if one does.
    pub fn failing(&self) -> Option<&str> {
        match self {
            Self::Fail { call, .. } | Self::Missing { call, .. } => Some(call),
            Self::Nothing | Self::Kill { .. } => None,
        }
    }
}

/// A result that says nothing about the command, so the scene runs again.
const TOO_LATE: &str = "strace came too late";

const CALLS: &str = "calls";

/// For each call: how often the process that makes it most often makes it, and the call's number.
fn calls(sandbox: &Sandbox) -> BTreeMap<String, (u32, u32)> {
    let text = std::fs::read_to_string(sandbox.at(CALLS)).expect("what strace wrote");
    let mut each: BTreeMap<(&str, &str, u32), u32> = BTreeMap::new();
    for line in text.lines() {
        // PID [NUMBER] NAME(...
        let Some((pid, rest)) = line.split_once('[') else { continue };
        let Some((number, rest)) = rest.split_once(']') else { continue };
        let (Ok(number), Some((call, _))) = (number.trim().parse(), rest.trim_start().split_once('(')) else {
            continue;
        };
        if call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            *each.entry((pid, call, number)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, call, number), count) in each {
        let known: &mut (u32, u32) = most.entry(call.to_owned()).or_default();
        *known = (count.max(known.0), number);
    }
    most
}

/// The errors that each call can return. Without `futex`, because a wake cannot fail, and the standard library's locks
/// sleep without end if one does. Without calls that cannot fail at all.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "openat" => &["EMFILE", "EACCES", "ENOENT", "EINTR"],
        "read" | "pread64" => &["EIO", "EINTR", "EAGAIN"],
        "write" | "pwrite64" => &["ENOSPC", "EIO", "EINTR"],
        "readv" | "writev" => &["EIO", "EINTR"],
        "recvmsg" | "recvfrom" => &["ECONNRESET", "EINTR", "EAGAIN", "ENOMEM"],
        "sendmsg" | "sendto" => &["EPIPE", "EINTR", "EAGAIN", "ENOBUFS"],
        "connect" => &["ECONNREFUSED", "EACCES", "EAGAIN", "EINTR"],
        "accept4" => &["EMFILE", "ECONNABORTED", "EINTR", "EAGAIN"],
        "socket" | "socketpair" | "eventfd2" | "epoll_create1" | "pidfd_open" | "pipe2" | "inotify_init1"
        | "timerfd_create" => &["EMFILE", "ENFILE", "ENOMEM"],
        "memfd_create" => &["EMFILE", "ENOMEM", "ENOSYS"],
        "bind" | "listen" => &["EADDRINUSE", "EACCES"],
        "mmap" | "mremap" | "brk" => &["ENOMEM"],
        "mprotect" | "madvise" => &["ENOMEM", "EINVAL"],
        "fallocate" => &["ENOSPC", "EINTR", "EOPNOTSUPP"],
        "ftruncate" => &["EFBIG", "EIO"],
        "fcntl" | "dup" | "dup2" | "dup3" => &["EMFILE", "EINVAL"],
        "clone" | "clone3" | "fork" | "vfork" => &["EAGAIN", "ENOMEM"],
        "poll" | "ppoll" | "epoll_wait" | "epoll_pwait" => &["EINTR", "ENOMEM"],
        "epoll_pwait2" => &["EINTR", "ENOMEM", "ENOSYS", "EPERM"],
        "epoll_ctl" | "inotify_add_watch" => &["ENOSPC", "ENOMEM"],
        "wait4" | "waitid" => &["EINTR", "ECHILD"],
        "linkat" | "link" | "rename" | "renameat" | "renameat2" => &["EIO", "EDQUOT", "EACCES"],
        "unlink" | "unlinkat" => &["EACCES", "EIO"],
        "mkdir" | "mkdirat" => &["EROFS", "EACCES", "ENOSPC"],
        "stat" | "lstat" | "fstat" | "newfstatat" | "statx" => &["EACCES", "EIO", "ENOENT"],
        "access" | "faccessat" | "faccessat2" | "fstatfs" | "statfs" | "getdents64" | "lseek"
        | "readlink" | "readlinkat" => &["EACCES", "EIO"],
        "fchmod" | "chmod" | "fchmodat" | "utimensat" | "flistxattr" => &["EPERM"],
        "fsync" | "fdatasync" | "sendfile" | "copy_file_range" => &["EIO", "EINTR"],
        "getsockopt" | "setsockopt" | "getsockname" | "getpeername" | "shutdown" | "ioctl" => &["EINVAL"],
        // Not `prlimit64`, which cannot fail for a process's own limits.
        "prctl" | "setsid" | "chdir" | "kill" | "pidfd_send_signal" => &["EPERM"],
        "getrandom" => &["EINTR", "ENOSYS"],
        "sched_getaffinity" | "sigaltstack" | "nanosleep" | "clock_nanosleep" => &["EINTR"],
        _ => &[],
    }
}

/// How many faults a sweep tries.
#[derive(Clone, Copy)]
pub struct Reach {
    /// The most calls of each name: the first ones.
    pub nth: u32,
    /// The most kills and the most failures of each scene, evenly spread over all of them.
    pub most: usize,
}

/// The results of a sweep.
#[derive(Default, Debug)]
pub struct Count {
    pub kills: usize,
    pub failures: usize,
    pub possible: usize,
    pub wrong: Vec<String>,
}

/// Runs a scene once for each fault in reach, several at a time.
pub fn sweep(scene: &Scene, reach: Reach) -> Count {
    let sandbox = Sandbox::new();
    if let Err(why) = (scene.play)(&sandbox, &Fault::Nothing) {
        return Count { wrong: vec![format!("{}, undisturbed: {why}", scene.name)], ..Count::default() };
    }
    let (mut kills, mut failures) = (Vec::new(), Vec::new());
    for (call, (times, _)) in calls(&sandbox) {
        for nth in 1..=times.min(reach.nth) {
            if call != "execve" || nth > 1 {
                kills.push(Fault::Kill { call: call.clone(), nth });
            }
            for error in errors(&call) {
                failures.push(Fault::Fail { call: call.clone(), nth, error });
            }
        }
    }
    let possible = kills.len() + failures.len();
    let [kills, failures] = [spread(kills, reach.most), spread(failures, reach.most)];
    let count = Count { kills: kills.len(), failures: failures.len(), possible, wrong: Vec::new() };
    Count { wrong: play_all(scene, &[kills, failures].concat()), ..count }
}

/// Runs a scene once without each of its calls, or without `most` of them. Each is missing in both ways.
pub fn sweep_missing(scene: &Scene, most: usize) -> Count {
    let sandbox = Sandbox::new();
    if let Err(why) = (scene.play)(&sandbox, &Fault::Nothing) {
        return Count { wrong: vec![format!("{}, undisturbed: {why}", scene.name)], ..Count::default() };
    }
    let mut all = Vec::new();
    for (call, (_, number)) in calls(&sandbox) {
        if !missing::NEEDED.contains(&&*call) {
            let missing = |answer| Fault::Missing { call: call.clone(), number, answer };
            all.extend(missing::ANSWERS.map(missing));
        }
    }
    let possible = all.len();
    // The part differs between scenes, so that all of them together try most calls.
    let from = scene.name.bytes().map(usize::from).sum::<usize>() % possible.max(1);
    all.rotate_left(from);
    let faults = spread(all, most);
    Count { failures: faults.len(), possible, wrong: play_all(scene, &faults), ..Count::default() }
}

/// Runs a scene once for each fault, several at a time. Returns what is wrong.
fn play_all(scene: &Scene, faults: &[Fault]) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = play(scene, fault) {
                        wrong
                            .lock()
                            .expect("no panic inside")
                            .push(format!("{}, {fault}: {why}", scene.name));
                    }
                }
            });
        }
    });
    wrong.into_inner().expect("no panic inside")
}

/// Runs a scene with a fault. An error counts only if it happens twice, because the machine may have stood still.
pub fn play(scene: &Scene, fault: &Fault) -> Verdict {
    let once = || {
        let sandbox = Sandbox::new();
        let verdict =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (scene.play)(&sandbox, fault)));
        for pid in of(&sandbox) {
            crate::kit::signal(pid, rustix::process::Signal::KILL);
        }
        verdict.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            Err(said.unwrap_or_else(|| "it panicked".into()))
        })
    };
    once().or_else(|_| once())
}

fn spread(all: Vec<Fault>, most: usize) -> Vec<Fault> {
    let len = all.len().max(1);
    let take = |i: usize| all[i * len / most.min(len)].clone();
    (0..all.len().min(most)).map(take).collect()
}

/// Returns an error unless `so`.
pub fn ensure(so: bool, what: impl FnOnce() -> String) -> Verdict {
    if so { Ok(()) } else { Err(what()) }
}

/// Checks the end of the command with the fault: it was killed, or has an exit code and, unless that is 0, one or two
/// clear lines.
pub fn ends_properly(ended: &Ended, fault: &Fault) -> Verdict {
    let wrong = |what: &str| Err(format!("{what}: {ended:?}"));
    if std::env::var_os("WHORL_FAULTS_SHOW").is_some() {
        eprintln!("    {fault}: {:?} {:?} {}", ended.code(), ended.signal(), ended.stderr.trim_end());
    }
    if never_began(ended, fault) {
        return Ok(());
    }
    if ended.stderr.contains("panicked") {
        return wrong("it panicked");
    }
    match (ended.code(), fault.is_kill()) {
        (None, true) => Ok(()),
        (None, false) if too_late(ended) => Err(TOO_LATE.into()),
        (None, false) => wrong("it was killed"),
        (Some(0), _) => Ok(()),
        // The failed write may be the message's own.
        (Some(_), _) if ended.stderr.is_empty() && fault.failing() == Some("write") => Ok(()),
        (Some(_), _) if ended.stderr.is_empty() && !fault.is_kill() => wrong("it failed without a word"),
        _ if !ended.stderr.lines().all(|line| line.starts_with("shell: ")) => wrong("not its own words"),
        // Without a call two receivers may fail, and the result, too.
        _ if ended.stderr.lines().count() > 2 + usize::from(matches!(fault, Fault::Missing { .. })) => {
            wrong("too many words")
        }
        _ => Ok(()),
    }
}

/// Whether a call failed before `main` or before a thread's own code. Then the loader or the runtime gives up, and the
/// program cannot print anything.
pub fn never_began(ended: &Ended, fault: &Fault) -> bool {
    let memory = fault.failing().is_some_and(|call| ["mmap", "mprotect", "brk"].contains(&call));
    // The standard library looks at its standard streams and ignores SIGPIPE, or aborts.
    let runtime = matches!(fault, Fault::Missing { call, .. } if ["poll", "rt_sigaction"].contains(&&**call))
        && ended.signal() == Some(libc::SIGABRT)
        && (ended.stderr.is_empty() || ended.stderr.starts_with("fatal runtime error"));
    ended.code() == Some(127)
        || runtime
        || ended.stderr.contains("error while loading shared libraries")
        || (memory && ended.stderr.contains("alternative stack"))
        || (memory && ended.signal() == Some(libc::SIGSEGV) && ended.stderr.is_empty())
}

/// Whether the fault makes the kernel give a wrong answer about another process: that it is gone, was never there, or
/// has too much to do. A command that believes that answer is right.
pub fn lies(fault: &Fault) -> bool {
    let said = |call: &str, error: &str| {
        [
            ("connect", "ECONNREFUSED"),
            ("connect", "EAGAIN"),
            ("sendmsg", "EPIPE"),
            ("recvmsg", "ECONNRESET"),
            ("newfstatat", "ENOENT"),
            ("openat", "ENOENT"),
        ]
        .contains(&(call, error))
    };
    matches!(fault, Fault::Fail { call, error, .. } if said(call, error))
}

/// strace waits three seconds before it lets the command run, and a very busy machine needs longer.
pub fn too_late(ended: &Ended) -> bool {
    ended.signal() == Some(libc::SIGALRM)
}

/// The processes that were started in a sandbox and still run: in its directory or, as a server in the background, with
/// its runtime directory.
fn of(sandbox: &Sandbox) -> Vec<i32> {
    let runtime = sandbox.at("run").into_os_string().into_encoded_bytes();
    let mut found = sandbox.processes();
    found.extend(crate::kit::all_pids().into_iter().filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|line| line.strip_prefix(b"XDG_RUNTIME_DIR=") == Some(&runtime[..]))
            && crate::kit::is_alive(*pid)
    }));
    found
}

/// Checks that no process is left after a few seconds, and that `rm --dead` removes the names that are left: at most
/// one for each killed process.
pub fn nothing_left(sandbox: &Sandbox, fault: &Fault, killed: usize) -> Verdict {
    let gone = std::panic::catch_unwind(|| until(SOON, "", || of(sandbox).is_empty()));
    if gone.is_err() {
        let who = of(sandbox).into_iter().map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " "))
        });
        return Err(format!("still running: {}", who.collect::<Vec<_>>().join("; ")));
    }
    // The runtime directory and its lock file stay by design.
    let names = || {
        sandbox
            .left()
            .into_iter()
            // The log of a server that failed stays, too.
            .filter(|name| name != "lock" && name != ".lock" && !name.ends_with(".log"))
            .collect::<Vec<_>>()
    };
    let left = names();
    let most = if fault.is_kill() { killed } else { 1 };
    ensure(left.len() <= most, || format!("too much is left: {left:?}"))?;
    let parts = sandbox.parts();
    ensure(parts.is_empty() || fault.is_kill(), || format!("left: {parts:?}"))?;
    if !left.is_empty() {
        let cleared = crate::kit::run(&mut sandbox.words("rm --dead"));
        ensure(cleared.code() == Some(0) && names().is_empty(), || {
            format!("{left:?} is left, and after `rm --dead` {:?}: {cleared:?}", names())
        })?;
    }
    Ok(())
}

/// Waits for the end of a process. Returns an error if it does not end.
pub fn end(mut live: Running, name: &str) -> Result<Ended, String> {
    for _ in 0..3000 {
        if !live.is_running() {
            return Ok(live.end(SOON));
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(format!("{name} hangs; stderr: {}", live.stderr()))
}
