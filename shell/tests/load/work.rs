//! Hard conditions for commands: a busy machine, signals all the time, a clock that jumps. And work for the commands,
//! of which nothing may be lost.

#![allow(dead_code, reason = "each test uses a part of it")]

use crate::kit::machine::Background;
use crate::kit::mailbox_server::{port_of, read_line};
use crate::kit::{LIMIT, Running, Sandbox, TRANSPORTS, all_pids, assert_holds, noise, start};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::scope;
use std::time::Duration;

/// Environment variables for every command of a test.
pub type Along = Vec<(&'static str, String)>;

/// The signals of a storm.
const STORM: [Signal; 6] =
    [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::CHILD, Signal::WINCH, Signal::URG];

/// Sends signals every 100 us to every command with this runtime directory that has handlers for them.
pub fn storm(sandbox: &Sandbox) -> Background {
    let root = sandbox.at("run");
    let (mut targets, mut turn) = (Vec::new(), 0usize);
    Background::start(Duration::from_micros(100), move || {
        if turn.is_multiple_of(32) {
            targets = with_handlers(&root);
        }
        turn += 1;
        let signal = STORM[turn % STORM.len()];
        targets
            .iter()
            .filter(|pid| kill_process(Pid::from_raw(**pid).expect("a pid"), signal).is_ok())
            .count() as u64
    })
}

/// The processes with this runtime directory that have installed the handlers.
fn with_handlers(root: &Path) -> Vec<i32> {
    let ours = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let wanted = [b"XDG_RUNTIME_DIR=", root.as_os_str().as_encoded_bytes()].concat();
        environment.split(|byte| *byte == 0).any(|line| line == wanted)
    };
    let catches = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        STORM.iter().all(|signal| mask >> (signal.as_raw() - 1) & 1 == 1)
    };
    all_pids().into_iter().filter(ours).filter(catches).collect()
}

/// A library to preload, with handlers for the signals of a storm. The error says why there is none.
pub fn handlers(sandbox: &Sandbox) -> Result<Along, &'static str> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/load/handlers.c");
    let library = sandbox.at("handlers.so");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    match built {
        Ok(status) if status.success() => Ok(vec![("LD_PRELOAD", library.display().to_string())]),
        _ => Err("there is no C compiler"),
    }
}

/// A wall clock that jumps by up to a year, back and forth, for every command with this environment. The error says why
/// there is none.
pub fn jumps(sandbox: &Sandbox) -> Result<(Along, Background), &'static str> {
    const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1"; // the loader knows what $LIB is
    let says = Command::new("date")
        .args(["+%Y"])
        .env("LD_PRELOAD", LIBRARY)
        .env("FAKETIME", "@1987-06-05 12:00:00")
        .output();
    if !says.is_ok_and(|date| date.stdout.starts_with(b"1987")) {
        return Err("faketime is not there");
    }
    let offset = sandbox.file("offset", b"+0");
    let along = vec![
        ("LD_PRELOAD", LIBRARY.to_owned()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let fresh = sandbox.at("offset.new");
    let mut state = 11;
    let jumping = Background::start(Duration::from_millis(3), move || {
        let days = crate::kit::next(&mut state) % 731;
        let text = if days > 365 { format!("+{}d", days - 365) } else { format!("-{days}d") };
        // The file changes in one step, because the tool cannot read half an offset.
        fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &offset)).map_or(0, |()| 1)
    });
    Ok((along, jumping))
}

fn begin(sandbox: &Sandbox, along: &Along, words: &str) -> Running {
    start(sandbox.words(words).envs(along.iter().map(|(name, value)| (name, value))))
}

/// Copies a file to eight receivers, by both transports. All of them get it.
pub fn copies(sandbox: &Sandbox, along: &Along, length: usize) {
    let bytes = noise(length, 5);
    sandbox.file("source", &bytes);
    for transport in TRANSPORTS {
        begin(sandbox, along, &format!("copy {transport} -n 8 --verify -q source"))
            .end(LIMIT * 2)
            .has_code(0);
        for peer in 1..=8 {
            assert_holds(&sandbox.received(peer, "source"), &bytes);
        }
        fs::remove_dir_all(sandbox.at("received-files")).expect("it is there");
    }
}

/// Sends a file to four receivers that are started by themselves, by both transports. All of them get it.
pub fn channels(sandbox: &Sandbox, along: &Along, length: usize) {
    let bytes = noise(length, 6);
    sandbox.file("source", &bytes);
    for transport in TRANSPORTS {
        let send = begin(sandbox, along, &format!("send x source --peers 4 --verify -q {transport}"));
        let receivers: Vec<_> =
            (0..4).map(|i| begin(sandbox, along, &format!("recv x out{i} --verify -q"))).collect();
        for (i, recv) in receivers.into_iter().enumerate() {
            recv.end(LIMIT * 2).has_code(0);
            assert_holds(&sandbox.at(format!("out{i}")), &bytes);
        }
        // It may print that it waits for a receiver.
        send.end(LIMIT * 2).has_code(0);
    }
}

/// Two writers and two readers of two mailboxes, over the network. No write is lost, no message is torn, and versions
/// only grow.
pub fn mailboxes(sandbox: &Sandbox, along: &Along, writes: u64) {
    let said = begin(sandbox, along, "dipc 2 1 0 1").end(LIMIT);
    said.silent_success();
    let server = Server { sandbox, port: port_of(&said.stdout) };
    let port = server.port;
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a time");
        stream
    };
    scope(|threads| {
        for mailbox in 0..2u64 {
            threads.spawn(move || {
                let mut stream = connect();
                for version in 1..=writes {
                    let bytes = message(mailbox, version);
                    let head = format!("w {mailbox} {}\n", bytes.len());
                    stream.write_all(&[head.as_bytes(), &bytes, b"\n"].concat()).expect("it reads");
                    assert_eq!(read_line(&mut stream), format!("ok {mailbox} {version}"), "a write is lost");
                }
            });
            threads.spawn(move || {
                let (mut stream, mut known) = (connect(), 0);
                while known < writes {
                    stream.write_all(format!("r {mailbox} {known}\n").as_bytes()).expect("it reads");
                    let head = read_line(&mut stream);
                    let words: Vec<_> = head.split(' ').collect();
                    let [_, _, version, length] = words[..] else { panic!("no data: {head}") };
                    let (version, length): (u64, usize) = (version.parse().unwrap(), length.parse().unwrap());
                    let mut bytes = vec![0; length + 1];
                    stream.read_exact(&mut bytes).expect("the message");
                    bytes.pop();
                    assert!(version > known, "version {version} after {known}");
                    assert_eq!(bytes, message(mailbox, version), "version {version} is torn");
                    known = version;
                }
            });
        }
    });
    begin(sandbox, along, &format!("dipcrm {port}")).end(LIMIT).has_code(0);
}

/// A mailbox server in the background, which must not outlive a test that fails.
struct Server<'a> {
    sandbox: &'a Sandbox,
    port: u16,
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // Usually it is gone already.
        let _ = self.sandbox.words(&format!("dipcrm {} --force", self.port)).stderr(Stdio::null()).status();
    }
}

/// The message that the writer of a mailbox writes as version `version`: at most a packet.
fn message(mailbox: u64, version: u64) -> Vec<u8> {
    noise(16 + version as usize % 900, mailbox << 32 | version)
}
