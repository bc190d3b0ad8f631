//! Running a command and checking how it ended.

use super::{LIMIT, children, signal, until, written};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A process that was started, and its output. Dropping it kills its process group.
pub struct Running {
    child: Child,
    /// What was started, for messages.
    words: String,
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

/// Starts a command. Its output goes to files.
#[track_caller]
pub fn start(command: &mut Command) -> Running {
    let (out, err) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
    command.stdout(out.try_clone().expect("a copy")).stderr(err.try_clone().expect("a copy"));
    start_as_is(command, out, err)
}

/// Starts a command whose standard output is set already.
#[track_caller]
pub fn start_with_stdout(command: &mut Command, stdout: Stdio) -> Running {
    let err = tempfile::tempfile().expect("a file");
    command.stdout(stdout).stderr(err.try_clone().expect("a copy"));
    start_as_is(command, tempfile::tempfile().expect("a file"), err)
}

/// Starts a command whose standard output and standard error are set already.
#[track_caller]
pub fn start_with_streams(command: &mut Command, stdout: Stdio, stderr: Stdio) -> Running {
    command.stdout(stdout).stderr(stderr);
    start_as_is(command, tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"))
}

#[track_caller]
fn start_as_is(command: &mut Command, out: File, err: File) -> Running {
    let words = format!("{command:?}");
    Running { child: command.spawn().expect("it starts"), words, out, err, over: false }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    start(command).end(LIMIT)
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Its standard input, which must be a pipe.
    pub fn stdin(&mut self) -> &mut impl Write {
        self.child.stdin.as_mut().expect("a pipe as standard input")
    }

    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        text(&self.out)
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        text(&self.err)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// Waits until it has `count` children, and returns them.
    #[track_caller]
    pub fn receivers(&mut self, count: usize) -> Vec<i32> {
        let parent = self.pid();
        let mut found = Vec::new();
        until(LIMIT, "all receivers are forked", || {
            found = children(parent);
            found.len() == count || !self.is_running()
        });
        assert_eq!(found.len(), count, "receivers; stderr: {}", self.stderr());
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

    /// What was started, its processes and what it wrote to stderr, for messages.
    pub fn description(&self) -> String {
        let below: Vec<_> = children(self.pid());
        let states: Vec<_> = [self.pid()].into_iter().chain(below).map(describe).collect();
        format!("{}\n{}\nstderr: {}", self.words, states.join("\n"), self.stderr())
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn end(self, within: Duration) -> Ended {
        self.end_after("its start", within)
    }

    /// Sends a signal, and waits until it ends.
    #[track_caller]
    pub fn end_by(self, by: Signal, within: Duration) -> Ended {
        signal(self.pid(), by);
        self.end_after(&format!("{by:?}"), within)
    }

    #[track_caller]
    fn end_after(mut self, what: &str, within: Duration) -> Ended {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                self.over = true;
                return Ended { status, stdout: text(&self.out), stderr: text(&self.err) };
            }
            if begun.elapsed() >= within {
                panic!("still running {within:?} after {what}: {}", self.description());
            }
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// The state of a process: where it waits, and which signals it blocks, ignores, catches and has pending.
fn describe(pid: i32) -> String {
    let field = |name| super::process::proc_status(pid, name).unwrap_or_default();
    let at = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let names = ["State", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"];
    let fields: Vec<_> = names.iter().map(|name| format!("{name} {}", field(name))).collect();
    format!("process {pid} {}: {}, waits in {at}", field("Name"), fields.join(", "))
}

fn text(file: &File) -> String {
    // The file is opened anew, so that the writer's position stays where it is.
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

    /// Returns what it wrote to stderr, without the lines that name a slow receiver. On a busy machine any receiver may be slow.
    fn messages(&self) -> String {
        self.stderr.split_inclusive('\n').filter(|line| !line.contains(": waiting for peer ")).collect()
    }

    /// Asserts success without a message, except that a receiver may be named as slow.
    #[track_caller]
    pub fn silent_success(&self) -> &Self {
        assert_eq!((self.code(), &*self.messages()), (Some(0), ""), "{self:?}");
        self
    }

    /// Asserts this exit code.
    #[track_caller]
    pub fn has_code(&self, code: i32) -> &Self {
        assert_eq!(self.code(), Some(code), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }

    /// Asserts a refusal: this code, nothing on stdout, and on stderr one line or a usage error that holds all of `words`.
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

    /// Asserts one line on stderr, fit for a terminal, that holds all of `words`. Lines that name a slow receiver count
    /// only if `words` asks for one.
    #[track_caller]
    pub fn one_line(&self, words: &[&str]) -> &Self {
        let names_a_receiver = words.iter().any(|word| word.contains("waiting for peer"));
        let said = if names_a_receiver { self.stderr.clone() } else { self.messages() };
        let line = said.strip_suffix('\n').unwrap_or_else(|| panic!("no whole line: {self:?}"));
        assert!(line.starts_with("shell: "), "not the command's own line: {self:?}");
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

/// This test program, to run one of its own tests in another process: `module` is the caller's `module_path!()`.
pub fn own_test(module: &str, test: &str) -> Command {
    let path = module.split_once("::").map_or(test.to_owned(), |(_, below)| format!("{below}::{test}"));
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", &path, "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
    command
}

/// Starts a program, and waits until it has written `word` to standard output.
#[track_caller]
pub fn spawn_until_said(command: &mut Command, word: &str) -> Child {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = Vec::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    while !String::from_utf8_lossy(&said).contains(word) {
        let mut byte = [0];
        let count = stdout.read(&mut byte).expect("a pipe");
        assert_eq!(count, 1, "it ended: {}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    child
}

/// Lets a test change the state of its process: runs the test in another process, alone, and returns false there. Returns
/// true in the test itself, after the other process has succeeded.
#[track_caller]
pub fn ran_alone(module: &str, test: &str) -> bool {
    const ALONE: &str = "WHORL_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    let ended = run(own_test(module, test).env(ALONE, "1"));
    eprint!("{}", ended.stderr);
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stdout.contains("1 passed"), "no test of that name: {ended:?}");
    true
}
