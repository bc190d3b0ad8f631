//! `shell mail`: reads and writes mailboxes.

use crate::cli::mail::{Action, Args};
use crate::ui::base64;
use crate::ui::exit::Exit;
use crate::ui::terminal::{print, print_error, print_json, wrote};
use crate::ui::units::count;
use crate::ui::usage;
use serde::Serialize;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use whorl::Message;
use whorl::internal::mailbox_server::address::{self, HostPort};
use whorl::internal::mailbox_server::client::{Client, ClientError, MESSAGE_MAX};
use whorl::internal::mailbox_server::token;
use whorl::internal::os::escape;
use whorl::internal::os::standard::{input, output};

/// The default port.
const PORT: u16 = 9000;

/// Runs it.
pub fn run(args: Args) -> Exit {
    let token = match args.token_file.as_deref().map(token::read).transpose() {
        Ok(token) => token,
        Err(error) => {
            return usage::refuse(&["mail"], &format!("--token-file: {error}"));
        }
    };
    let HostPort { host, port } = &args.host;
    if let (Some(one), Some(other)) = (args.port, port)
        && one != *other
    {
        let why = format!("--host names port {other} and --port names {one}; give only one of them");
        return usage::refuse(&["mail"], &why);
    }
    let port = args.port.or(*port).unwrap_or(PORT);
    let timeout = Some(args.timeout);
    let connect = || match &args.unix {
        Some(path) => Client::unix_within(path, token.as_deref(), timeout),
        None => Client::tcp_within(host, port, token.as_deref(), timeout),
    };
    let server = match &args.unix {
        Some(path) => whorl::internal::os::escape::shown(path),
        None => address::shown(host, port),
    };
    let done = match &args.action {
        Action::Read { mailbox } => connect().and_then(|mut client| read(&mut client, *mailbox, args.json)),
        Action::Write { mailbox, text } => {
            let text = text.as_ref().filter(|text| *text != "-").map(|text| text.as_bytes());
            connect().and_then(|mut client| write(&mut client, *mailbox, text, args.json))
        }
        Action::Watch { mailbox } => connect().and_then(|mut client| watch(&mut client, *mailbox, args.json)),
        Action::Chat { mailbox, nick } => {
            let both = connect().and_then(|talking| Ok((talking, connect()?)));
            both.and_then(|both| chat(both, *mailbox, nick.as_deref(), args.json))
        }
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            print_error(&format!("mail: {server}: {error}"));
            match error {
                ClientError::NoServer(_) => Exit::Nothing,
                ClientError::TimedOut(_) => Exit::Peers,
                _ => Exit::Failed,
            }
        }
    }
}

/// A message, or the version that one got, as JSON.
#[derive(Serialize)]
struct Json<'m> {
    mailbox: u32,
    version: u64,
    /// How many messages this reader missed before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'m str>,
    /// A message that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl<'m> Json<'m> {
    fn of_version(mailbox: u32, version: u64) -> Self {
        Self { mailbox, version, missed: None, text: None, base64: None }
    }

    fn of(mailbox: u32, message: &'m Message, missed: Option<u64>) -> Self {
        let text = std::str::from_utf8(&message.bytes).ok();
        let base64 = text.is_none().then(|| base64::encode(&message.bytes));
        Self { missed, text, base64, ..Self::of_version(mailbox, message.version) }
    }
}

fn read(client: &mut Client, mailbox: u32, json: bool) -> Result<Exit, ClientError> {
    let message = client.read(mailbox)?;
    if json {
        let printed = print_json(&Json::of(mailbox, &message, None));
        return Ok(if printed { Exit::Done } else { Exit::Failed });
    }
    let written = if output().is_terminal() {
        let text = escape::text(&message.bytes, &['\n', '\t']);
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        output().write_all(format!("{text}{end}").as_bytes())
    } else {
        output().write_all(&message.bytes)
    };
    Ok(if wrote(written) { Exit::Done } else { Exit::Failed })
}

fn write(client: &mut Client, mailbox: u32, text: Option<&[u8]>, json: bool) -> Result<Exit, ClientError> {
    let version = match text {
        Some(text) => client.write(mailbox, text)?,
        None => {
            // One byte more than fits tells that it does not.
            let most = longest(client) as u64 + 1;
            let mut message = Vec::new();
            if let Err(error) = input().take(most).read_to_end(&mut message) {
                return Ok(unreadable(&error));
            }
            if message.len() as u64 == most {
                let most = count(most - 1, "byte");
                print_error(&format!("mail: standard input is longer than the {most} that a mailbox holds"));
                return Ok(Exit::Failed);
            }
            client.write(mailbox, &message)?
        }
    };
    let printed = match json {
        true => print_json(&Json::of_version(mailbox, version)),
        false => print(&format!("version {version}")),
    };
    Ok(if printed { Exit::Done } else { Exit::Failed })
}

fn watch(client: &mut Client, mailbox: u32, json: bool) -> Result<Exit, ClientError> {
    let mut seen = 0;
    loop {
        let Some(message) = client.read_since(mailbox, seen, None)? else { continue };
        let missed = if seen == 0 { 0 } else { message.version.saturating_sub(seen + 1) };
        seen = message.version;
        if let Err(error) = show(mailbox, &message, missed, json) {
            return Ok(exit_code(Err(error)));
        }
    }
}

fn chat(
    (mut talking, mut listening): (Client, Client),
    mailbox: u32,
    nick: Option<&str>,
    json: bool,
) -> Result<Exit, ClientError> {
    let login = || std::env::var("USER").unwrap_or_else(|_| "anonymous".into());
    let nick = nick.map_or_else(login, str::to_owned);
    let mut seen = listening.read(mailbox)?.version;
    let failed = Arc::new(AtomicBool::new(false));
    let (has_failed, most) = (failed.clone(), longest(&talking));
    // The process ends when the typing thread ends, even while this thread waits.
    let listen = move || {
        loop {
            match listening.read_since(mailbox, seen, None) {
                Ok(Some(message)) => {
                    let missed = message.version.saturating_sub(seen + 1);
                    seen = message.version;
                    if let Err(error) = show(mailbox, &message, missed, json) {
                        let is_done = exit_code(Err(error)) == Exit::Done;
                        return has_failed.store(!is_done, Ordering::Relaxed);
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    print_error(&format!("mail: {error}"));
                    return has_failed.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    if let Err(error) = whorl::internal::os::thread::start_thread(std::thread::Builder::new(), listen) {
        print_error(&format!(
            "mail: cannot start a thread that listens: {}",
            whorl::internal::os::error::reason_of(&error)
        ));
        return Ok(Exit::Failed);
    }
    let mut input = BufReader::new(input());
    loop {
        // One byte more than fits tells that it does not, wherever the line ends.
        let line = match line_of(&mut input, most + 1) {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => return Ok(unreadable(&error)),
        };
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            continue;
        }
        let text = [nick.as_bytes(), b": ", line].concat();
        if text.len() > most {
            let most = count(most as u64, "byte");
            print_error(&format!(
                "mail: a line was not sent: with its name it is longer than the {most} that a mailbox holds"
            ));
            failed.store(true, Ordering::Relaxed);
            continue;
        }
        match talking.write(mailbox, &text) {
            // Only this line failed. The connection still works.
            Err(error @ ClientError::Refused(_)) => {
                print_error(&format!("mail: a line was not sent: {error}"));
                failed.store(true, Ordering::Relaxed);
            }
            other => _ = other?,
        }
    }
    Ok(if failed.load(Ordering::Relaxed) { Exit::Failed } else { Exit::Done })
}

/// Reads a line without its end and keeps its first `most` bytes. Returns `None` at the end of the input.
fn line_of(input: &mut impl BufRead, most: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut is_end = true;
    loop {
        let bytes = match input.fill_buf() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        line.extend_from_slice(&part[..part.len().min(most - line.len())]);
        let used = end.map_or(bytes.len(), |end| end + 1);
        input.consume(used);
        if used == 0 {
            return Ok((!is_end).then_some(line));
        }
        is_end = false;
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Returns the length of the longest message that the server and this client can send.
fn longest(client: &Client) -> usize {
    client.limits().capacity.min(MESSAGE_MAX)
}

fn unreadable(error: &std::io::Error) -> Exit {
    print_error(&format!(
        "mail: cannot read standard input: {}",
        whorl::internal::os::error::reason_of(error)
    ));
    Exit::Failed
}

/// Prints one message on one line, after the number of messages that this reader missed.
fn show(mailbox: u32, message: &Message, missed: u64, json: bool) -> std::io::Result<()> {
    if json {
        let text = serde_json::to_string(&Json::of(mailbox, message, Some(missed))).expect("plain data");
        return output().write_all(format!("{}\n", escape::json(&text)).as_bytes());
    }
    let text = message.bytes.strip_suffix(b"\n").unwrap_or(&message.bytes);
    let text = escape::text(text, &['\t']);
    let missed = if missed > 0 { format!("({missed} missed) ") } else { String::new() };
    output().write_all(format!("{missed}{text}\n").as_bytes())
}

/// Returns the exit code after a write to standard output.
fn exit_code(written: std::io::Result<()>) -> Exit {
    if wrote(written) { Exit::Done } else { Exit::Failed }
}
