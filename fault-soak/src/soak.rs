//! The setting of a soak: a private directory, a mailbox server that runs throughout, and the counts.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use twox_hash::XxHash3_128;

/// The longest time of one process. Even on a busy machine nothing that still moves takes longer.
const LIMIT: Duration = Duration::from_secs(600);

/// One round of one kind of work, in its own directory.
pub type Round = fn(&Soak, &Path, &mut Random) -> Result<()>;

/// Random numbers: the same sequence for each seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    /// Returns `length` bytes without a pattern.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            self.below(1);
            bytes.extend(self.0.to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Sleeps for less than `most` microseconds.
    pub fn nap(&mut self, most: u64) {
        std::thread::sleep(Duration::from_micros(self.below(most)));
    }
}

/// Returns a checksum of these bytes.
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_128::oneshot(bytes) as u64
}

pub struct Soak {
    home: TempDir,
    shell: PathBuf,
    server: Mutex<Child>,
    server_pid: i32,
    port: u16,
    over: AtomicBool,
    rounds: AtomicU64,
    kills: AtomicU64,
    bytes: AtomicU64,
    /// The checksum of everything that arrived. It is a sum, because the order of the rounds varies.
    sum: AtomicU64,
    errors: Mutex<Vec<String>>,
}

impl Soak {
    pub fn new(shell: PathBuf) -> Result<Self> {
        ensure!(shell.exists(), "{} does not exist; build it with cargo build -p whorl-ipc", shell.display());
        let shell = shell.canonicalize()?; // the processes that it starts have other working directories
        let home = tempfile::tempdir().context("a temporary directory")?;
        let mut server = Command::new(&shell)
            .args(["dipc", "4", "8", "0", "4", "--foreground"])
            .env("XDG_RUNTIME_DIR", home.path())
            .stdout(Stdio::piped())
            .spawn()
            .context("the mailbox server")?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().context("its output")?).read_line(&mut line)?;
        let port = line.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.with_context(|| format!("no port in {line:?}"))?;
        let server_pid = server.id() as i32;
        Ok(Self {
            home,
            shell,
            server: Mutex::new(server),
            server_pid,
            port,
            over: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            kills: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            errors: Mutex::new(Vec::new()),
        })
    }

    /// Plays rounds until the soak's time is over.
    pub fn play(&self, name: &str, round: Round, seed: u64) {
        let mut random = Random::new(seed);
        for number in 0u64.. {
            if self.is_over() {
                return;
            }
            let place = self.home.path().join(format!("{name}-{number}"));
            let done = std::fs::create_dir(&place)
                .map_err(anyhow::Error::from)
                .and_then(|()| round(self, &place, &mut random));
            if let Err(error) = done {
                self.wrong(format!("{name}, round {number}: {error:#}"));
            }
            let _ = std::fs::remove_dir_all(&place);
            self.rounds.fetch_add(1, Relaxed);
        }
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn server(&self) -> i32 {
        self.server_pid
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    pub fn end(&self) {
        self.over.store(true, Relaxed);
    }

    /// Records an error. After a few errors the soak ends.
    pub fn wrong(&self, what: String) {
        eprintln!("wrong: {what}");
        let mut errors = self.errors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        errors.push(what);
        if errors.len() >= 10 {
            self.end();
        }
    }

    pub fn errors(&self) -> usize {
        self.errors.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len()
    }

    /// Counts bytes that arrived and were checked.
    pub fn arrived(&self, bytes: &[u8]) {
        self.arrived_elsewhere(bytes.len() as u64, checksum(bytes));
    }

    /// Counts bytes that another process checked.
    pub fn arrived_elsewhere(&self, bytes: u64, sum: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.sum.fetch_add(sum, Relaxed);
    }

    /// Returns the rounds, the kills, the bytes that arrived, and their checksum.
    pub fn counted(&self) -> [u64; 4] {
        [&self.rounds, &self.kills, &self.bytes, &self.sum].map(|count| count.load(Relaxed))
    }

    /// Starts `shell` with these arguments, in this directory.
    pub fn shell(&self, place: &Path, words: &str) -> Result<Cast> {
        let mut command = Command::new(&self.shell);
        command.args(words.split_whitespace());
        self.cast(place, command, words)
    }

    /// Starts one of the soak's own programs.
    pub fn actor(&self, place: &Path, words: &str) -> Result<Cast> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(words.split_whitespace());
        self.cast(place, command, words)
    }

    fn cast(&self, place: &Path, mut command: Command, words: &str) -> Result<Cast> {
        command.current_dir(place).env("XDG_RUNTIME_DIR", self.home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| words.to_owned())?;
        Ok(Cast { child, words: words.to_owned() })
    }

    /// Kills a process that is not reaped yet.
    pub fn kill(&self, pid: i32) {
        if let Some(pid) = Pid::from_raw(pid)
            && kill_process(pid, Signal::KILL).is_ok()
        {
            self.kills.fetch_add(1, Relaxed);
        }
    }

    /// Ends the mailbox server. Returns whether it ended without an error.
    pub fn stop_server(&self) -> bool {
        let mut server = self.server.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pid = Pid::from_child(&server);
        kill_process(pid, Signal::TERM).is_ok() && server.wait().is_ok()
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        let mut server = self.server.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = server.kill();
        let _ = server.wait();
    }
}

/// A process of a round. Dropping it kills the process.
pub struct Cast {
    child: Child,
    words: String,
}

/// The end of a process.
pub struct Ended {
    words: String,
    pub status: ExitStatus,
    pub stdout: String,
    stderr: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { words, status, stdout, stderr } = self;
        write!(f, "'{words}' ended with {status}, stdout {stdout:?}, stderr {stderr:?}")
    }
}

impl Cast {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Returns its present children.
    pub fn children(&self) -> Vec<i32> {
        let pid = self.pid();
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end. No process here prints more than a pipe holds.
    pub fn end(mut self) -> Result<Ended> {
        self.close_stdin();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begun.elapsed() < LIMIT, "'{}' hangs", self.words);
            std::thread::sleep(Duration::from_millis(1));
        };
        let text = |stream: Option<&mut dyn std::io::Read>| {
            let mut bytes = Vec::new();
            let _ = stream.map(|stream| stream.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let stdout = text(self.child.stdout.as_mut().map(|stream| stream as _));
        let stderr = text(self.child.stderr.as_mut().map(|stream| stream as _));
        Ok(Ended { words: std::mem::take(&mut self.words), status, stdout, stderr })
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Returns an error unless the process ended with one of these codes.
    pub fn has(self, codes: &[i32]) -> Result<Self> {
        ensure!(self.status.code().is_some_and(|code| codes.contains(&code)), "{self}");
        Ok(self)
    }
}
