//! Receivers that take nothing: waited for, given up on after a time, or thrown out; the same over both transports.

mod common;
mod home;

use common::{LIMIT, SOON, TRANSPORTS, assert_holds, noise, run, signal, start, until};
use home::Home;
use rustix::process::Signal;
use std::io::Write;
use std::time::Duration;

#[test]
fn who_is_stopped_for_good_is_thrown_out_told_so_and_named() {
    for transport in TRANSPORTS {
        for streams in [false, true] {
            let home = Home::new();
            let bytes = noise(4 << 20, 7);
            home.place.file("source", &bytes);
            let source = if streams { "-" } else { "source" };
            let mut send =
                home.start_fed(&format!("send x {source} {transport} --peers 2 --slots 2 --evict-after 2s"));
            let slow = home.start("recv x slow");
            home.attached("x", 1);
            signal(slow.pid(), Signal::STOP);
            let fast = home.start("recv x fast");
            if streams {
                send.stdin().write_all(&bytes).unwrap();
            }
            send.close_stdin();
            fast.end(LIMIT).silent_success();
            assert_holds(&home.place.at("fast"), &bytes);
            // It is still stopped: who was evicted is not waited for.
            let sent = send.end(LIMIT);
            sent.has_code(4);
            let last = sent.stderr.lines().last().unwrap_or_default();
            assert!(last.contains(&format!("(pid {}) was evicted", slow.pid())), "{sent:?}");
            signal(slow.pid(), Signal::CONT);
            slow.end(LIMIT).has_code(4).one_line(&["recv: x", "evicted for being too slow"]);
            assert!(!home.place.at("slow").exists());
            home.nothing_left();
        }
    }
}

#[test]
fn what_lies_unread_in_a_sockets_buffer_counts_as_not_taken() {
    let home = Home::new();
    home.place.file("source", b"a few bytes");
    let send = home.start("send x source --socket --peers 2 --evict-after 300ms");
    let slow = home.start("recv x slow");
    home.attached("x", 1);
    signal(slow.pid(), Signal::STOP);
    home.start("recv x fast").end(LIMIT).silent_success();
    send.end(LIMIT).has_code(4).one_line(&[&format!("(pid {}) was evicted", slow.pid())]);
    // The sender could not know, but everything had reached it.
    signal(slow.pid(), Signal::CONT);
    slow.end(LIMIT).silent_success();
    assert_holds(&home.place.at("slow"), b"a few bytes");
    home.nothing_left();
}

#[test]
fn who_has_nothing_to_take_is_not_thrown_out() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut send = home.start_fed(&format!("send x {transport} --evict-after 200ms"));
        let recv = start(&mut home.script("exec \"$SHELL_BIN\" recv x > out"));
        send.stdin().write_all(b"some").unwrap();
        until(SOON, "it has that", || {
            std::fs::read(home.place.at("out")).is_ok_and(|bytes| bytes == b"some")
        });
        signal(recv.pid(), Signal::STOP);
        std::thread::sleep(Duration::from_millis(700));
        signal(recv.pid(), Signal::CONT);
        send.stdin().write_all(b" more").unwrap();
        send.close_stdin();
        send.end(LIMIT).silent_success();
        recv.end(LIMIT).silent_success();
        assert_holds(&home.place.at("out"), b"some more");
    }
}

#[test]
fn the_last_one_thrown_out_leaves_nobody() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let bytes = noise(4 << 20, 7);
        let mut send = home.start_fed(&format!("send x {transport} --slots 2 --evict-after 300ms"));
        let slow = home.start("recv x slow");
        home.attached("x", 1);
        signal(slow.pid(), Signal::STOP);
        // The sender ends while this is written.
        let _ = send.stdin().write_all(&bytes);
        let sent = send.end(LIMIT);
        sent.has_code(4);
        assert!(sent.stderr.contains(&format!("(pid {}) was evicted", slow.pid())), "{sent:?}");
        assert!(sent.stderr.contains("no receiver is left"), "{sent:?}");
        signal(slow.pid(), Signal::CONT);
        slow.end(LIMIT).has_code(4);
        assert!(!home.place.at("slow").exists());
        home.nothing_left();
    }
}

#[test]
fn a_timeout_ends_the_wait_for_a_receiver_that_does_not_move() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut send = home.start_fed(&format!("send x {transport} --slots 2 --timeout 700ms"));
        let slow = home.start("recv x slow");
        home.attached("x", 1);
        signal(slow.pid(), Signal::STOP);
        // More than its ring, its window or its socket takes: the sender ends while this is written.
        let _ = send.stdin().write_all(&noise(4 << 20, 7));
        let sent = send.end(LIMIT);
        sent.has_code(4);
        let last = sent.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("send: timed out waiting for a receiver"), "{sent:?}");
        signal(slow.pid(), Signal::CONT);
        slow.end(LIMIT).has_code(4).one_line(&["recv: x", "the sender died before the end"]);
        assert!(!home.place.at("slow").exists());
        home.nothing_left();
    }
}

#[test]
fn waiting_for_all_can_be_asked_for_by_name() {
    let home = Home::new();
    run(&mut home.words("send x --lossless --evict-after 1s")).refusal(2, &["--lossless", "--evict-after"]);
    for transport in TRANSPORTS {
        let bytes = noise(1 << 20, 3);
        home.place.file("source", &bytes);
        let recv = home.start("recv x out");
        run(&mut home.words(&format!("send x source {transport} --lossless"))).silent_success();
        recv.end(LIMIT).silent_success();
        assert_holds(&home.place.at("out"), &bytes);
    }
    home.nothing_left();
}
