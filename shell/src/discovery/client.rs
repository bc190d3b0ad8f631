//! Querying every announced server, all at once, each with a deadline of its own.

use super::file::{FileError, Information, files};
use super::wire;
use crate::channel::{Received, Receiver};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::deadline;
use crate::os::error::{OsError, cannot};
use crate::os::thread::start_scoped_thread;
use crate::registry::RuntimeDir;
use crate::registry::protocol::Token;
use rustix::io::Errno;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where a server runs, judged by what reaches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// On this host: shared memory works.
    Host,
    /// In a container that shares the network: only the socket works.
    Container,
    /// On another machine, or dead: neither works.
    Vm,
}

/// The answer of one server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// Its information file.
    pub file: PathBuf,
    /// Where it runs.
    pub reach: Reach,
    /// Its message over TCP.
    pub socket_message: Option<Vec<u8>>,
    /// Its message through shared memory.
    pub shm_message: Option<Vec<u8>>,
    /// What is wrong with its file, or why one of the two transports did not work.
    pub error: Option<String>,
    /// Whether the file itself is wrong.
    pub is_broken: bool,
}

/// The most servers that are queried at a time.
const AT_ONCE: usize = 512;
/// The stack of a thread that queries.
const STACK: usize = 512 << 10;

/// Queries every server that is announced in a directory. Returns the answers, sorted by file.
///
/// ```no_run
/// for answer in whorl::discover("servers".as_ref(), std::time::Duration::from_secs(2))? {
///     println!("{}: {:?}", answer.file.display(), answer.reach);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Blocking
/// At most about `timeout` for up to 512 servers, which are queried at once, and as long again for each further 512.
///
/// # Errors
/// The directory cannot be read, or there is no randomness. An answer holds what is wrong with its server.
pub fn discover(directory: &Path, timeout: Duration) -> Result<Vec<Answer>, OsError> {
    let files = files(directory)?;
    let mut token = Token::default();
    rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())
        .map_err(cannot("get random bytes"))?;
    // The runtime directory of this process's channels, because shared memory is found only there.
    let runtime = RuntimeDir::open().map_err(|error| error.to_string());
    let mut answers = Vec::new();
    for some in files.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|file| {
                    let thread = std::thread::Builder::new().stack_size(STACK);
                    start_scoped_thread(thread, scope, || query(file, token, &runtime, timeout))
                })
                .collect();
            for (thread, file) in threads.into_iter().zip(some) {
                let answer = thread.ok().and_then(|thread| thread.join().ok());
                answers
                    .push(answer.unwrap_or_else(|| unreachable(file, "it could not be asked".into(), false)));
            }
        });
    }
    Ok(answers)
}

fn unreachable(file: &Path, error: String, is_broken: bool) -> Answer {
    let file = file.to_owned();
    Answer { file, reach: Reach::Vm, socket_message: None, shm_message: None, error: Some(error), is_broken }
}

fn query(file: &Path, token: Token, runtime: &Result<RuntimeDir, String>, timeout: Duration) -> Answer {
    let deadline = deadline::after(timeout);
    let information = match Information::read(file) {
        Ok(information) => information,
        Err(error) => return unreachable(file, error.to_string(), !matches!(error, FileError::System(_))),
    };
    // The connection stays open until the other transport was tried, so that the server sees one client, not two.
    let mut connection = None;
    let by_socket = read_over_tcp(&information, token, deadline, &mut connection);
    let by_memory = runtime
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|runtime| read_through_memory(runtime, &information, token, deadline));
    drop(connection);
    let reach = match (&by_socket, &by_memory) {
        (_, Ok(_)) => Reach::Host,
        (Ok(_), Err(_)) => Reach::Container,
        (Err(_), Err(_)) => Reach::Vm,
    };
    let why = |way, result: &Result<_, String>| result.as_ref().err().map(|error| format!("{way}: {error}"));
    let errors: Vec<_> =
        [why("socket", &by_socket), why("shared memory", &by_memory)].into_iter().flatten().collect();
    Answer {
        file: file.to_owned(),
        reach,
        socket_message: by_socket.ok(),
        shm_message: by_memory.ok(),
        error: (!errors.is_empty()).then(|| errors.join("; ")),
        is_broken: false,
    }
}

fn read_over_tcp(
    information: &Information,
    token: Token,
    deadline: Instant,
    connection: &mut Option<CloseOnForkFd<TcpStream>>,
) -> Result<Vec<u8>, String> {
    let in_words = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            "it does not answer in time".to_owned()
        }
        std::io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        _ => Errno::from_io_error(&error).map_or_else(|| error.to_string(), crate::os::error::reason),
    };
    let left = || Some(deadline.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
    let timed_out = || "it does not answer in time".to_owned();
    let address = SocketAddr::new(information.address, information.port);
    let socket = TcpStream::connect_timeout(&address, left().ok_or_else(timed_out)?).map_err(in_words)?;
    // Not while it connects, which takes long. A child that is forked then keeps only a silent connection.
    let socket = CloseOnForkFd::of(socket).map_err(crate::os::error::reason)?;
    let socket = connection.insert(socket);
    socket.set_write_timeout(left()).map_err(in_words)?;
    (&**socket).write_all(&wire::hello(token)).map_err(in_words)?;
    // A deadline for the whole, not for each byte of a slow server.
    let fill = |bytes: &mut [u8]| {
        let mut done = 0;
        while done < bytes.len() {
            socket.set_read_timeout(Some(left().ok_or_else(timed_out)?)).map_err(in_words)?;
            match (&**socket).read(&mut bytes[done..]) {
                Ok(0) => return Err("it closed the connection".to_owned()),
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(in_words(error)),
            }
        }
        Ok(())
    };
    let mut head = [0; wire::HEAD];
    fill(&mut head)?;
    if wire::is_refusal(&head) {
        let mut line = head.to_vec();
        let mut byte = [0];
        while !line.ends_with(b"\n") && line.len() < wire::REFUSAL_MAX && fill(&mut byte).is_ok() {
            line.push(byte[0]);
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        return Err(format!("it refused: {}", String::from_utf8_lossy(line).escape_debug()));
    }
    let length = wire::length_of(&head).ok_or("it does not speak the protocol of servers")?;
    let mut message = vec![0; length];
    fill(&mut message)?;
    Ok(message)
}

fn read_through_memory(
    runtime: &RuntimeDir,
    information: &Information,
    token: Token,
    deadline: Instant,
) -> Result<Vec<u8>, String> {
    let in_words = |error: &dyn std::error::Error| error.to_string();
    let timeout = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
    let options = Receiver::options().timeout(timeout).confirms(true);
    let mut receiver = Receiver::join_now(token, runtime, &information.channel, &options)
        .map_err(|error| in_words(&error))?;
    if receiver.id() != information.id {
        return Err("another channel has that name here".into());
    }
    let until = deadline::after(timeout);
    let mut buffer = vec![0; receiver.max_message_len().min(wire::LONGEST as usize)];
    let mut message = Vec::new();
    loop {
        match receiver.recv_deadline(&mut buffer, until).map_err(|error| in_words(&error))? {
            Received::Bytes(count) if (message.len() + count) as u64 <= wire::LONGEST => {
                message.extend_from_slice(&buffer[..count]);
            }
            Received::End(end) if end.total == message.len() as u64 => break,
            _ => return Err("it does not speak the protocol of servers".into()),
        }
    }
    receiver.confirm();
    Ok(message)
}
