//! Servers that hold messages for many clients: Whorl's, redis and memcached. Starts them, sends requests over TCP, and
//! ends them.

use crate::contender::Unavailable;
use crate::process::{RunError, is_stopped};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq)]
pub enum ServerKind {
    Whorl,
    Redis,
    Memcached,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Verb {
    Get,
    Set,
}

/// The requests of a run.
#[derive(Clone, Copy)]
pub struct Load {
    pub verb: Verb,
    /// Bytes of a message.
    pub size: usize,
    pub connections: usize,
    /// Requests in a batch.
    pub pipeline: usize,
}

/// The number of connections that every server has room for by default, with some to spare.
const FEW: usize = 500;

/// A running server. Dropping it ends the server; the server also ends with the process that measures.
pub struct Server {
    who: ServerKind,
    pub port: u16,
    process: Child,
    /// Its working directory, which for Whorl is also its runtime directory.
    pub directory: PathBuf,
}

impl Server {
    /// Returns the bytes of resident memory, or `None` if the server has ended.
    pub fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    }

    pub(crate) fn read_request(&self) -> String {
        self.who.request(Verb::Get, "")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: the pid is that of a child that was not reaped yet.
        unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl ServerKind {
    pub const ALL: [ServerKind; 3] = [ServerKind::Whorl, ServerKind::Redis, ServerKind::Memcached];

    pub fn name(self) -> &'static str {
        match self {
            ServerKind::Whorl => "whorl",
            ServerKind::Redis => "redis",
            ServerKind::Memcached => "memcached",
        }
    }

    /// Starts the server in its own directory below `place`. `shell` is Whorl's command.
    pub fn start(self, shell: &Path, place: &Path) -> Result<Server, Unavailable> {
        self.start_for(shell, place, 0)
    }

    /// Starts the server with room for `connections` connections, if that is more than its default.
    pub fn start_for(self, shell: &Path, place: &Path, connections: usize) -> Result<Server, Unavailable> {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = free.map_err(Unavailable::from)?.port();
        let directory = place.join(format!("{}-{port}", self.name()));
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        let number = port.to_string();
        let mut command = match self {
            ServerKind::Whorl => {
                let mut command = Command::new(shell);
                command.args(["dipc", "8", "64", &number, "64", "--foreground"]);
                command.env("XDG_RUNTIME_DIR", &directory);
                command
            }
            ServerKind::Redis => {
                let mut command = Command::new("redis-server");
                command.args(["--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
                if connections > FEW {
                    command.args(["--maxclients", &(connections + FEW).to_string()]);
                }
                command
            }
            ServerKind::Memcached => {
                let mut command = Command::new("memcached");
                command.args(["-p", &number, "-l", "127.0.0.1", "-t", "2", "-u", "nobody"]);
                if connections > FEW {
                    command.args(["-c", &(connections + FEW).to_string()]);
                }
                command
            }
        };
        command.current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The terminal's signals go only to the process that measures, which ends its servers.
        command.process_group(0);
        // SAFETY: one system call, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            })
        };
        let process = command.spawn().map_err(|why| {
            let _ = std::fs::remove_dir_all(&directory);
            Unavailable::cannot(match why.kind() {
                ErrorKind::NotFound => {
                    format!("{} is not installed", command.get_program().to_string_lossy())
                }
                _ => format!("{}: {why}", self.name()),
            })
        })?;
        let mut server = Server { who: self, port, process, directory };
        let until = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Ok(Some(status)) = server.process.try_wait() {
                return Err(Unavailable::cannot(format!("{} ended at once: {status}", self.name())));
            }
            if Instant::now() > until {
                return Err(Unavailable::cannot("the server does not listen"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    fn request(self, verb: Verb, body: &str) -> String {
        let size = body.len();
        match (self, verb) {
            (ServerKind::Whorl, Verb::Get) => "r 1\n".into(),
            (ServerKind::Whorl, Verb::Set) => format!("w 1 {size}\n{body}\n"),
            (ServerKind::Redis, Verb::Get) => "*2\r\n$3\r\nGET\r\n$1\r\n1\r\n".into(),
            (ServerKind::Redis, Verb::Set) => format!("*3\r\n$3\r\nSET\r\n$1\r\n1\r\n${size}\r\n{body}\r\n"),
            (ServerKind::Memcached, Verb::Get) => "get 1\r\n".into(),
            (ServerKind::Memcached, Verb::Set) => format!("set 1 0 0 {size}\r\n{body}\r\n"),
        }
    }
}

/// Measures requests per second.
pub fn rate(server: &Server, load: Load, time: Duration) -> Result<f64, RunError> {
    let failed = |why: std::io::Error| match why.kind() {
        ErrorKind::WouldBlock => RunError::Hung,
        _ => RunError::Failed(why.to_string()),
    };
    let mut clients = Clients::connect(server, load).map_err(failed)?;
    let rounds = |clients: &mut Clients, time: Duration| {
        let (begun, mut rounds) = (Instant::now(), 0);
        while begun.elapsed() < time {
            if is_stopped() {
                return Err(RunError::Interrupted);
            }
            clients.round().map_err(failed)?;
            rounds += 1;
        }
        Ok((rounds * load.connections * load.pipeline) as f64 / begun.elapsed().as_secs_f64())
    };
    rounds(&mut clients, time / 4)?;
    rounds(&mut clients, time)
}

/// All connections of a load, driven by one thread. It writes a batch to each, and then reads the replies of each. Only
/// the bytes differ between servers.
struct Clients {
    streams: Vec<TcpStream>,
    batch: Vec<u8>,
    /// The length of a batch's replies in bytes, or in lines for writes.
    replies: usize,
    counts_lines: bool,
    buffer: Vec<u8>,
}

impl Clients {
    fn connect(server: &Server, load: Load) -> std::io::Result<Self> {
        let Load { verb, size, connections, pipeline } = load;
        let mut buffer = vec![0; 256 << 10];
        let (_first, length) = prepare(server, verb, size, &mut buffer)?;
        let streams = (0..connections).map(|_| connect(server)).collect::<std::io::Result<_>>()?;
        let body = "x".repeat(size);
        let batch = server.who.request(verb, &body).repeat(pipeline).into_bytes();
        Ok(Clients { streams, batch, replies: pipeline * length, counts_lines: verb == Verb::Set, buffer })
    }

    fn round(&mut self) -> std::io::Result<()> {
        for stream in &mut self.streams {
            stream.write_all(&self.batch)?;
        }
        for stream in &mut self.streams {
            let mut seen = 0;
            while seen < self.replies {
                let bytes = some(stream, &mut self.buffer)?;
                seen += if self.counts_lines { line_ends(bytes) } else { bytes.len() };
            }
        }
        Ok(())
    }
}

pub(crate) fn connect(server: &Server) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", server.port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Writes the message that is read later. Returns the connection, and the length of a reply.
///
/// Replies to reads all have the length of the first one. So a client need not look at the bytes, and its own work does
/// not hide the server's. Replies to writes are short lines.
pub(crate) fn prepare(
    server: &Server,
    verb: Verb,
    size: usize,
    buffer: &mut [u8],
) -> std::io::Result<(TcpStream, usize)> {
    let body = "x".repeat(size);
    let mut first = connect(server)?;
    first.write_all(server.who.request(Verb::Set, &body).as_bytes())?;
    some(&mut first, buffer)?;
    let length = match verb {
        Verb::Set => 1,
        Verb::Get => first_reply(&mut first, server.who, &body, buffer)?,
    };
    Ok((first, length))
}

/// Reads what has arrived, at least one byte.
pub(crate) fn some<'b>(stream: &mut TcpStream, buffer: &'b mut [u8]) -> std::io::Result<&'b [u8]> {
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err(std::io::Error::other("the server closed the connection")),
            Ok(count) => return Ok(&buffer[..count]),
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
}

/// Returns the length of a reply to a read: its header, the message, and its end.
fn first_reply(
    stream: &mut TcpStream,
    who: ServerKind,
    body: &str,
    buffer: &mut [u8],
) -> std::io::Result<usize> {
    stream.write_all(who.request(Verb::Get, body).as_bytes())?;
    let mut reply = Vec::new();
    let end = match who {
        ServerKind::Whorl => "x\n",
        ServerKind::Redis => "x\r\n",
        ServerKind::Memcached => "END\r\n",
    };
    while reply.len() < body.len() || !reply.ends_with(end.as_bytes()) {
        reply.extend_from_slice(some(stream, buffer)?);
    }
    Ok(reply.len())
}

/// Returns how many lines end in a piece of replies.
fn line_ends(bytes: &[u8]) -> usize {
    bytes.iter().map(|&byte| usize::from(byte == b'\n')).sum()
}
