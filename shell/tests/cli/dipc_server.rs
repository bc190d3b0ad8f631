//! A real mailbox server over real sockets: its replies, the clients that it waits for, and the clients that it
//! refuses.

use crate::kit::mailbox_server::{Server, converse, expect, port_of, read_line, rest, text};
use crate::kit::oracle::{Oracle, agrees};
use crate::kit::{LIMIT, SOON, Sandbox, cpu_ticks, signal, until};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};
use whorl::Mailboxes;

#[test]
fn conversations_over_tcp_agree_with_the_document() {
    let server = Server::start(&["8", "64", "0", "4"]);
    let mut oracle = Oracle::new(8, 65536, 4096);
    let packet = "x".repeat(4096);
    let (large, huge) = ("x".repeat(5000), "x".repeat(65537));
    let scripts = [
        "r 0\n".to_owned(),
        "w 0 0\n\nr 0\n".into(),
        "w 1 3\na\nb\nr 1\nq\n".into(),
        "w 0 3\nabcd\nr 0\n".into(),
        "w 0\n\nw 0\r\nhi\r\nr 0\r\n".into(),
        format!("w 0 4096+\n{packet}\nw 0 1\nz\nr 0\n"),
        format!("w 0 4096+\n{packet}\nr 0\n"),
        format!("{}w 0 0\n\nr 0\n", format!("w 0 4096+\n{packet}\n").repeat(17)),
        "w 99 2\nhi\nr 0\n".into(),
        format!("w 0 5000\n{large}\nr 0\n"),
        "w 0 5\nhe".into(),
        "w 0 x5\n".into(),
        format!("w 0 -\n{huge}"),
        format!("w 0 -\n{}", &huge[1..]),
        "r 0\n".into(),
        "r 3 0 0\nr 3 1\n".into(),
        "a wrong\ni\n".into(),
        "x".repeat(129),
        "\n\nq\n".into(),
        "w 18446744073709551616 1\n".into(),
        "get\nr\nr 9\nq x\nq 1\n".into(),
        "w 99 9999999999\n".into(),
    ];
    for script in &scripts {
        let expected = oracle.converse(script.as_bytes());
        let replies = converse(server.connect(), script.as_bytes());
        assert!(agrees(&expected, replies.as_bytes()), "{script:.200?}\n{replies:.300}\n{expected:.3?}");
    }
    // Again, in pieces that arrive separately.
    for script in scripts.iter().filter(|script| script.len() < 100) {
        let expected = oracle.converse(script.as_bytes());
        let mut stream = server.connect();
        for byte in script.bytes() {
            if stream.write_all(&[byte]).is_err() {
                break; // it has closed the connection already
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        let _ = stream.shutdown(Shutdown::Write);
        let replies = rest(stream);
        assert!(agrees(&expected, replies.as_bytes()), "{script:?}\n{replies}\n{expected:?}");
    }
}

#[test]
fn a_waiting_read_is_woken_by_any_writer() {
    let server = Server::start(&["4", "1", "0", "1", "--workers", "2"]);
    let mut waiting: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    let mut writer = server.connect();
    let mut attached = Mailboxes::attach(server.control().as_path()).unwrap();
    for round in 0..40u64 {
        let mailbox = round % 4;
        let since = round / 4;
        for stream in &mut waiting {
            stream.write_all(format!("r {mailbox} {since}\n").as_bytes()).unwrap();
        }
        if round % 8 < 4 {
            std::thread::sleep(Duration::from_millis(3));
        }
        let version = since + 1;
        if round % 2 == 0 {
            expect(&mut writer, &format!("w {mailbox} 2\nhi\n"), &format!("ok {mailbox} {version}\n"));
        } else {
            assert_eq!(attached.write(mailbox as u32, b"hi").unwrap(), version);
        }
        let started = Instant::now();
        for stream in &mut waiting {
            expect(stream, "", &format!("data {mailbox} {version} 2\nhi\n"));
        }
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    }
    // And in the other direction.
    let mut other = attached.try_clone().unwrap();
    let waiter = std::thread::spawn(move || other.wait_newer(1, 10, None).unwrap().unwrap());
    std::thread::sleep(Duration::from_millis(20));
    expect(&mut writer, "w 1 5\nthere\n", "ok 1 11\n");
    let message = waiter.join().unwrap();
    assert_eq!((message.version, &message.bytes[..]), (11, &b"there"[..]));
}

#[test]
fn a_waiting_read_ends_in_time_and_holds_back_only_its_own_connection() {
    let server = Server::start(&["4", "1", "0", "1"]);
    let mut stream = server.connect();
    let started = Instant::now();
    expect(&mut stream, "r 0 0 150\nw 0 1\nx\n", "same 0 0\nok 0 1\n");
    assert!(started.elapsed() >= Duration::from_millis(145), "{:?}", started.elapsed());
    // A client that closes its half does not wait, and its requests behind the wait are still answered.
    assert_eq!(
        converse(server.connect(), b"r 0 1\nw 0 1\ny\nr 0 1\n"),
        "same 0 1\nok 0 2\ndata 0 2 1\ny\nbye quit\n"
    );
    let mut stream = server.connect();
    stream.write_all(b"r 0 2\n").unwrap();
    std::thread::sleep(Duration::from_millis(30));
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(stream), "same 0 2\nbye quit\n");
}

#[test]
fn a_client_that_does_not_read_stops_only_itself() {
    let server = Server::start(&["2", "64", "0", "64"]);
    let mut stuck = server.connect();
    let body = "x".repeat(65536);
    expect(&mut stuck, &format!("w 0 65536\n{body}\n"), "ok 0 1\n");
    stuck.set_nonblocking(true).unwrap();
    let mut sent = 0;
    // It asks for gigabytes, until the server stops reading from it.
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(500) && sent < 40 << 20 {
        match stuck.write(&b"r 0\n".repeat(4096)) {
            Ok(count) => (sent, quiet) = (sent + count, Instant::now()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    assert!(server.memory() < 40_000, "{} KiB", server.memory());
    let mut other = server.connect();
    expect(&mut other, "w 1 1\nx\nr 1\n", "ok 1 1\ndata 1 1 1\nx\n");
    // It reads on, and gets every reply.
    stuck.set_nonblocking(false).unwrap();
    let reply = format!("data 0 1 65536\n{body}\n");
    for _ in 0..2000.min(sent / 4) {
        expect(&mut stuck, "", &reply);
    }
}

#[test]
fn a_token_is_asked_for_and_the_same_user_needs_none_on_a_unix_socket() {
    let sandbox = Sandbox::new();
    let token = sandbox.at("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let path = sandbox.at("mail.sock");
    let (token, unix) = (token.to_str().unwrap().to_owned(), path.to_str().unwrap().to_owned());
    let args = ["2", "1", "0", "1", "--unix", &unix, "--token-file", &token];
    let refused = sandbox.run([&["dipc"], &args[..]].concat());
    assert_eq!(refused.status.code(), Some(2), "others can read the token");
    assert!(refused.stderr.contains("chmod 600"));
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start_in(sandbox, &args);
    for wrong in ["r 0\n", "a wrong\n", "a 0123456789abcdeF\n", "w 0 1\nx\n", "i\n"] {
        let started = Instant::now();
        assert!(converse(server.connect(), wrong.as_bytes()).starts_with("bye auth"));
        let mut stream = server.connect();
        stream.write_all(wrong.as_bytes()).unwrap();
        assert!(rest(stream).starts_with("bye auth"));
        assert!(started.elapsed() >= Duration::from_millis(400), "a wrong guess costs some time");
    }
    assert_eq!(converse(server.connect(), b"a 0123456789abcdef\nr 0\n"), "ok auth\ndata 0 0 0\n\nbye quit\n");
    let mut stream = UnixStream::connect(&path).unwrap();
    expect(&mut stream, "w 0 2\nhi\nr 0\n", "ok 0 1\ndata 0 1 2\nhi\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // A client that closes both halves is still served.
    UnixStream::connect(&path).unwrap().write_all(b"w 1 4\ngone\nr 1 1\n").unwrap();
    until(LIMIT, "what it sent was stored", || {
        converse_unix(&path, b"r 1\n") == "data 1 1 4\ngone\nbye quit\n"
    });
    signal(server.pid(), Signal::KILL);
    until(LIMIT, "it is dead", || UnixStream::connect(&path).is_err());
    assert!(path.exists() && server.remove(&[]).status.success());
    assert!(!path.exists(), "a dead server's socket is cleared away");
}

fn converse_unix(path: &std::path::Path, input: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(input).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    rest(stream)
}

#[test]
fn too_many_clients_are_refused_and_idle_ones_are_closed() {
    let server = Server::start(&["2", "1", "0", "1", "--max-connections", "3", "--idle", "400ms"]);
    let mut kept: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for stream in &mut kept {
        expect(stream, "r 0\n", "data 0 0 0\n\n");
    }
    let started = Instant::now();
    assert_eq!(rest(server.connect()), "bye busy 3 connections\n");
    kept[0].write_all(b"r 0 0\n").unwrap(); // waits, hence is not idle
    kept[1].write_all(b"w 0 10\nhalf").unwrap();
    for stream in &mut kept[1..] {
        assert_eq!(rest(stream), "bye idle\n");
    }
    assert!(started.elapsed() >= Duration::from_millis(380), "{:?}", started.elapsed());
    until(LIMIT, "there is room again", || {
        let mut stream = server.connect();
        stream.write_all(b"w 0 1\nx\nq\n").unwrap();
        rest(stream) == "ok 0 1\nbye quit\n"
    });
    expect(&mut kept[0], "", "data 0 1 1\nx\n");
}

#[test]
fn half_a_line_is_waited_for_ten_seconds_however_it_drips() {
    let server = Server::start(&["2", "1", "0", "1"]);
    let mut stream = server.connect();
    stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let started = Instant::now();
    let mut line = [0; 64];
    let count = loop {
        let _ = stream.write_all(b"r");
        match stream.read(&mut line) {
            Ok(count) => break count,
            Err(_) => assert!(started.elapsed() < LIMIT),
        }
    };
    assert_eq!(text(&line[..count]), "bye idle\n");
    assert!(started.elapsed() >= Duration::from_millis(9_900), "{:?}", started.elapsed());
}

#[test]
fn without_descriptors_clients_wait_and_the_processor_rests() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.shell(["dipc", "1", "1", "0", "1", "--foreground", "--workers", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let port = port_of(&read_line(child.stdout.as_mut().unwrap()));
    let limit = rustix::process::Rlimit { current: Some(40), maximum: Some(40) };
    let pid = rustix::process::Pid::from_raw(child.id() as i32);
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let clients: Vec<TcpStream> = (0..300).map(|_| connect()).collect();
    let ticks = || cpu_ticks(child.id() as i32);
    // A server that turns in circles uses 100 ticks, or its share of a busy machine, in every second.
    until(LIMIT, "in some second the server hardly uses the processor", || {
        let before = ticks();
        std::thread::sleep(Duration::from_secs(1));
        ticks() - before <= 5
    });
    drop(clients);
    until(LIMIT, "it serves again", || {
        let mut stream = connect();
        let sent = stream.write_all(b"r 0\nq\n");
        let mut replies = String::new();
        sent.is_ok() && stream.read_to_string(&mut replies).is_ok() && replies == "data 0 0 0\n\nbye quit\n"
    });
    signal(child.id() as i32, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The test counts what the greedy client gets while the other one waits, not the time, because a slow machine is slow
/// to both. It discards the greedy client's replies unread, faster than any server makes them, so that no full buffer
/// stops that client.
#[test]
fn a_greedy_client_does_not_delay_other_clients() {
    const REQUESTS: usize = 5000;
    let all = REQUESTS * ("data 0 1 65536\n\n".len() + 65536);
    let server = Server::start(&["2", "64", "0", "64", "--workers", "1"]);
    let mut other = server.connect();
    expect(&mut other, &format!("w 0 65536\n{}\n", "x".repeat(65536)), "ok 0 1\n");
    let greedy = server.connect();
    let mut mouth = greedy.try_clone().unwrap();
    let talking = std::thread::spawn(move || mouth.write_all(&b"r 0\n".repeat(REQUESTS)).is_ok());
    let mut buffer = vec![0; 1 << 20];
    let mut taken = |client: &TcpStream, flags| match rustix::net::recv(
        client,
        &mut buffer[..],
        flags | RecvFlags::DONTWAIT,
    ) {
        Err(Errno::AGAIN) => 0,
        other => other.map(|(_, count)| count).ok().filter(|&count| count > 0).expect("a connection"),
    };
    let (mut got, mut turns, mut most) = (0, 0, 0);
    while got < all {
        let before = got;
        other.write_all(b"r 1\n").unwrap();
        let (mut reply, mut looks) = (0, 0);
        while reply < "data 1 0 0\n\n".len() {
            let count = taken(&greedy, RecvFlags::TRUNC);
            got += count;
            reply += taken(&other, RecvFlags::empty());
            // Also counted in looks: neither client gets anything for this long only if the server serves none.
            looks = if count == 0 { looks + 1 } else { 0 };
            assert!(looks < 100_000, "neither is served, after {got} bytes");
            if count == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        turns += 1;
        most = most.max(got - before);
    }
    assert!(talking.join().unwrap());
    println!("{turns} turns beside {all} bytes, at most {most} bytes between two");
    // The data in the sockets' buffers when the other client asks, and one turn. An unfair server makes the other
    // client wait for all data.
    assert!(most < all / 2, "{most} of {all} bytes in one turn");
}
