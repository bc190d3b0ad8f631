//! `shell mail` and the library's example, against a real server.

use crate::kit::mailbox_server::{Server, converse};
use crate::kit::{
    Ended, LIMIT, Running, Sandbox, all_at_once, assert_holds, run, start, start_with_stdout, until,
};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;
use whorl::internal::mailbox_server::client::{Client, ClientError};

/// `shell mail` for a server, with a pipe as standard input.
fn mail_command(server: &Server, args: &[&str]) -> Command {
    let mut command = server.sandbox.shell(["mail", "--port", &server.port.to_string()]);
    command.args(args).stdin(Stdio::piped());
    command
}

fn mail(server: &Server, args: &[&str], input: &[u8]) -> Ended {
    let mut process = start(&mut mail_command(server, args));
    let _ = process.stdin().write_all(input); // some commands read none of it
    process.close_stdin();
    process.end(LIMIT)
}

#[test]
fn what_is_written_is_read() {
    let server = Server::start(&["4", "64", "0", "4"]);
    let output = mail(&server, &["write", "2", "hello there"], b"");
    assert_eq!((output.status.code(), output.stdout), (Some(0), "version 1\n".into()));
    assert_eq!(mail(&server, &["read", "2"], b"").stdout, "hello there");
    // In packets, and byte for byte.
    let large: Vec<u8> = (0..65536u32).map(|at| (at * 7 % 251) as u8).collect();
    for size in [0, 1, 4095, 4096, 4097, 8192, 65536] {
        let output = mail(&server, &["write", "3", "-"], &large[..size]);
        assert!(output.status.success(), "{output:?}");
        let file = std::fs::File::create(server.sandbox.at("read")).unwrap();
        let reading = start_with_stdout(&mut mail_command(&server, &["read", "3"]), file.into());
        reading.end(LIMIT).silent_success();
        assert_holds(&server.sandbox.at("read"), &large[..size]);
    }
    let output = mail(&server, &["write", "3"], &[0; 65537]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("65,536 bytes that a mailbox holds"), "{output:?}");
    let output = mail(&server, &["read", "4"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("4 is not 0..3"), "{output:?}");
    assert!(output.stderr.lines().count() == 1);
}

#[test]
fn watching_and_chatting() {
    let server = Server::start(&["4", "64", "0", "4"]);
    let watcher = start(&mut mail_command(&server, &["watch", "0"]));
    let mut eve = start(&mut mail_command(&server, &["chat", "0", "--nick", "eve"]));
    let mut bob = start(&mut mail_command(&server, &["chat", "0", "--nick", "bob"]));
    // A chat prints the messages written after its first look.
    let mut number = 0;
    until(LIMIT, "all of them have looked", || {
        number += 1;
        mail(&server, &["write", "0", &format!("message {number}\n")], b"").has_code(0);
        [&watcher, &eve, &bob].iter().all(|process| process.stdout().contains("message "))
    });
    let shown = |processes: [&Running; 3], text: &str| {
        for process in processes {
            until(LIMIT, text, || process.stdout().ends_with(text));
        }
    };
    shown([&watcher, &eve, &bob], &format!("message {number}\n"));
    eve.stdin().write_all(b"hi\n").unwrap();
    shown([&watcher, &eve, &bob], "eve: hi\n");
    bob.stdin().write_all("\u{1b}[2Jgrün\n".as_bytes()).unwrap();
    shown([&watcher, &eve, &bob], "eve: hi\nbob: \\u{1b}[2Jgrün\n");
    // The end of the input ends the chat.
    bob.close_stdin();
    bob.end(LIMIT).has_code(0);
    server.remove(&[]).has_code(0);
    let ended = watcher.end(LIMIT);
    ended.has_code(1);
    assert!(ended.stderr.contains("the server ended the connection: stop"), "{ended:?}");
}

#[test]
fn a_late_watcher_reports_how_many_messages_it_missed() {
    let server = Server::start(&["1", "1", "0", "1"]);
    let watcher = start(&mut mail_command(&server, &["watch", "0"]));
    for number in 1..=200 {
        let reply = converse(server.connect(), format!("w 0\n{number}\n").as_bytes());
        assert!(reply.starts_with("ok 0 "));
    }
    until(LIMIT, "the last one is shown", || watcher.stdout().ends_with("200\n"));
}

#[test]
fn no_server_is_one_line_and_exit_3() {
    let sandbox = Sandbox::new();
    let at = |name: &str| sandbox.at(name).to_str().unwrap().to_owned();
    drop(std::os::unix::net::UnixListener::bind(at("left")).unwrap());
    // A port without a server. It is bound, so that no other process takes it.
    let bound =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&bound, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let port = std::net::SocketAddr::try_from(rustix::net::getsockname(&bound).unwrap()).unwrap().port();
    for to in [["--unix", &at("nothing")], ["--unix", &at("left")], ["--port", &port.to_string()]] {
        let output = sandbox.run(["mail", to[0], to[1], "read", "0"]);
        let said = &output.stderr;
        assert_eq!((output.status.code(), said.lines().count()), (Some(3), 1), "{output:?}");
        assert!(said.contains("no mailbox server listens there"), "{said}");
    }
    let long = at(&"x".repeat(200));
    let output = sandbox.run(["mail", "--unix", &long, "read", "0"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = &output.stderr;
    assert!(said.contains(&format!("the path has {} bytes", long.len())) && said.contains("107"), "{said}");
    for wrong in
        [&["mail"][..], &["mail", "read"], &["mail", "read", "x"], &["mail", "--port", "0", "read", "1"]]
    {
        let output = sandbox.run(wrong);
        assert_eq!((output.status.code(), output.stderr.lines().count()), (Some(2), 3), "{output:?}");
    }
}

/// A server of another kind: it answers each line with what `reply` returns, and then waits for the next line.
fn foreign_server(reply: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let converse = move |mut stream: TcpStream| {
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            if stream.write_all(&reply(&line)).is_err() {
                break;
            }
        }
    };
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for stream in listener.incoming() {
                scope.spawn(|| converse(stream.unwrap()));
            }
        });
    });
    port
}

fn mail_to(port: u16, args: &[&str]) -> Ended {
    Sandbox::new().run(["mail", "--port", &port.to_string()].iter().chain(args))
}

#[track_caller]
fn does_not_answer(output: &Ended) {
    let said = &output.stderr;
    assert_eq!((output.status.code(), said.lines().count()), (Some(4), 1), "{output:?}");
    assert!(said.contains("the server does not answer: no reply within 0.5 s"), "{said}");
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for() {
    let info = |line: &str| if line == "i" { b"info 1 1 65536 4096\n".to_vec() } else { Vec::new() };
    let (silent, stopped) = (foreign_server(|_| Vec::new()), foreign_server(info));
    let mut client = Client::tcp_within("127.0.0.1", stopped, None, Some(Duration::from_secs(2))).unwrap();
    let waited = client.read_since(0, 0, Some(Duration::from_millis(300)));
    assert!(matches!(waited, Err(ClientError::TimedOut(_))), "{waited:?}");
    // A server that sends single bytes makes progress, but does not answer either.
    let dripping = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let drips = dripping.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut stream = dripping.accept().unwrap().0;
        while stream.write_all(b"9").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    // Nor does a server that accepts no connection: a unix socket with a full queue.
    let sandbox = Sandbox::new();
    let path = sandbox.at("full");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let full = path.to_str().unwrap();
    let asked = [
        format!("--port {silent} read 0"),
        format!("--port {stopped} read 0"),
        format!("--port {stopped} write 0 text"),
        // This command may wait for messages, so it asks a stopped server again before it fails.
        format!("--port {stopped} watch 0"),
        format!("--port {drips} read 0"),
        format!("--unix {full} read 0"),
    ];
    all_at_once(asked, |words| {
        does_not_answer(&run(&mut sandbox.words(&format!("mail --timeout 500ms {words}"))));
    });
}

#[test]
fn a_server_takes_no_more_memory_than_a_mailbox_can_have() {
    let huge = 1_u64 << 62;
    let replies = [
        format!("data 0 1 {huge}\n"),
        format!("data 0 1 {}\n", (1_u64 << 31) + 1),
        // Packets without data, without end; packets of another mailbox; packets of another version.
        "data 0 1 0+\n\n".repeat(1000),
        "data 1 1 1\nx\n".into(),
        format!("data 0 1 4096+\n{}\ndata 0 2 1\nx\n", "x".repeat(4096)),
    ];
    for reply in replies {
        let (shown, info) = (reply[..20.min(reply.len())].to_owned(), format!("info 1 1 {huge} 4096\n"));
        let port = foreign_server(move |line| if line == "i" { info.clone() } else { reply.clone() }.into());
        let output = mail_to(port, &["read", "0"]);
        let said = &output.stderr;
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{shown} {output:?}");
        assert!(said.contains("this is not a mailbox server: it answered 'data "), "{shown} {said}");
    }
}

#[test]
fn what_cannot_be_written_or_read_is_an_error_of_its_own() {
    let server = Server::start(&["1", "1", "0", "1"]);
    assert!(mail(&server, &["write", "0", "hello"], b"").status.success());
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let to_full = |args: &[&str], input: Stdio| {
        start_with_stdout(mail_command(&server, args).stdin(input), full()).end(LIMIT)
    };
    for args in [&["watch", "0"][..], &["read", "0"], &["write", "0", "x"]] {
        let output = to_full(args, Stdio::null());
        assert_eq!(output.status.code(), Some(1), "{args:?} {output:?}");
        assert!(output.stderr.contains("cannot write to standard output: no space left"), "{output:?}");
    }
    for args in [&["write", "0", "-"][..], &["chat", "0"]] {
        let directory = Stdio::from(std::fs::File::open("/").unwrap());
        let output = to_full(args, directory);
        assert_eq!(output.status.code(), Some(1), "{args:?} {output:?}");
        let said = "shell: mail: cannot read standard input: is a directory\n";
        assert_eq!(output.stderr, said, "{args:?}");
    }
}

#[test]
fn a_line_that_is_too_long_is_reported_and_the_chat_continues() {
    let server = Server::start(&["1", "1", "0", "1"]);
    let input = format!("one\n{}\n\nthree", "x".repeat(100_000));
    let output = mail(&server, &["chat", "0", "--nick", "me"], input.as_bytes());
    let said = &output.stderr;
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{output:?}");
    assert!(said.contains("a line was not sent") && said.contains("1,024 bytes"), "{said}");
    assert_eq!(mail(&server, &["read", "0"], b"").stdout, "me: three");
    // A line of exactly the largest size is sent.
    let fits = "y".repeat(1024 - "me: ".len());
    assert!(mail(&server, &["chat", "0", "--nick", "me"], fits.as_bytes()).status.success());
    assert_eq!(mail(&server, &["read", "0"], b"").stdout, format!("me: {fits}"));
}
