//! Real mailbox servers, each with a sandbox of its own, and clients of their protocol.

use super::process::proc_status;
use super::{Ended, Sandbox, run};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

/// A server in the background. Dropping it stops it.
pub struct Server {
    pub sandbox: Sandbox,
    pub port: u16,
}

impl Server {
    /// The sandbox of a server that has been stopped.
    pub fn into_sandbox(mut self) -> Sandbox {
        std::mem::replace(&mut self.sandbox, Sandbox::new())
    }

    /// Starts `shell dipc` with these arguments, in a sandbox of its own.
    #[track_caller]
    pub fn start(args: &[&str]) -> Self {
        Self::start_in(Sandbox::new(), args)
    }

    /// Starts `shell dipc` with these arguments.
    #[track_caller]
    pub fn start_in(sandbox: Sandbox, args: &[&str]) -> Self {
        let ended = run(&mut sandbox.shell([&["dipc"], args].concat()));
        ended.has_code(0);
        Self { sandbox, port: port_of(&ended.stdout) }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Runs `shell dipcrm` with the server's port and these arguments.
    #[track_caller]
    pub fn remove(&self, more: &[&str]) -> Ended {
        run(&mut self.sandbox.shell([&["dipcrm", &self.port.to_string()], more].concat()))
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.sandbox.socket(&format!("dipc-{}", self.port))
    }

    /// The server's process id.
    pub fn pid(&self) -> i32 {
        let path = self.sandbox.at(format!("run/whorl/dipc-{}.info", self.port));
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().find_map(|line| line.strip_prefix("pid=")).unwrap().parse().unwrap()
    }

    /// Resident memory that is not file pages, in KiB.
    pub fn memory(&self) -> u64 {
        proc_status(self.pid(), "RssAnon").unwrap().split(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.sandbox.left().is_empty() {
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
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let line = read_line(child.stdout.as_mut().unwrap());
        Self { child, port: port_of(&line) }
    }

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

/// The port at the end of the line that a mailbox server prints when it listens.
#[track_caller]
pub fn port_of(said: &str) -> u16 {
    let port = said.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("no port in {said:?}"))
}

/// One line, without its end.
#[track_caller]
pub fn read_line(stream: &mut impl Read) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    loop {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "it ended: {}", text(&line));
        if byte == *b"\n" {
            return text(&line);
        }
        line.push(byte[0]);
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends everything, closes the sending half, and returns all that arrives.
pub fn converse(mut stream: TcpStream, input: &[u8]) -> String {
    stream.write_all(input).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    rest(stream)
}

/// All that arrives until the end.
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
