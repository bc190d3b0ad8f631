//! `shell mail`: a mailbox client for people and scripts.

use crate::cli::mail::{Action, Args};
use crate::exit::Exit;
use crate::terminal::{print, say, wrote};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use whorl::dipc::client::{Client, ClientError};
use whorl::dipc::token;
use whorl::escape;
use whorl::mailboxes::Message;
use whorl::standard::{input, output};

/// Runs it.
pub fn run(args: Args) -> Exit {
    let token = match args.token_file.as_deref().map(token::read).transpose() {
        Ok(token) => token,
        Err(error) => {
            say(&format!("mail: --token-file: {error}"));
            return Exit::Usage;
        }
    };
    let connect = || match &args.unix {
        Some(path) => Client::unix(path, token.as_deref()),
        None => Client::tcp(&args.host, args.port, token.as_deref()),
    };
    let server = match &args.unix {
        Some(path) => whorl::shown(path),
        None => format!("{}:{}", escape::line(&args.host), args.port),
    };
    let done = match &args.action {
        Action::Read { mailbox } => connect().and_then(|mut client| read(&mut client, *mailbox)),
        Action::Write { mailbox, text } => {
            let text = text.as_ref().filter(|text| *text != "-").map(|text| text.as_bytes());
            connect().and_then(|mut client| write(&mut client, *mailbox, text))
        }
        Action::Watch { mailbox } => connect().and_then(|mut client| watch(&mut client, *mailbox)),
        Action::Chat { mailbox, nick } => {
            let both = connect().and_then(|talking| Ok((talking, connect()?)));
            both.and_then(|(talking, listening)| chat(talking, listening, *mailbox, nick.as_deref()))
        }
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            say(&format!("mail: {server}: {error}"));
            Exit::Failed
        }
    }
}

fn read(client: &mut Client, mailbox: u32) -> Result<Exit, ClientError> {
    let message = client.read(mailbox)?;
    let written = if output().is_terminal() {
        let text = escape::text(&message.bytes, &['\n', '\t']);
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        output().write_all(format!("{text}{end}").as_bytes())
    } else {
        output().write_all(&message.bytes)
    };
    Ok(if wrote(written) { Exit::Done } else { Exit::Failed })
}

fn write(client: &mut Client, mailbox: u32, text: Option<&[u8]>) -> Result<Exit, ClientError> {
    let version = match text {
        Some(text) => client.write(mailbox, text)?,
        None => {
            // One byte more than fits tells that it does not.
            let most = client.shape().capacity as u64 + 1;
            let mut message = Vec::new();
            input().take(most).read_to_end(&mut message)?;
            if message.len() as u64 == most {
                say(&format!(
                    "mail: standard input has more than the {} bytes that a mailbox holds",
                    most - 1
                ));
                return Ok(Exit::Failed);
            }
            client.write(mailbox, &message)?
        }
    };
    Ok(if print(&format!("version {version}")) { Exit::Done } else { Exit::Failed })
}

fn watch(client: &mut Client, mailbox: u32) -> Result<Exit, ClientError> {
    let mut seen = 0;
    loop {
        let Some(message) = client.read_since(mailbox, seen, None)? else { continue };
        let missed = if seen == 0 { 0 } else { message.version.saturating_sub(seen + 1) };
        seen = message.version;
        if !show(&message, missed) {
            return Ok(Exit::Done);
        }
    }
}

fn chat(
    mut talking: Client,
    mut listening: Client,
    mailbox: u32,
    nick: Option<&str>,
) -> Result<Exit, ClientError> {
    let login = || std::env::var("USER").unwrap_or_else(|_| "somebody".into());
    let nick = nick.map_or_else(login, str::to_owned);
    let mut seen = listening.read(mailbox)?.version;
    // The process ends with the typing thread, whatever this one waits for.
    let listen = move || {
        loop {
            match listening.read_since(mailbox, seen, None) {
                Ok(Some(message)) => {
                    let missed = message.version.saturating_sub(seen + 1);
                    seen = message.version;
                    if !show(&message, missed) {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => return say(&format!("mail: {error}")),
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().spawn(listen) {
        say(&format!("mail: cannot start a thread that listens: {}", whorl::reason_of(&error)));
        return Ok(Exit::Failed);
    }
    for line in BufReader::new(input()).split(b'\n') {
        let line = line?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if !line.is_empty() {
            talking.write(mailbox, &[nick.as_bytes(), b": ", line].concat())?;
        }
    }
    Ok(Exit::Done)
}

/// One message on one line, and how many came before it that nobody saw. False: nobody reads us.
fn show(message: &Message, missed: u64) -> bool {
    let text = message.bytes.strip_suffix(b"\n").unwrap_or(&message.bytes);
    let text = escape::text(text, &['\t']);
    let missed = if missed > 0 { format!("({missed} missed) ") } else { String::new() };
    output().write_all(format!("{missed}{text}\n").as_bytes()).is_ok()
}
