//! `shell send --lines`: each line is a message.

use crate::kit::{LIMIT, SOON, Sandbox, assert_holds, noise, run, signal, start, until};
use rustix::process::Signal;
use std::io::Write;
use whorl::{Name, Received, Receiver};

/// Receives everything, message by message.
fn messages(sandbox: &Sandbox, name: &str) -> Vec<Vec<u8>> {
    let name: Name = name.parse().unwrap();
    let options = Receiver::options().timeout(LIMIT).runtime_dir(sandbox.at("run/whorl"));
    let mut receiver = options.join(&name).unwrap();
    let (mut buffer, mut messages) = (vec![0; receiver.max_message_len()], Vec::new());
    loop {
        match receiver.recv(&mut buffer).unwrap() {
            Received::Bytes(length) => messages.push(buffer[..length].to_vec()),
            Received::End(_) => return messages,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_line_is_a_message_with_its_newline() {
    let sandbox = Sandbox::new();
    let long = "x".repeat(200_000);
    let text = format!("one\n\ntwo\n{long}\nthe end");
    sandbox.file("text", text.as_bytes());
    for source in ["text", "-"] {
        let mut send = sandbox.start_fed(&format!("send x {source} --lines --verify"));
        if source == "-" {
            send.stdin().write_all(text.as_bytes()).unwrap();
        }
        send.close_stdin();
        let lines: Vec<_> = text.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
        assert_eq!(messages(&sandbox, "x"), lines, "{source}");
        send.end(LIMIT).silent_success();
        let mut send = sandbox.start_fed(&format!("send x {source} --lines --verify"));
        if source == "-" {
            send.stdin().write_all(text.as_bytes()).unwrap();
        }
        send.close_stdin();
        sandbox.start("recv x taken --verify").end(LIMIT).silent_success();
        send.end(LIMIT).silent_success();
        assert_holds(&sandbox.at("taken"), text.as_bytes());
    }
    sandbox.nothing_left();
}

#[test]
fn a_line_arrives_when_it_is_complete() {
    let sandbox = Sandbox::new();
    let mut send = sandbox.start_fed("send x --lines");
    let recv = start(&mut sandbox.script("exec \"$SHELL_BIN\" recv x > out"));
    send.stdin().write_all(b"whole\nhalf").unwrap();
    let has = |bytes: &[u8]| std::fs::read(sandbox.at("out")).is_ok_and(|have| have == bytes);
    until(SOON, "the whole line is there", || has(b"whole\n"));
    send.stdin().write_all(b" and the rest\n").unwrap();
    until(SOON, "the rest came with its beginning", || has(b"whole\nhalf and the rest\n"));
    send.close_stdin();
    send.end(LIMIT).silent_success();
    recv.end(LIMIT).silent_success();
}

#[test]
fn thousands_of_lines_wait_for_a_stopped_receiver_and_a_long_one_passes_the_same_ring() {
    let sandbox = Sandbox::new();
    let mut send = sandbox.start_fed("send x --lines");
    let recv = sandbox.start("recv x out");
    sandbox.until_joined("x", 1);
    signal(recv.pid(), Signal::STOP);
    let mut text = Vec::new();
    for number in 0..9000 {
        writeln!(text, "{number:099}").unwrap();
    }
    send.stdin().write_all(&text).unwrap();
    until(LIMIT, "all lines are in the ring", || sandbox.ls()[0]["sent_bytes"] == text.len());
    signal(recv.pid(), Signal::CONT);
    let mut long: Vec<u8> = noise(400 << 10, 3).iter().map(|byte| byte | 0x80).collect();
    long.push(b'\n');
    send.stdin().write_all(&long).unwrap();
    send.close_stdin();
    send.end(LIMIT).silent_success();
    recv.end(LIMIT).silent_success();
    assert_holds(&sandbox.at("out"), &[text, long].concat());
    sandbox.nothing_left();
}

#[test]
fn a_line_that_no_ring_of_this_size_takes_is_an_error() {
    let sandbox = Sandbox::new();
    let text = format!("short\n{}\nshort\n", "x".repeat(2040));
    sandbox.file("text", text.as_bytes());
    let recv = sandbox.start("recv x out");
    run(&mut sandbox.words("send x text --lines --ring 4K")).refusal(1, &["line 2", "2040 bytes", "--ring"]);
    recv.end(LIMIT).has_code(4).one_line(&["the sender died before the end"]);
    assert!(!sandbox.at("out").exists());
    let send = sandbox.start("send x text --lines --ring 8K");
    sandbox.start("recv x out").end(LIMIT).silent_success();
    send.end(LIMIT).silent_success();
    assert_holds(&sandbox.at("out"), text.as_bytes());
    // A hole has no newline.
    std::fs::File::create(sandbox.at("hole")).unwrap().set_len(1 << 30).unwrap();
    let recv = sandbox.start("recv x out");
    run(&mut sandbox.words("send x hole --lines")).refusal(1, &["line 1", "--ring"]);
    recv.end(LIMIT).has_code(4);
    for other in ["--socket", "--block 4K"] {
        run(&mut sandbox.words(&format!("send x text --lines {other}"))).refusal(2, &["--lines"]);
    }
    sandbox.nothing_left();
}
