//! The mailbox server against redis and memcached: requests per second over TCP, client and server on the same cores;
//! and a mailbox read through shared memory.
//!
//! One client for all three: a thread that writes a batch of requests to every connection, then reads every connection's
//! replies. Only the bytes differ.

use benches::collect::{Collected, interleave};
use benches::options::Options;
use benches::report::{Better, Case};
use benches::rival::Absent;
use benches::targets::{Against, Bound, Target, at_least};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use whorl::mailboxes::Mailboxes;

/// Bytes of a message, connections, requests in a batch, and what is asked of Whorl.
const CASES: [(usize, usize, usize, f64); 7] = [
    (4096, 1, 1, 1.1),
    (4096, 8, 1, 1.15),
    (4096, 50, 1, 1.15),
    (4096, 1, 16, 1.15),
    (4096, 8, 16, 1.15),
    (65536, 8, 1, 1.15),
    (65536, 8, 16, 1.15),
];
const RIVALS: &[&str] = &["redis", "memcached"];

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Whorl,
    Redis,
    Memcached,
}

#[derive(Clone, Copy, PartialEq)]
enum Verb {
    Get,
    Set,
}

/// A running server, ended with this.
struct Server {
    who: Who,
    port: u16,
    process: Child,
    runtime: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.runtime);
    }
}

impl Who {
    const ALL: [Who; 3] = [Who::Whorl, Who::Redis, Who::Memcached];

    fn name(self) -> &'static str {
        match self {
            Who::Whorl => "whorl",
            Who::Redis => "redis",
            Who::Memcached => "memcached",
        }
    }

    fn start(self, shell: &Path) -> Result<Server, Absent> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| Absent::cannot(e.to_string()))?;
        let port = listener.local_addr().map_err(|e| Absent::cannot(e.to_string()))?.port();
        drop(listener);
        let runtime = std::env::temp_dir().join(format!("whorl-bench-dipc-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&runtime).map_err(|e| Absent::cannot(e.to_string()))?;
        let number = port.to_string();
        let mut command = match self {
            Who::Whorl => {
                let mut command = Command::new(shell);
                command.args(["dipc", "8", "64", &number, "64", "--foreground"]);
                command.env("XDG_RUNTIME_DIR", &runtime);
                command
            }
            Who::Redis => {
                let mut command = Command::new("redis-server");
                command.args(["--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
                command
            }
            Who::Memcached => {
                let mut command = Command::new("memcached");
                command.args(["-p", &number, "-l", "127.0.0.1", "-t", "2", "-u", "nobody"]);
                command
            }
        };
        let spawned = command.current_dir(&runtime).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = spawned.map_err(|why| Absent::cannot(format!("{}: {why}", self.name())))?;
        let server = Server { who: self, port, process, runtime };
        let until = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until {
                return Err(Absent::cannot("it does not listen"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    fn request(self, verb: Verb, body: &str) -> String {
        let size = body.len();
        match (self, verb) {
            (Who::Whorl, Verb::Get) => "r 1\n".into(),
            (Who::Whorl, Verb::Set) => format!("w 1 {size}\n{body}\n"),
            (Who::Redis, Verb::Get) => "*2\r\n$3\r\nGET\r\n$1\r\n1\r\n".into(),
            (Who::Redis, Verb::Set) => format!("*3\r\n$3\r\nSET\r\n$1\r\n1\r\n${size}\r\n{body}\r\n"),
            (Who::Memcached, Verb::Get) => "get 1\r\n".into(),
            (Who::Memcached, Verb::Set) => format!("set 1 0 0 {size}\r\n{body}\r\n"),
        }
    }
}

/// One connection with its batch.
struct Client {
    stream: TcpStream,
    batch: Vec<u8>,
}

/// Requests per second.
fn measure(server: &Server, verb: Verb, case: (usize, usize, usize, f64), time: Duration) -> Option<f64> {
    let (size, connections, pipeline, _) = case;
    let body = "x".repeat(size);
    let mut buffer = vec![0; 256 << 10];
    let connect = || TcpStream::connect(("127.0.0.1", server.port)).ok();
    let mut first = connect()?;
    first.write_all(server.who.request(Verb::Set, &body).as_bytes()).ok()?;
    first.read(&mut buffer).ok().filter(|&count| count > 0)?;
    // Replies to reads all have the length of the first, so that the client need not look at the bytes: its part must not
    // hide the servers'. Those to writes are short lines.
    let length = match verb {
        Verb::Set => 0,
        Verb::Get => first_reply(&mut first, server.who, &body, &mut buffer)?,
    };
    let mut clients = Vec::new();
    for _ in 0..connections {
        let stream = connect()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let batch = server.who.request(verb, &body).repeat(pipeline).into_bytes();
        clients.push(Client { stream, batch });
    }
    let mut round = |clients: &mut Vec<Client>| -> Option<()> {
        for client in clients.iter_mut() {
            client.stream.write_all(&client.batch).ok()?;
        }
        for client in clients.iter_mut() {
            let mut seen = 0;
            while seen < pipeline * length.max(1) {
                let count = client.stream.read(&mut buffer).ok().filter(|&count| count > 0)?;
                seen += if length > 0 { count } else { line_ends(&buffer[..count]) };
            }
        }
        Some(())
    };
    let warm = Instant::now();
    while warm.elapsed() < time / 4 {
        round(&mut clients)?;
    }
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < time {
        round(&mut clients)?;
        rounds += 1;
    }
    Some((rounds * connections * pipeline) as f64 / begun.elapsed().as_secs_f64())
}

/// The length of a reply to a read: its header, the message, and what ends it.
fn first_reply(stream: &mut TcpStream, who: Who, body: &str, buffer: &mut [u8]) -> Option<usize> {
    stream.write_all(who.request(Verb::Get, body).as_bytes()).ok()?;
    let mut reply = Vec::new();
    let end = if who == Who::Memcached { "END\r\n" } else { "x\n" };
    let end = if who == Who::Redis { "x\r\n" } else { end };
    while reply.len() < body.len() || !reply.ends_with(end.as_bytes()) {
        let count = stream.read(buffer).ok().filter(|&count| count > 0)?;
        reply.extend_from_slice(&buffer[..count]);
    }
    Some(reply.len())
}

/// Line ends in a piece of replies.
fn line_ends(bytes: &[u8]) -> usize {
    bytes.iter().map(|&byte| usize::from(byte == b'\n')).sum()
}

fn main() {
    let options = Options::from_args();
    let shell = match build() {
        Ok(shell) => shell,
        Err(why) => {
            eprintln!("dipc: {why}");
            std::process::exit(1);
        }
    };
    let time = Duration::from_millis(if options.quick { 200 } else { 1000 });
    let rounds = options.rounds(1, 5);
    for verb in [Verb::Get, Verb::Set] {
        let word = if verb == Verb::Get { "get" } else { "set" };
        for case in CASES {
            let (size, connections, pipeline, factor) = case;
            let name = format!("{word} {} KiB x{connections} p{pipeline}", size / 1024);
            if !options.wants_case(&name) {
                continue;
            }
            if options.list {
                println!("{name}");
                continue;
            }
            let parties: Vec<Who> = Who::ALL.into_iter().filter(|who| options.wants(who.name())).collect();
            let rows = interleave(
                &parties,
                rounds,
                1,
                |who| who.name().into(),
                |who| {
                    let server = who.start(&shell)?;
                    Ok(measure(&server, verb, case, time).ok_or(benches::process::Trouble::Hung))
                },
            );
            print(&options, &name, &rows, size, &[at_least(factor, RIVALS)], connections);
        }
    }
    let name = "attached read 4 KiB";
    if options.wants_case(name) && !options.list {
        attached(&options, &shell, name, time, rounds);
    } else if options.list {
        println!("{name}");
    }
}

/// Reads by a process that is attached to the mailboxes, beside the best that one core of a server gives: half of what a
/// pipelined client gets from both cores.
fn attached(options: &Options, shell: &Path, name: &str, time: Duration, rounds: usize) {
    let parties: Vec<Who> = Who::ALL.into_iter().filter(|who| options.wants(who.name())).collect();
    let rows = interleave(
        &parties,
        rounds,
        1,
        |who| who.name().into(),
        |who| {
            let server = who.start(shell)?;
            let value = match who {
                Who::Whorl => read_attached(&server, time),
                _ => measure(&server, Verb::Get, (4096, 8, 16, 0.0), time).map(|value| value / 2.0),
            };
            Ok(value.ok_or(benches::process::Trouble::Hung))
        },
    );
    let target = Target { of: "whorl", against: Against::Best(RIVALS), bound: Bound::AtLeast(20.0) };
    print(options, name, &rows, 4096, &[target], 1);
}

fn read_attached(server: &Server, time: Duration) -> Option<f64> {
    let control = server.runtime.join(format!("whorl/dipc-{}.sock", server.port));
    // It listens a moment before it can be found.
    let until = Instant::now() + Duration::from_secs(5);
    let mut mailboxes = loop {
        match Mailboxes::attach(control.as_path()) {
            Ok(mailboxes) => break mailboxes,
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => return None,
        }
    };
    mailboxes.write(1, &[7; 4096]).ok()?;
    let begun = Instant::now();
    let mut reads = 0;
    while begun.elapsed() < time {
        for _ in 0..1000 {
            mailboxes.read_by(1, None, |bytes, _| std::hint::black_box(bytes.len())).ok()?;
        }
        reads += 1000;
    }
    Some(f64::from(reads) / begun.elapsed().as_secs_f64())
}

fn print(
    options: &Options,
    name: &str,
    rows: &[Collected<f64>],
    size: usize,
    targets: &[Target],
    connections: usize,
) {
    Case {
        bench: "dipc",
        name: name.to_owned(),
        title: name.to_owned(),
        size: Some(size as u64),
        receivers: Some(connections),
        unit: "requests/s",
        better: Better::Higher,
        rows,
        targets,
    }
    .print(options.json);
}

/// The release build of the command.
fn build() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|why| why.to_string())?;
    let target = own.ancestors().nth(3).ok_or("this bench lies in no target directory")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--release", "-p", "shell", "--bin", "shell", "--target-dir"])
        .arg(target);
    match command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).status() {
        Ok(status) if status.success() => Ok(target.join("release/shell")),
        Ok(status) => Err(format!("the command was not built: {status}")),
        Err(why) => Err(format!("the command was not built: {why}")),
    }
}
