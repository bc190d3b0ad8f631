//! Receivers that take nothing: the sender waits for them, gives up after a time, or evicts them. Both transports do
//! the same.

use crate::kit::small;
use crate::kit::{
    LIMIT, SOON, Sandbox, TRANSPORTS, all_at_once, assert_holds, noise, run, signal, start, until,
};
use rustix::process::Signal;
use std::io::Write;
use std::time::Duration;

#[test]
fn a_receiver_stopped_for_good_is_evicted_notified_and_named() {
    all_at_once(TRANSPORTS, |transport| {
        for streams in [false, true] {
            let sandbox = Sandbox::new();
            let bytes = noise(4 << 20, 7);
            sandbox.file("source", &bytes);
            let source = if streams { "-" } else { "source" };
            let mut send = sandbox
                .start_fed(&format!("send x {source} {} --peers 2 --evict-after 2s", small(transport)));
            let slow = sandbox.start("recv x slow");
            sandbox.until_joined("x", 1);
            signal(slow.pid(), Signal::STOP);
            let fast = sandbox.start("recv x fast");
            if streams {
                send.stdin().write_all(&bytes).unwrap();
            }
            send.close_stdin();
            fast.end(LIMIT).silent_success();
            assert_holds(&sandbox.at("fast"), &bytes);
            // It is still stopped: the sender does not wait for an evicted receiver.
            let sent = send.end(LIMIT);
            sent.has_code(4);
            let last = sent.stderr.lines().last().unwrap_or_default();
            assert!(last.contains(&format!("(pid {}) was evicted", slow.pid())), "{sent:?}");
            signal(slow.pid(), Signal::CONT);
            slow.end(LIMIT).has_code(4).one_line(&["recv: x", "evicted for being too slow"]);
            assert!(!sandbox.at("slow").exists());
            sandbox.nothing_left();
        }
    });
}

#[test]
fn what_lies_unread_in_a_sockets_buffer_counts_as_not_taken() {
    let sandbox = Sandbox::new();
    sandbox.file("source", b"a few bytes");
    let send = sandbox.start("send x source --socket --peers 2 --evict-after 2s");
    let slow = sandbox.start("recv x slow");
    sandbox.until_joined("x", 1);
    signal(slow.pid(), Signal::STOP);
    sandbox.start("recv x fast").end(LIMIT).silent_success();
    let sent = send.end(LIMIT);
    let last = sent.has_code(4).stderr.lines().last().unwrap_or_default();
    assert!(last.contains(&format!("(pid {}) was evicted", slow.pid())), "{sent:?}");
    // The sender could not know, but everything had reached the receiver.
    signal(slow.pid(), Signal::CONT);
    slow.end(LIMIT).silent_success();
    assert_holds(&sandbox.at("slow"), b"a few bytes");
    sandbox.nothing_left();
}

#[test]
fn a_receiver_with_nothing_to_take_is_not_evicted() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        let mut send = sandbox.start_fed(&format!("send x {transport} --evict-after 1s"));
        let recv = start(&mut sandbox.script("exec \"$SHELL_BIN\" recv x > out"));
        send.stdin().write_all(b"some").unwrap();
        until(SOON, "it has that", || std::fs::read(sandbox.at("out")).is_ok_and(|bytes| bytes == b"some"));
        // It writes the bytes before it releases their space.
        until(LIMIT, "it has nothing left to take", || sandbox.ls()[0]["receivers"][0]["lag_bytes"] == 0);
        signal(recv.pid(), Signal::STOP);
        std::thread::sleep(Duration::from_millis(2500)); // silence is the assertion
        signal(recv.pid(), Signal::CONT);
        send.stdin().write_all(b" more").unwrap();
        send.close_stdin();
        send.end(LIMIT).silent_success();
        recv.end(LIMIT).silent_success();
        assert_holds(&sandbox.at("out"), b"some more");
    });
}

#[test]
fn evicting_the_last_receiver_leaves_none() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        let bytes = noise(4 << 20, 7);
        let mut send = sandbox.start_fed(&format!("send x {} --evict-after 300ms", small(transport)));
        let slow = sandbox.start("recv x slow");
        sandbox.until_joined("x", 1);
        signal(slow.pid(), Signal::STOP);
        // The sender ends while this is written.
        let _ = send.stdin().write_all(&bytes);
        let sent = send.end(LIMIT);
        sent.has_code(4);
        assert!(sent.stderr.contains(&format!("(pid {}) was evicted", slow.pid())), "{sent:?}");
        assert!(sent.stderr.contains("no receiver is left"), "{sent:?}");
        signal(slow.pid(), Signal::CONT);
        slow.end(LIMIT).has_code(4);
        assert!(!sandbox.at("slow").exists());
        sandbox.nothing_left();
    });
}

#[test]
fn a_timeout_ends_the_wait_for_a_receiver_that_does_not_move() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        let mut send = sandbox.start_fed(&format!("send x {} --timeout 2s", small(transport)));
        let slow = sandbox.start("recv x slow");
        sandbox.until_joined("x", 1);
        signal(slow.pid(), Signal::STOP);
        // More than its ring, its window or its socket takes: the sender ends while this is written.
        let _ = send.stdin().write_all(&noise(4 << 20, 7));
        let sent = send.end(LIMIT);
        sent.has_code(4);
        let last = sent.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("send: timed out waiting for a receiver"), "{sent:?}");
        signal(slow.pid(), Signal::CONT);
        slow.end(LIMIT).has_code(4).one_line(&["recv: x", "the sender died before the end"]);
        assert!(!sandbox.at("slow").exists());
        sandbox.nothing_left();
    });
}

#[test]
fn waiting_for_all_can_be_asked_for_by_name() {
    let sandbox = Sandbox::new();
    run(&mut sandbox.words("send x --lossless --evict-after 1s"))
        .refusal(2, &["--lossless", "--evict-after"]);
    for transport in TRANSPORTS {
        let bytes = noise(1 << 20, 3);
        sandbox.file("source", &bytes);
        let recv = sandbox.start("recv x out");
        run(&mut sandbox.words(&format!("send x source {transport} --lossless"))).silent_success();
        recv.end(LIMIT).silent_success();
        assert_holds(&sandbox.at("out"), &bytes);
    }
    sandbox.nothing_left();
}
