//! SIGKILL: of programs that are attached to the mailboxes, at any instruction, and of network clients after every
//! byte. No survivor waits long, and no reader ever reads half a message.

use crate::kit::bytes::{is_whole, message};
use crate::kit::command::spawn_until_said;
use crate::kit::machine::Lateness;
use crate::kit::mailbox_server::{Server, expect, read_line, rest, text};
use crate::kit::users::reset;
use crate::kit::{LIMIT, own_test, until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use whorl::Mailboxes;

const MOST: usize = 256 << 10;
const KILLS: usize = 500;
/// No survivor waits longer, apart from this machine's own lateness.
const LONGEST: Duration = Duration::from_millis(250);

/// Not a test of its own: the program that is killed. It reads and writes without a pause, so that it is nearly always
/// inside a lock, in the middle of a copy.
#[test]
fn victim() {
    let Some(control) = std::env::var_os("WHORL_TEST_CONTROL") else { return };
    let mut mailboxes = Mailboxes::attach(Path::new(&control)).unwrap();
    let reads = std::env::var_os("WHORL_TEST_READS").is_some();
    let long = vec![7; MOST];
    println!("attached");
    let mut seed = u64::from(std::process::id()) << 32;
    loop {
        if reads {
            mailboxes.read_with(0, None, |_, _| ()).unwrap();
        } else if seed % 2 == 0 {
            // The pattern takes long to make, and the victim should be in the lock.
            mailboxes.write(1, &long).unwrap();
        } else {
            mailboxes.write(0, &message(seed, MOST)).unwrap();
        }
        seed += 1;
    }
}

fn spawn_victim(server: &Server, reads: bool) -> Child {
    let mut command = own_test(module_path!(), "victim");
    command.env("WHORL_TEST_CONTROL", server.control());
    if reads {
        command.env("WHORL_TEST_READS", "1");
    }
    spawn_until_said(&mut command, "attached")
}

#[test]
fn five_hundred_attached_programs_are_killed() {
    let server = Server::start(&["2", "256", "0", "64"]);
    let noise = Lateness::measure();
    let end = AtomicBool::new(false);
    let longest = AtomicU64::new(0);
    let (reads, writes) = (AtomicU64::new(0), AtomicU64::new(0));
    let timed = |act: &mut dyn FnMut()| {
        let before = Instant::now();
        act();
        longest.fetch_max(before.elapsed().as_micros() as u64, Relaxed);
        // The survivors share two processors with the victims.
        std::thread::sleep(Duration::from_millis(1));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut mailboxes = Mailboxes::attach(server.control().as_path()).unwrap();
            while !end.load(Relaxed) {
                timed(&mut || {
                    let whole = mailboxes.read_with(0, None, |bytes, _| bytes.to_vec()).unwrap();
                    reads.fetch_add(1, Relaxed);
                    assert!(is_whole(&whole, MOST), "half a message");
                });
            }
        });
        scope.spawn(|| {
            let mut mailboxes = Mailboxes::attach(server.control().as_path()).unwrap();
            let mut seed = 0;
            while !end.load(Relaxed) {
                seed += 1;
                let message = message(seed, MOST);
                timed(&mut || {
                    mailboxes.write(seed as u32 % 2, &message).unwrap();
                    writes.fetch_add(1, Relaxed);
                });
            }
        });
        scope.spawn(|| {
            let mut stream = server.connect();
            while !end.load(Relaxed) {
                timed(&mut || expect(&mut stream, "w 1 5\nshort\n", "ok 1 "));
                read_line(&mut stream);
            }
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for kill in 0..KILLS {
                let mut child = spawn_victim(&server, kill % 2 == 0);
                std::thread::sleep(Duration::from_micros(kill as u64 * 7919 % 9000));
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }));
        end.store(true, Relaxed);
        assert!(ended.is_ok());
    });
    let longest = Duration::from_micros(longest.load(Relaxed));
    println!(
        "{KILLS} killed; survivors: {} reads, {} writes, longest wait {longest:?}, noise {:?}",
        reads.load(Relaxed),
        writes.load(Relaxed),
        noise.worst()
    );
    // The lateness counts once for each process that must run before a survivor can: the dying victim, the process that
    // reclaims it, and the survivor.
    assert!(longest <= LONGEST + 3 * noise.worst(), "a survivor waited {longest:?}");
    assert!(reads.load(Relaxed) > 500 && writes.load(Relaxed) > 500);
    // Every seat is free again.
    let all: Vec<Mailboxes> =
        (0..100).map(|_| Mailboxes::attach(server.control().as_path()).unwrap()).collect();
    drop(all);
}

/// Not a test of its own: a network client that sends what it gets as input, and is then killed.
#[test]
fn network_victim() {
    let Some(port) = std::env::var_os("WHORL_TEST_PORT") else { return };
    let part = std::env::var("WHORL_TEST_SENDS").unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port.to_str().unwrap().parse().unwrap())).unwrap();
    stream.write_all(part.as_bytes()).unwrap();
    println!("attached");
    std::thread::sleep(Duration::from_secs(60));
}

/// To the server a killed client is a connection that ends, or that is reset if replies were unread. So each request
/// ends after each of its bytes: by a kill, by a half-close, and by a reset.
#[test]
fn network_clients_end_after_every_byte() {
    let server = Server::start(&["2", "1", "0", "1"]);
    let mut witness = server.connect();
    expect(&mut witness, "w 0 3\nold\n", "ok 0 1\n");
    let requests = [
        ("w 0 26\nabcdefghijklmnopqrstuvwxyz\n", "abcdefghijklmnopqrstuvwxyz"),
        ("w 0 20+\n01234567890123456789\nw 0 3\nnew\n", "01234567890123456789new"),
        ("w 0\ntyped by hand\n", "typed by hand"),
        ("r 0\nr 1 0\n", "typed by hand"),
    ];
    let sockets = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().flatten();
        let targets = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        targets.filter(|to| to.to_string_lossy().starts_with("socket:")).count()
    };
    let (mut ended, mut killed) = (0, 0);
    let mut current = (1, "old");
    let (known, lateness) = (sockets(), Lateness::measure());
    for (request, message) in requests {
        for length in 0..=request.len() {
            let part = &request[..length];
            for _ in 0..2 {
                let mut command = own_test(module_path!(), "network_victim");
                command.env("WHORL_TEST_PORT", server.port.to_string()).env("WHORL_TEST_SENDS", part);
                let mut child = spawn_until_said(&mut command, "attached");
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
            }
            let mut stream = server.connect();
            stream.write_all(part.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let replies = rest(stream);
            assert!(replies.ends_with("inside a request\n") || replies.ends_with("bye quit\n"), "{replies}");
            let mut stream = server.connect();
            stream.write_all(part.as_bytes()).unwrap();
            reset(stream);
            ended += 2;
            // The server may still read what the other clients have sent.
            until(LIMIT, "the server has closed the others' connections", || sockets() == known);
            let before = Instant::now();
            witness.write_all(b"r 0\n").unwrap();
            let (version, bytes) = reply(&mut witness);
            let longest = LONGEST + 3 * lateness.worst();
            assert!(before.elapsed() < longest, "the others wait: {:?}", before.elapsed());
            if length == request.len() && request.starts_with('w') {
                assert!(version > current.0, "whole requests count");
                current = (version, message);
            }
            assert_eq!((version, &text(&bytes)[..]), current, "after {part:?}");
        }
    }
    assert!(killed >= 200 && ended >= 200, "{killed} {ended}");
    println!("{killed} clients killed, {ended} ended otherwise");
}

/// Version and bytes of a `data` reply.
fn reply(stream: &mut TcpStream) -> (u64, Vec<u8>) {
    let line = read_line(stream);
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [word, _, version, size] = fields[..] else { panic!("{line}") };
    assert_eq!(word, "data");
    let mut bytes = vec![0; size.parse::<usize>().unwrap() + 1];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes.pop(), Some(b'\n'));
    (version.parse().unwrap(), bytes)
}
