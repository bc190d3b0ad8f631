//! `shell mail` and the library's example, against a real server.

mod dipc_support;

use dipc_support::{Place, SHELL, Server, eventually, text};
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn mail(server: &Server, args: &[&str], input: &[u8]) -> Output {
    let mut child = spawn(server, args);
    let _ = child.stdin.take().unwrap().write_all(input); // some read none of it
    child.wait_with_output().unwrap()
}

fn spawn(server: &Server, args: &[&str]) -> Child {
    let mut command = Command::new(SHELL);
    command.args(["mail", "--port", &server.port.to_string()]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let server = Server::start(&["4", "64", "0", "4"]);
    let output = mail(&server, &["write", "2", "hello there"], b"");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "version 1\n".into()));
    assert_eq!(text(&mail(&server, &["read", "2"], b"").stdout), "hello there");
    // In packets, and byte for byte.
    let large: Vec<u8> = (0..65536u32).map(|at| (at * 7 % 251) as u8).collect();
    for size in [0, 1, 4095, 4096, 4097, 8192, 65536] {
        let output = mail(&server, &["write", "3", "-"], &large[..size]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(mail(&server, &["read", "3"], b"").stdout, &large[..size]);
    }
    let output = mail(&server, &["write", "3"], &[0; 65537]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("65536 bytes that a mailbox holds"), "{output:?}");
    let output = mail(&server, &["read", "4"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("4 is not 0..3"), "{output:?}");
    assert!(text(&output.stderr).lines().count() == 1);
}

#[test]
fn watching_and_chatting() {
    let server = Server::start(&["4", "64", "0", "4"]);
    let mut watcher = spawn(&server, &["watch", "0"]);
    let mut eve = spawn(&server, &["chat", "0", "--nick", "eve"]);
    let mut bob = spawn(&server, &["chat", "0", "--nick", "bob"]);
    let mut heard = Vec::new();
    let mut listen = |child: &mut Child, so_far: &str| {
        let mut bytes = vec![0; so_far.len()];
        child.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
        heard.push(text(&bytes));
        assert_eq!(text(&bytes), so_far);
    };
    std::thread::sleep(Duration::from_millis(300)); // until all of them wait
    eve.stdin.as_mut().unwrap().write_all(b"hi\n").unwrap();
    for child in [&mut watcher, &mut eve, &mut bob] {
        listen(child, "eve: hi\n");
    }
    bob.stdin.as_mut().unwrap().write_all("\u{1b}[2Jgrün\n".as_bytes()).unwrap();
    for child in [&mut watcher, &mut eve, &mut bob] {
        listen(child, "bob: \\u{1b}[2Jgrün\n");
    }
    // The end of the input is the end of a chat.
    drop(bob.stdin.take());
    assert!(bob.wait().unwrap().success());
    assert!(server.remove(&[]).status.success());
    let ended = watcher.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("the server ended the connection: stop"), "{ended:?}");
    let _ = eve.kill();
    let _ = eve.wait();
}

#[test]
fn who_looks_too_late_is_told_how_much_was_missed() {
    let server = Server::start(&["1", "1", "0", "1"]);
    let mut watcher = spawn(&server, &["watch", "0"]);
    for number in 1..=200 {
        let mut stream = server.connect();
        let reply =
            dipc_support::converse(stream.try_clone().unwrap(), format!("w 0\n{number}\n").as_bytes());
        assert!(reply.starts_with("ok 0 "));
        let _ = stream.flush();
    }
    eventually("the last one is shown", || {
        let mut bytes = [0; 4096];
        let count = watcher.stdout.as_mut().unwrap().read(&mut bytes).unwrap();
        text(&bytes[..count]).ends_with("200\n")
    });
    let _ = watcher.kill();
    let _ = watcher.wait();
}

#[test]
fn no_server_is_one_line_and_exit_1() {
    let place = Place::new();
    let missing = place.path().join("nothing").to_str().unwrap().to_owned();
    let output = place.run(&["mail", "--unix", &missing, "read", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    for wrong in
        [&["mail"][..], &["mail", "read"], &["mail", "read", "x"], &["mail", "--port", "0", "read", "1"]]
    {
        let output = place.run(wrong);
        assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(2), 1), "{output:?}");
    }
}
