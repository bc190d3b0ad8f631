//! Named channels with processes that are killed, stopped, or ended by a signal.

use crate::kit::small;
use crate::kit::{
    LIMIT, SOON, Sandbox, TRANSPORTS, all_at_once, assert_holds, live_receivers, noise, run, signal, start,
    until,
};
use rustix::process::Signal;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

#[test]
fn a_killed_receiver_is_named_and_the_others_get_everything() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut sender = sandbox.start_fed(&format!("send x {transport} --peers 3"));
        let victim = start(&mut sandbox.words("recv x victim"));
        let others = ["a", "b"].map(|file| sandbox.start(&format!("recv x {file}")));
        let bytes = noise(6 << 20, 1);
        sender.stdin().write_all(&bytes[..1 << 20]).unwrap();
        sandbox.until_joined("x", 3);
        let pid = victim.pid();
        signal(pid, Signal::KILL);
        let begun = Instant::now();
        until(SOON, "it is gone from the list", || live_receivers(&sandbox.ls()[0]) == 2);
        assert!(begun.elapsed() < SOON);
        sender.stdin().write_all(&bytes[1 << 20..]).unwrap();
        sender.close_stdin();
        let sent = sender.end(LIMIT);
        sent.has_code(4).one_line(&[&format!("pid {pid}"), "lost"]);
        for (other, file) in others.into_iter().zip(["a", "b"]) {
            other.end(LIMIT).silent_success();
            assert_holds(&sandbox.at(file), &bytes);
        }
        drop(victim);
        assert!(!sandbox.at("victim").exists());
        sandbox.nothing_left();
    }
}

#[test]
fn a_killed_sender_is_an_error_and_its_name_can_be_had_at_once() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut sender = sandbox.start_fed(&format!("send x {transport} --peers 2"));
        let to_file = sandbox.start("recv x out");
        let to_stdout = start(&mut sandbox.script("exec \"$SHELL_BIN\" recv x > through"));
        sender.stdin().write_all(b"the beginning").unwrap();
        until(SOON, "the beginning has arrived", || {
            std::fs::read(sandbox.at("through")).is_ok_and(|bytes| bytes == b"the beginning")
        });
        signal(sender.pid(), Signal::KILL);
        for receiver in [to_file, to_stdout] {
            let ended = receiver.end(SOON);
            ended.has_code(4).one_line(&["recv: x", "the sender died before the end"]);
        }
        assert!(!sandbox.at("out").exists());
        drop(sender);
        assert_eq!(sandbox.left(), ["x.sock"]);
        assert_eq!(sandbox.ls()[0]["state"], "stale");
        // The same name again, in both orders.
        let recv = sandbox.start("recv x again");
        sandbox.until_awaited("x", 1);
        assert_eq!(sandbox.ls().len(), 2, "a stale name, and one with a waiting receiver");
        run(&mut sandbox.script(&format!("echo again | shell send x {transport}"))).silent_success();
        recv.end(LIMIT).silent_success();
        assert_holds(&sandbox.at("again"), b"again\n");
        sandbox.nothing_left();
    }
}

#[test]
fn a_sender_that_is_killed_before_it_begins_is_not_the_end_of_waiting_but_of_taking_part() {
    let sandbox = Sandbox::new();
    let waiting = sandbox.start("recv x out");
    sandbox.until_awaited("x", 1);
    // The sender is killed before a receiver has joined. A waiting receiver continues to wait.
    let sender = sandbox.start_fed("send y");
    sandbox.until_owned("y");
    signal(sender.pid(), Signal::KILL);
    drop(sender);
    run(&mut sandbox.script("echo now | shell send x")).silent_success();
    waiting.end(LIMIT).silent_success();
    assert_eq!(sandbox.left(), ["y.sock"]);
    run(&mut sandbox.words("rm --dead")).has_code(0);
    sandbox.nothing_left();
}

#[test]
fn each_process_dies_of_the_signal_that_stops_it_and_leaves_nothing() {
    for (number, which) in [(2, Signal::INT), (15, Signal::TERM), (1, Signal::HUP)] {
        for transport in TRANSPORTS {
            let sandbox = Sandbox::new();
            // While it waits for the other side.
            let recv = sandbox.start("recv x");
            sandbox.until_awaited("x", 1);
            signal(recv.pid(), which);
            assert_eq!(recv.end(SOON).status.signal(), Some(number));
            let send = sandbox.start_fed(&format!("send x {transport}"));
            sandbox.until_owned("x");
            signal(send.pid(), which);
            assert_eq!(send.end(SOON).status.signal(), Some(number));
            sandbox.nothing_left();
            // While the stream runs.
            let mut send = sandbox.start_fed(&format!("send x {transport}"));
            let recv = sandbox.start("recv x out");
            send.stdin().write_all(b"some").unwrap();
            sandbox.until_joined("x", 1);
            signal(send.pid(), which);
            assert_eq!(send.end(SOON).status.signal(), Some(number));
            recv.end(SOON).has_code(4);
            sandbox.nothing_left();
        }
    }
}

#[test]
fn a_sender_whose_last_receiver_ends_by_a_signal_fails() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut send = sandbox.start_fed(&format!("send x {transport}"));
        let recv = sandbox.start("recv x out");
        // A sender that has sent nothing yet waits for another receiver instead.
        send.stdin().write_all(b"some").unwrap();
        until(LIMIT, "the sender has begun", || {
            sandbox.ls().iter().any(|channel| channel["sent_bytes"].as_u64() > Some(0))
        });
        signal(recv.pid(), Signal::TERM);
        assert_eq!(recv.end(LIMIT).status.signal(), Some(15));
        let _ = send.stdin().write_all(b" more");
        let sent = send.end(LIMIT);
        sent.has_code(4);
        assert!(sent.stderr.contains("no receiver is left"), "{sent:?}");
        sandbox.nothing_left();
    }
}

#[test]
fn a_stopped_receiver_is_waited_for_and_named() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        let bytes = noise(4 << 20, 2);
        sandbox.file("source", &bytes);
        let recv = sandbox.start("recv x out");
        sandbox.until_awaited("x", 1);
        signal(recv.pid(), Signal::STOP);
        let other = sandbox.start("recv x other");
        let send = sandbox.start(&format!("send x source {transport} --peers 1"));
        // The other receiver makes the sender begin. The stopped one cannot have joined.
        other.end(LIMIT).silent_success();
        assert!(send.end(SOON).status.success());
        signal(recv.pid(), Signal::CONT);
        // While the stream runs: the second receiver makes the sender begin, and the first one takes nothing.
        let send = sandbox.start(&format!("send x source {} --peers 2", small(transport)));
        sandbox.until_joined("x", 1);
        signal(recv.pid(), Signal::STOP);
        let other = sandbox.start("recv x other");
        until(SOON, "the sender waits for the receiver", || send.stderr().contains("waiting for peer 1"));
        let listed = &sandbox.ls()[0]["receivers"][0];
        assert_eq!((&listed["state"], listed["lag_bytes"].as_u64() > Some(0)), (&"stopped".into(), true));
        assert!(!sandbox.at("out").exists());
        signal(recv.pid(), Signal::CONT);
        send.end(LIMIT).has_code(0);
        for (receiver, file) in [(recv, "out"), (other, "other")] {
            receiver.end(LIMIT).silent_success();
            assert_holds(&sandbox.at(file), &bytes);
        }
        sandbox.nothing_left();
    });
}

#[test]
fn a_receiver_that_blocks_the_sender_is_evicted_if_asked_for() {
    let sandbox = Sandbox::new();
    let bytes = noise(4 << 20, 7);
    sandbox.file("source", &bytes);
    let send = sandbox.start("send x source --peers 2 --ring 256K --evict-after 2s");
    let slow = sandbox.start("recv x slow");
    sandbox.until_joined("x", 1);
    signal(slow.pid(), Signal::STOP);
    let fast = sandbox.start("recv x fast");
    fast.end(LIMIT).silent_success();
    assert_holds(&sandbox.at("fast"), &bytes);
    signal(slow.pid(), Signal::CONT);
    slow.end(LIMIT).has_code(4).one_line(&["evicted for being too slow"]);
    send.end(LIMIT).has_code(4);
    assert!(!sandbox.at("slow").exists());
    sandbox.nothing_left();
}

#[test]
fn a_killed_receiver_unblocks_the_sender_soon() {
    // The ring is full because of the victim. The sender must continue when the victim dies.
    let sandbox = Sandbox::new();
    let bytes = noise(2 << 20, 9);
    sandbox.file("source", &bytes);
    let send = sandbox.start("send x source --peers 2 --ring 256K");
    let victim = sandbox.start("recv x victim");
    sandbox.until_joined("x", 1);
    signal(victim.pid(), Signal::STOP);
    let other = sandbox.start("recv x other");
    until(SOON, "the sender waits for the receiver", || send.stderr().contains("waiting for peer"));
    assert!(!sandbox.at("other").exists());
    let begun = Instant::now();
    signal(victim.pid(), Signal::KILL);
    other.end(LIMIT).silent_success();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    send.end(LIMIT).has_code(4);
    assert_holds(&sandbox.at("other"), &bytes);
    drop(victim);
    sandbox.nothing_left();
}
