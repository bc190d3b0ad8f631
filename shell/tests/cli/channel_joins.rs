//! Receivers that join and leave while the sender streams. If a test must hit a moment, strace makes that moment
//! longer.

use crate::kit::{
    LIMIT, Running, SHELL, SOON, Sandbox, TRANSPORTS, assert_holds, lacks_strace, live_receivers, noise,
    signal, skip, start, until,
};
use rustix::process::Signal;
use std::io::Write;
use std::process::Stdio;
use whorl::internal::registry::RuntimeDir;
use whorl::{Receiver, Start};

/// A sender fed through a pipe, whose data thread needs half a second longer for each `call`.
fn slowed(sandbox: &Sandbox, call: &str, words: &str) -> Running {
    let mut command = sandbox.program("strace");
    // Without -f: other threads are not traced.
    command.args(["-D", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:delay_exit=500000"), SHELL]);
    command.args(words.split_whitespace());
    start(command.stdin(Stdio::piped()))
}

/// How many descriptors a process has open.
fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[test]
fn two_hundred_that_come_and_go_leave_no_descriptor_open() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut send = sandbox.start_fed(&format!("send x {transport} --peers 0"));
        sandbox.until_owned("x");
        let directory = RuntimeDir::open_in(&sandbox.at("run"), "whorl").unwrap();
        let options = Receiver::options().start(Start::Now).timeout(LIMIT);
        let join = || options.clone().runtime_dir(directory.path()).join(&"x".parse().unwrap()).unwrap();
        drop(join());
        until(SOON, "it is gone", || live_receivers(&sandbox.ls()[0]) == 0);
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
fn a_receiver_that_joins_as_the_last_one_leaves_gets_everything() {
    let what = "a receiver that comes in the moment in which the last one goes";
    if lacks_strace(what) {
        return;
    }
    for (transport, call) in [("--shm", "poll,ppoll"), ("--socket", "epoll_wait,epoll_pwait,epoll_pwait2")] {
        let sandbox = Sandbox::new();
        let mut send = slowed(&sandbox, call, &format!("send x {transport}"));
        let first = sandbox.start("recv x first");
        sandbox.until_joined("x", 1);
        signal(first.pid(), Signal::KILL);
        drop(first);
        // The data thread only now learns that the first receiver is gone, and a second one has joined since.
        let second = sandbox.start("recv x second --timeout 20s");
        let mut has_come = false;
        until(LIMIT, "it has come, or the sender has ended", || {
            let comes = |x: &serde_json::Value| !x["owner"].is_null() && live_receivers(x) == 1;
            has_come = sandbox.ls().iter().any(comes);
            has_come || !send.is_running()
        });
        let bytes = noise(200_000, 1);
        let _ = send.stdin().write_all(&bytes);
        send.close_stdin();
        send.end(LIMIT).has_code(4);
        if has_come {
            second.end(LIMIT).silent_success();
            assert_holds(&sandbox.at("second"), &bytes);
        } else {
            skip(&format!("{what}, {transport}"), "the sender was faster");
        }
    }
}

#[test]
fn a_receiver_that_joins_as_the_sender_finishes_gets_everything() {
    let what = "a receiver that joins as the sender finishes";
    if lacks_strace(what) {
        return;
    }
    let sandbox = Sandbox::new();
    // Each packet takes half a second, and the end too.
    let mut send = slowed(&sandbox, "sendto", "send x --socket");
    let first = start(&mut sandbox.script("exec \"$SHELL_BIN\" recv x > first"));
    send.stdin().write_all(b"text").unwrap();
    until(LIMIT, "the first has it", || {
        std::fs::read(sandbox.at("first")).is_ok_and(|bytes| bytes == b"text")
    });
    std::thread::sleep(std::time::Duration::from_millis(700));
    send.close_stdin();
    std::thread::sleep(std::time::Duration::from_millis(150));
    let second = sandbox.start("recv x second --timeout 20s");
    send.end(LIMIT).silent_success();
    first.end(LIMIT).silent_success();
    second.end(LIMIT).silent_success();
    assert_holds(&sandbox.at("second"), b"text");
    sandbox.nothing_left();
}
