//! What the end-to-end tests share: a directory of one's own, the real binary with a deadline, and a look through /proc.

#![allow(dead_code)] // every test file uses a part of it

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub mod hold;

/// Nothing here takes so long, except when it hangs.
pub const LIMIT: Duration = Duration::from_secs(60);
/// What the command promises within a second; two noisy cores get five.
pub const SOON: Duration = Duration::from_secs(5);
/// The two ways bytes travel.
pub const TRANSPORTS: [&str; 2] = ["--shm", "--socket"];

/// A test's own directory, in which everything it starts has its working directory.
pub struct Place {
    _directory: TempDir,
    root: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().canonicalize().expect("its real path");
        Self { _directory: directory, root }
    }

    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    pub fn file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, bytes).expect("a test's own file");
        path
    }

    /// The file of a peer under the default template, for fewer than a hundred peers.
    pub fn received(&self, peer: u32, name: &str) -> PathBuf {
        self.at(format!("received-files/peer-{peer:02}_{name}"))
    }

    /// `shell` with these arguments, to be run here.
    pub fn shell<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_shell"));
        command.args(arguments);
        command
    }

    /// A script for `sh`, in which `"$SHELL_BIN"` is the command.
    pub fn script(&self, script: &str) -> Command {
        let mut command = self.program("sh");
        command.arg("-c").arg(script).env("SHELL_BIN", env!("CARGO_BIN_EXE_shell"));
        command
    }

    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null()).process_group(0).env_remove("NO_COLOR");
        command
    }

    /// Every process that was started here and still runs.
    pub fn processes(&self) -> Vec<i32> {
        let here = |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|at| at == self.root);
        all_pids().into_iter().filter(here).collect()
    }

    /// Names below this directory that no run may leave.
    pub fn parts(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.root, &mut |path| {
            if path.as_os_str().as_encoded_bytes().ends_with(b".part") {
                found.push(path.to_owned());
            }
        });
        found
    }

    /// Asserts that nothing is left: no process (and with it no memory object, no socket), no temporary file.
    #[track_caller]
    pub fn nothing_left(&self, within: Duration) {
        until(within, "every process is gone", || self.processes().is_empty());
        assert_eq!(self.parts(), Vec::<PathBuf>::new(), "temporary files were left");
    }

    /// The names in a directory below, sorted; none if it does not exist.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(directory)) else { return Vec::new() };
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        visit(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

/// A process that was started, with what it says; killed with its group when dropped.
pub struct Live {
    child: Child,
    out: File,
    err: File,
    over: bool,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Starts a command, its output going to files.
#[track_caller]
pub fn start(command: &mut Command) -> Live {
    let (out, err) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
    command.stdout(out.try_clone().expect("a copy")).stderr(err.try_clone().expect("a copy"));
    start_as_is(command, out, err)
}

/// Starts a command whose standard output was chosen already.
#[track_caller]
pub fn start_with_stdout(command: &mut Command, stdout: Stdio) -> Live {
    let err = tempfile::tempfile().expect("a file");
    command.stdout(stdout).stderr(err.try_clone().expect("a copy"));
    start_as_is(command, tempfile::tempfile().expect("a file"), err)
}

/// Starts a command whose standard output and standard error were chosen already.
#[track_caller]
pub fn start_with_streams(command: &mut Command, stdout: Stdio, stderr: Stdio) -> Live {
    command.stdout(stdout).stderr(stderr);
    start_as_is(command, tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"))
}

#[track_caller]
fn start_as_is(command: &mut Command, out: File, err: File) -> Live {
    Live { child: command.spawn().expect("it starts"), out, err, over: false }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    start(command).end(LIMIT)
}

impl Live {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Its standard input, where that is a pipe.
    pub fn stdin(&mut self) -> &mut impl Write {
        self.child.stdin.as_mut().expect("a pipe as standard input")
    }

    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        text(&self.err)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// Its children, as soon as there are `count` of them.
    #[track_caller]
    pub fn receivers(&mut self, count: usize) -> Vec<i32> {
        let parent = self.pid();
        let mut found = Vec::new();
        until(LIMIT, "all receivers are forked", || {
            found = children(parent);
            found.len() == count || !self.is_running()
        });
        assert_eq!(found.len(), count, "receivers; it said: {}", self.stderr());
        found
    }

    /// Waits until each of these receivers has written `size` bytes below `directory`.
    #[track_caller]
    pub fn have(&self, receivers: &[i32], directory: &Path, size: u64) {
        for &pid in receivers {
            until(LIMIT, &format!("receiver {pid} has {size} bytes"), || {
                written(pid, directory) == Some(size)
            });
        }
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn end(mut self, within: Duration) -> Ended {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                self.over = true;
                return Ended { status, stdout: text(&self.out), stderr: text(&self.err) };
            }
            assert!(begun.elapsed() < within, "still running after {within:?}; it said: {}", self.stderr());
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if !self.over {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn text(file: &File) -> String {
    // A description of its own, so that the writer's position stays where it is.
    let mut file =
        File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))).expect("open");
    let mut bytes = Vec::new();
    file.rewind().expect("a file");
    file.read_to_end(&mut bytes).expect("a file");
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Asserts success without a word.
    #[track_caller]
    pub fn silent_success(&self) -> &Self {
        assert_eq!((self.code(), &*self.stderr), (Some(0), ""), "{self:?}");
        self
    }

    /// Asserts this exit code.
    #[track_caller]
    pub fn has_code(&self, code: i32) -> &Self {
        assert_eq!(self.code(), Some(code), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }

    /// Asserts a refusal: this code, nothing on stdout, one line on stderr that holds all of `words`.
    #[track_caller]
    pub fn refusal(&self, code: i32, words: &[&str]) -> &Self {
        self.has_code(code);
        assert_eq!(self.stdout, "", "{self:?}");
        if code == 2 { self.usage_error(words) } else { self.one_line(words) }
    }

    /// Asserts a usage error on stderr: a line that holds all of `words`, the usage line, and where the help is.
    #[track_caller]
    pub fn usage_error(&self, words: &[&str]) -> &Self {
        let lines: Vec<_> = self.stderr.lines().collect();
        let &[what, usage, help] = &lines[..] else { panic!("three lines: {self:?}") };
        assert!(self.stderr.ends_with('\n') && !lines.concat().contains(char::is_control), "{self:?}");
        assert!(what.starts_with("shell: ") && usage.starts_with("Usage: shell"), "{self:?}");
        assert!(help.starts_with("For all options: shell") && help.ends_with(" --help"), "{self:?}");
        for word in words {
            assert!(what.contains(word) || help.contains(word), "'{word}' is missing: {self:?}");
        }
        self
    }

    /// Asserts one line on stderr, fit for a terminal, that holds all of `words`.
    #[track_caller]
    pub fn one_line(&self, words: &[&str]) -> &Self {
        let line = self.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("no whole line: {self:?}"));
        assert!(line.starts_with("shell: "), "who speaks? {self:?}");
        assert!(!line.contains(char::is_control), "one clean line: {self:?}");
        for word in words {
            assert!(line.contains(word), "'{word}' is missing: {self:?}");
        }
        self
    }

    /// The one JSON object on stdout.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.stdout.matches('\n').count(), 1, "one line: {self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Waits for a condition.
#[track_caller]
pub fn until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < within, "not so within {within:?}: {what}");
        sleep(Duration::from_millis(1));
    }
}

/// Stops a process, and waits until each of its threads stands: the signal alone returns before.
#[track_caller]
pub fn stop(pid: i32) {
    signal(pid, Signal::STOP);
    until(LIMIT, "every thread stands", || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
        threads
            .map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default())
            .all(|stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't'])))
    });
}

/// Sends a signal to one process; false if there is none.
pub fn signal(pid: i32, signal: Signal) -> bool {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).is_ok()
}

/// Sends a signal to a process group, as a terminal does.
pub fn signal_group(pid: i32, signal: Signal) {
    kill_process_group(Pid::from_raw(pid).expect("a pid"), signal).expect("a group of ours");
}

pub fn all_pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The fields of /proc/PID/stat after the name: state, parent, ...
pub fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split_whitespace().map(String::from).collect())
}

/// Running or sleeping; a dead process that nobody has reaped is not.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

pub fn is_stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] == "T")
}

pub fn children(parent: i32) -> Vec<i32> {
    if let Ok(list) = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")) {
        return list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    }
    let parent = parent.to_string();
    all_pids().into_iter().filter(|&pid| stat(pid).is_some_and(|fields| fields[1] == parent)).collect()
}

/// How many bytes the file has that a process is writing below `directory`, named or not.
pub fn written(pid: i32, directory: &Path) -> Option<u64> {
    open_file(pid, directory).and_then(|fd| fs::metadata(fd).ok()).map(|file| file.len())
}

/// The /proc path of the file that a process is writing below `directory`.
pub fn open_file(pid: i32, directory: &Path) -> Option<PathBuf> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let below = |fd: &PathBuf| fs::read_link(fd).is_ok_and(|at| at.starts_with(directory));
    let is_file = |fd: &PathBuf| fs::metadata(fd).is_ok_and(|file| file.is_file());
    descriptors.map(|entry| entry.path()).find(|fd| below(fd) && is_file(fd))
}

/// Bytes without a pattern that a block boundary could hide.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&next(&mut state).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The next number of a xorshift sequence.
pub fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Asserts that a file holds exactly these bytes, without printing them.
#[track_caller]
pub fn assert_holds(path: &Path, bytes: &[u8]) {
    let found = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if found != bytes {
        let at = found.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(found.len().min(bytes.len()));
        panic!(
            "{}: {} bytes instead of {}, first difference at {at}",
            path.display(),
            found.len(),
            bytes.len()
        );
    }
}

/// Says that something could not be tried here.
pub fn skip(what: &str, why: &str) {
    eprintln!("SKIPPED: {what}: {why}");
}

/// Whether strace cannot be used here; says so, and what is not tried therefore.
pub fn no_strace(what: &str) -> bool {
    let tried =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let none = !tried.is_ok_and(|status| status.success());
    if none {
        skip(what, "strace is not there, or may not trace");
    }
    none
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a private mount namespace with a tmpfs is to be had.
pub fn can_mount() -> bool {
    let script = "d=$(mktemp -d) && mount -t tmpfs -o size=64k tmpfs \"$d\" && umount \"$d\" && rmdir \"$d\"";
    let tried = Command::new("unshare").args(["-m", "sh", "-c", script]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}
