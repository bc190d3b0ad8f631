//! Receivers that come and go while the sender streams. Where a moment has to be hit, strace widens it.

mod common;
mod home;

use common::{LIMIT, Live, SOON, no_strace, noise, signal, skip, start, until};
use home::Home;
use rustix::process::Signal;
use std::io::Write;
use std::process::Stdio;
use whorl::registry::RuntimeDir;
use whorl::{Receiver, Start};

/// A sender fed through a pipe, whose data thread needs half a second longer for each `call`.
fn slowed(home: &Home, call: &str, words: &str) -> Live {
    let mut command = home.place.program("strace");
    // Without -f: other threads are not traced.
    command.args(["-D", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:delay_exit=500000"), env!("CARGO_BIN_EXE_shell")]);
    command.args(words.split_whitespace()).env("XDG_RUNTIME_DIR", home.place.at("run"));
    start(command.stdin(Stdio::piped()))
}

/// How many descriptors a process has open.
fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[test]
fn two_hundred_that_come_and_go_leave_no_descriptor_open() {
    for transport in common::TRANSPORTS {
        let home = Home::new();
        let mut send = home.start_fed(&format!("send x {transport} --peers 0"));
        home.owned("x");
        let directory = RuntimeDir::open_in(&home.place.at("run"), "whorl").unwrap();
        let options = Receiver::options().start(Start::Now).timeout(LIMIT);
        let join = || options.clone().runtime_dir(directory.path()).join(&"x".parse().unwrap()).unwrap();
        drop(join());
        until(SOON, "it is gone", || home::live(&home.ls()[0]) == 0);
        let before = descriptors(send.pid());
        for round in 0..200 {
            let receiver = join();
            if round % 10 == 0 {
                send.stdin().write_all(b"news").unwrap();
            }
            drop(receiver);
        }
        let mut now = 0;
        until(SOON, &format!("there are {before} again"), || {
            now = descriptors(send.pid());
            now <= before + 2
        });
        send.close_stdin();
        send.end(LIMIT).silent_success();
    }
}

#[test]
fn who_comes_in_the_moment_in_which_the_last_one_goes_gets_everything() {
    let what = "a receiver that comes in the moment in which the last one goes";
    if no_strace(what) {
        return;
    }
    for (transport, call) in [("--shm", "poll,ppoll"), ("--socket", "epoll_wait,epoll_pwait,epoll_pwait2")] {
        let home = Home::new();
        let mut send = slowed(&home, call, &format!("send x {transport}"));
        let first = home.start("recv x first");
        home.attached("x", 1);
        signal(first.pid(), Signal::KILL);
        drop(first);
        // The data thread learns only now that the first one is gone, and meanwhile this one has come.
        let second = home.start("recv x second --timeout 20s");
        let mut has_come = false;
        until(LIMIT, "it has come, or the sender has ended", || {
            let comes = |x: &serde_json::Value| !x["owner"].is_null() && home::live(x) == 1;
            has_come = home.ls().iter().any(comes);
            has_come || !send.is_running()
        });
        let bytes = noise(200_000, 1);
        let _ = send.stdin().write_all(&bytes);
        send.close_stdin();
        send.end(LIMIT).has_code(4);
        if has_come {
            second.end(LIMIT).silent_success();
            common::assert_holds(&home.place.at("second"), &bytes);
        } else {
            skip(&format!("{what}, {transport}"), "the sender was faster");
        }
    }
}

#[test]
fn who_comes_in_the_moment_in_which_the_sender_is_through_gets_everything() {
    let what = "a receiver that comes in the moment in which the sender is through";
    if no_strace(what) {
        return;
    }
    let home = Home::new();
    // Each packet takes half a second, the end too.
    let mut send = slowed(&home, "sendto", "send x --socket");
    let first = start(&mut home.script("exec \"$SHELL_BIN\" recv x > first"));
    send.stdin().write_all(b"text").unwrap();
    until(LIMIT, "the first has it", || {
        std::fs::read(home.place.at("first")).is_ok_and(|bytes| bytes == b"text")
    });
    std::thread::sleep(std::time::Duration::from_millis(700));
    send.close_stdin();
    std::thread::sleep(std::time::Duration::from_millis(150));
    let second = home.start("recv x second --timeout 20s");
    send.end(LIMIT).silent_success();
    first.end(LIMIT).silent_success();
    second.end(LIMIT).silent_success();
    common::assert_holds(&home.place.at("second"), b"text");
    home.nothing_left();
}
