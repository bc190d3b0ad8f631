//! One client of a mailbox server, or a kernel without some call, costs the other clients a bounded part.

mod memory;
mod test_worker;
mod waiting;

use crate::kit::mailbox_server::{Server, expect, port_of, rest, text};
use crate::kit::session::{Plain, config};
use crate::kit::{Sandbox, run};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use whorl::internal::mailbox_server::budget::Budget;
use whorl::internal::mailbox_server::out_buffer::OutBuffer;
use whorl::internal::mailbox_server::session::{CallContext, Session, WaitingFor};

/// Starts a server for which the kernel refuses a call.
fn filtered(call: libc::c_long, error: i32, args: &[&str]) -> Server {
    let sandbox = Sandbox::new();
    let mut command = sandbox.shell([&["dipc"], args].concat());
    crate::kit::seccomp::refuse(&mut command, &[call], error);
    let started = run(&mut command);
    started.has_code(0);
    Server { sandbox, port: port_of(&started.stdout) }
}

/// A client may ask for any timeout, and the older call for waiting accepts only shorter ones.
#[test]
fn a_far_deadline_ends_no_server_where_the_kernel_lacks_a_call() {
    for error in [libc::ENOSYS, libc::EPERM] {
        let server = filtered(libc::SYS_epoll_pwait2, error, &["8", "1", "0", "1", "--workers", "1"]);
        let mut patient = server.connect();
        patient.write_all(b"r 0 0 9999999999\n").unwrap();
        let mut other = server.connect();
        for round in 1..=3 {
            // The one worker has seen the long deadline once it has answered the other client.
            expect(&mut other, "r 1 0 20\n", "same 1 0\n");
            expect(&mut other, "w 2 1\nx\n", &format!("ok 2 {round}\n"));
        }
        expect(&mut other, "w 0 2\nhi\n", "ok 0 1\n");
        expect(&mut patient, "", "data 0 1 2\nhi\n");
    }
}

const TOKEN: &str = "0123456789abcdef";

/// Starts a server that asks for [`TOKEN`].
fn with_token(args: &[&str]) -> Server {
    let sandbox = Sandbox::new();
    let file = sandbox.at("token");
    std::fs::write(&file, TOKEN).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = file.to_str().unwrap().to_owned();
    Server::start_in(sandbox, &[args, &["--token-file", &file]].concat())
}

fn holder(server: &Server) -> TcpStream {
    let mut stream = server.connect();
    expect(&mut stream, &format!("a {TOKEN}\n"), "ok auth\n");
    // After the second answer it no longer counts as a client that has not sent the token.
    expect(&mut stream, "r 1\n", "data 1 0 0\n\n");
    stream
}

fn has_received_nothing(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let received = (&mut &*stream).read(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    received.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Waiting for the last line of the other end waits for an event, not for time.
#[test]
fn silent_clients_without_the_token_make_room_for_clients_with_it() {
    let server = with_token(&["2", "1", "0", "1", "--max-connections", "8", "--workers", "3"]);
    let busy = "bye busy 8 connections\n";
    let mut silent = std::collections::VecDeque::new();
    for number in 0..40 {
        let mut stream = server.connect();
        if number % 3 == 1 {
            stream.write_all(b"a 0123").unwrap(); // half a line is no line
        }
        silent.push_back(stream);
        if silent.len() > 4 {
            // Half of the places: the oldest makes room.
            assert_eq!(rest(silent.pop_front().unwrap()), busy);
            assert!(silent.iter().all(has_received_nothing));
        }
    }
    // A client with the token takes such a place, too, and leaves it once it has sent the token.
    let mut holders = vec![holder(&server)];
    assert_eq!(rest(silent.pop_front().unwrap()), busy);
    holders.extend((0..4).map(|_| holder(&server)));
    assert!(silent.iter().all(has_received_nothing), "there was room for all of these");
    // All eight places are taken. Each client with the token takes the place of a silent one.
    for stream in silent.drain(..) {
        holders.push(holder(&server));
        assert_eq!(rest(stream), busy);
    }
    assert_eq!(rest(server.connect()), busy, "clients with the token have all places");
    for stream in &mut holders {
        expect(stream, "r 0\n", "data 0 0 0\n\n");
    }
}

/// A client that sends a wrong token stays for a moment, but takes no place from another client.
#[test]
fn wrong_tokens_take_no_places() {
    let server = with_token(&["2", "1", "0", "1", "--max-connections", "8"]);
    let wrong: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = server.connect();
            // The server may have closed it already, because of later clients.
            let _ = stream.write_all(b"a wrong\n");
            stream
        })
        .collect();
    let mut stream = holder(&server);
    expect(&mut stream, "r 0\n", "data 0 0 0\n\n");
    drop(wrong);
}

#[test]
fn the_line_with_the_token_has_ten_seconds_and_a_kibibyte_whatever_comes_before_it() {
    let config = config(1, 1024, 1024, Some(TOKEN.as_bytes()));
    let mut boxes = Plain(vec![(0, Vec::new())]);
    let mut session = Session::new(false, &Budget::new(1 << 20).account(0, None), 100);
    assert_eq!(session.deadline(&config), Some(10_100), "from the start, not from the first byte");
    let mut say = |session: &mut Session, now, input: &[u8]| {
        let mut out = OutBuffer::default();
        let mut turn = CallContext {
            now,
            config: &config,
            boxes: &mut boxes,
            out: &mut out,
            room: usize::MAX,
            keeps_replies: false,
        };
        let (used, need) = session.advance(input, false, 1 << 20, &mut turn);
        (used, need, text(&out))
    };
    let nothing = |used| (used, WaitingFor::Input, String::new());
    assert_eq!(say(&mut session, 5_000, b"\n\n"), nothing(2));
    assert_eq!(session.deadline(&config), Some(10_100), "empty lines do not move it");
    assert_eq!(say(&mut session, 6_000, &[b'\n'; 1022]), nothing(1022));
    let mut late = Session::new(false, &Budget::new(1 << 20).account(0, None), 0);
    assert_eq!(say(&mut late, 0, &[b'\n'; 1000]), nothing(1000));
    let (used, need, said) = say(&mut late, 0, &[b'\n'; 1000]);
    assert_eq!((used, need), (1000, WaitingFor::Nothing));
    assert!(said.starts_with("bye auth"), "{said}");
    let right = format!("a {TOKEN}\n");
    assert_eq!(say(&mut session, 7_000, right.as_bytes()), (19, WaitingFor::Input, "ok auth\n".into()));
    assert_eq!(session.deadline(&config), None, "a client with the token may be idle");
    for _ in 0..5 {
        assert_eq!(say(&mut session, 8_000, &[b'\n'; 1000]), nothing(1000));
    }
    // The others get a line that says why the server closes the connection.
    let mut session = Session::new(false, &Budget::new(1 << 20).account(0, None), 0);
    let mut out = OutBuffer::default();
    session.expire(10_000, &mut out);
    assert_eq!(text(&out), "bye idle\n");
}

/// A socket that is closed while it holds unread input takes the last line back.
#[test]
fn a_rejected_client_gets_the_line_however_much_it_has_sent() {
    let server = Server::start(&["2", "64", "0", "4", "--max-connections", "1"]);
    let mut only = server.connect();
    expect(&mut only, "r 0\n", "data 0 0 0\n\n");
    for round in 0..20 {
        let mut stream = server.connect();
        // Before and after the server has seen it.
        for piece in 0..round {
            stream.write_all(&[b'x'; 2000]).unwrap_or_else(|error| panic!("piece {piece}: {error}"));
        }
        assert_eq!(rest(stream), "bye busy 1 connections\n");
    }
    expect(&mut only, "r 0\n", "data 0 0 0\n\n");
}
