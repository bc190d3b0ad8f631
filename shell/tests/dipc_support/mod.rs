//! Real servers for tests, each with a runtime directory of its own, and clients for them.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const SHELL: &str = env!("CARGO_BIN_EXE_shell");

/// A runtime directory.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The command, in this directory.
    pub fn shell(&self, args: &[&str]) -> Command {
        let mut command = Command::new(SHELL);
        command.args(args).env("XDG_RUNTIME_DIR", self.path());
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.shell(args).output().unwrap()
    }

    /// What servers have left here.
    pub fn leftovers(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path().join("whorl")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// A server in the background. Dropping it stops it.
pub struct Server {
    pub place: Place,
    pub port: u16,
}

impl Server {
    /// The directory of a server that has been stopped.
    pub fn into_place(mut self) -> Place {
        std::mem::replace(&mut self.place, Place::new())
    }

    /// Starts `shell dipc K SIZE 0 PACKET` and whatever follows.
    pub fn start(args: &[&str]) -> Self {
        Self::start_in(Place::new(), args)
    }

    pub fn start_in(place: Place, args: &[&str]) -> Self {
        let output = place.run(&[&["dipc"], args].concat());
        let text = text(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        let port = text.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
        Self { place, port: port.unwrap_or_else(|| panic!("no port in {text:?}")) }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    pub fn remove(&self, more: &[&str]) -> Output {
        self.place.run(&[&["dipcrm", &self.port.to_string()], more].concat())
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.place.path().join(format!("whorl/dipc-{}.sock", self.port))
    }

    /// The server's process id.
    pub fn pid(&self) -> i32 {
        let path = self.place.path().join(format!("whorl/dipc-{}.info", self.port));
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().find_map(|line| line.strip_prefix("pid=")).unwrap().parse().unwrap()
    }

    /// A field of /proc/PID/status.
    pub fn status(&self, field: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }

    /// Resident memory that is not file pages, in KiB.
    pub fn memory(&self) -> u64 {
        self.status("RssAnon").split(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.place.leftovers().is_empty() {
            let _ = self.remove(&["--force"]);
        }
    }
}

/// A server in the foreground. Dropping it kills it.
pub struct Foreground {
    child: Child,
    pub port: u16,
}

impl Foreground {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = Vec::new();
        let stdout = child.stdout.as_mut().unwrap();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "it ended: {}", text(&line));
            line.push(byte[0]);
        }
        let port = text(&line).trim_end().rsplit(':').next().unwrap().parse().unwrap();
        Self { child, port }
    }
}

impl Foreground {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends everything, closes this half, and returns all that comes.
pub fn converse(mut stream: TcpStream, input: &[u8]) -> String {
    stream.write_all(input).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    rest(stream)
}

/// All that comes until the end.
pub fn rest(mut stream: impl Read) -> String {
    let mut replies = Vec::new();
    stream.read_to_end(&mut replies).unwrap();
    text(&replies)
}

/// Sends a request and reads exactly the reply that is expected.
pub fn expect(stream: &mut (impl Read + Write), request: &str, reply: &str) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut got = vec![0; reply.len()];
    if let Err(error) = stream.read_exact(&mut got) {
        panic!("{request:?}: {error}, wanted {reply:?}");
    }
    assert_eq!(text(&got), reply, "to {request:?}");
}

/// Sends a signal to a process, by the signal's name.
pub fn kill(pid: i32, signal: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap().success());
}

/// Waits until something is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < until, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A message that shows whether it is whole: its seed, then words that follow from it; the length does, too.
pub fn message(seed: u64, most: usize) -> Vec<u8> {
    let length = 16 + (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % (most - 15);
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend(seed.to_le_bytes());
    let mut word = seed;
    while bytes.len() < length {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(word.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Whether these bytes are such a message, or a fresh mailbox's.
pub fn is_whole(bytes: &[u8], most: usize) -> bool {
    let Some(seed) = bytes.first_chunk::<8>() else { return bytes.is_empty() };
    message(u64::from_le_bytes(*seed), most) == bytes
}

/// How much later than asked this machine lets a thread run, at worst: the noise in every time measured here.
pub struct Noise {
    worst: std::sync::Arc<std::sync::atomic::AtomicU64>,
    end: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Noise {
    pub fn listen() -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let noise = Self { worst: Default::default(), end: Default::default() };
        let (worst, end) = (noise.worst.clone(), noise.end.clone());
        std::thread::spawn(move || {
            while !end.load(Relaxed) {
                let before = Instant::now();
                std::thread::sleep(Duration::from_millis(1));
                let late = before.elapsed().saturating_sub(Duration::from_millis(1));
                worst.fetch_max(late.as_micros() as u64, Relaxed);
            }
        });
        noise
    }

    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.load(std::sync::atomic::Ordering::Relaxed))
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.end.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
