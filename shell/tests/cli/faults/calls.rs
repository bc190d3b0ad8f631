//! A command in which one system call kills or fails, by strace, or is missing altogether, by a filter. First each scene is
//! played without a fault, to learn which calls the command makes and how often; then once for each of them.

use super::missing;
use crate::kit::{Ended, Running, SHELL, SOON, Sandbox, until};
use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is wrong, if anything is.
pub type Verdict = Result<(), String>;

/// One command among others that are left alone, and what it may say when something in it fails.
pub struct Scene {
    pub name: &'static str,
    pub play: fn(&Sandbox, &Fault) -> Verdict,
}

/// What happens to the command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing; its calls are written down.
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

/// A verdict that says nothing of the command: the scene is played again.
const TOO_LATE: &str = "strace came too late";

const CALLS: &str = "calls";

/// How often the process that makes it most often makes each call, and the call's number.
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

/// What each call can plausibly fail with. Not `futex`: a wake cannot fail, and the standard library's locks sleep for ever
/// when one does; nor what cannot fail at all.
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
        // Not `prlimit64`, which cannot fail for who asks for its own limits.
        "prctl" | "setsid" | "chdir" | "kill" | "pidfd_send_signal" => &["EPERM"],
        "getrandom" => &["EINTR", "ENOSYS"],
        "sched_getaffinity" | "sigaltstack" | "nanosleep" | "clock_nanosleep" => &["EINTR"],
        _ => &[],
    }
}

/// How far a sweep goes.
#[derive(Clone, Copy)]
pub struct Reach {
    /// Of each call, so many at most: the first ones.
    pub nth: u32,
    /// Of each scene, so many kills and so many failures at most: evenly spread over all of them.
    pub most: usize,
}

/// What a sweep came to.
#[derive(Default, Debug)]
pub struct Count {
    pub kills: usize,
    pub failures: usize,
    pub possible: usize,
    pub wrong: Vec<String>,
}

/// Plays a scene once for each fault within reach, several at a time.
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

/// Plays a scene once without each of its calls, or without so many of them: each missing in either way.
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
    // A small part is another one of each scene, so that all of them together try most calls.
    let from = scene.name.bytes().map(usize::from).sum::<usize>() % possible.max(1);
    all.rotate_left(from);
    let faults = spread(all, most);
    Count { failures: faults.len(), possible, wrong: play_all(scene, &faults), ..Count::default() }
}

/// Plays a scene once for each fault, several at a time; returns what is wrong.
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

/// Plays a scene with a fault. What is wrong must be wrong again: the machine may have stood still meanwhile.
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

/// Unless `so`, this is wrong.
pub fn ensure(so: bool, what: impl FnOnce() -> String) -> Verdict {
    if so { Ok(()) } else { Err(what()) }
}

/// How the command with the fault in it may end: killed, or with a code and, unless that is 0, one clear line or two.
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
        // What fails may be the message of it.
        (Some(_), _) if ended.stderr.is_empty() && fault.failing() == Some("write") => Ok(()),
        (Some(_), _) if ended.stderr.is_empty() && !fault.is_kill() => wrong("it failed without a word"),
        _ if !ended.stderr.lines().all(|line| line.starts_with("shell: ")) => wrong("not its own words"),
        // Without a call two receivers may fail, and the result too.
        _ if ended.stderr.lines().count() > 2 + usize::from(matches!(fault, Fault::Missing { .. })) => {
            wrong("too many words")
        }
        _ => Ok(()),
    }
}

/// Whether a call failed that comes before `main` or before a thread's own code: the loader or the runtime gives up, and there
/// is nothing that we could say.
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

/// Whether the kernel is made to say of somebody else what is not so: that it is gone, or was never there, or has too much to
/// do. Who believes that is right.
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

/// strace lets the command wait three seconds for it, on a machine that is too busy not long enough.
pub fn too_late(ended: &Ended) -> bool {
    ended.signal() == Some(libc::SIGALRM)
}

/// Who was started in a home and still runs: there, or with its runtime directory, as a server in the background.
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

/// Nobody is left within seconds; and what is left of names goes with `rm --dead`, at most one for each process killed.
pub fn nothing_left(sandbox: &Sandbox, fault: &Fault, killed: usize) -> Verdict {
    let gone = std::panic::catch_unwind(|| until(SOON, "", || of(sandbox).is_empty()));
    if gone.is_err() {
        let who = of(sandbox).into_iter().map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " "))
        });
        return Err(format!("still running: {}", who.collect::<Vec<_>>().join("; ")));
    }
    // The lock of the directory stays by design; so does the directory.
    let names = || {
        sandbox
            .left()
            .into_iter()
            // And the log of a server that ended badly, for who wants to know why.
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

/// Waits for the end of a process, however it is; wrong if it does not come.
pub fn end(mut live: Running, name: &str) -> Result<Ended, String> {
    for _ in 0..3000 {
        if !live.is_running() {
            return Ok(live.end(SOON));
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(format!("{name} hangs; it said: {}", live.stderr()))
}
