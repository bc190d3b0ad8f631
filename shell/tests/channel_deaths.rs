//! Channels with names whose processes are killed, stopped or told to stop.

mod common;
mod home;

use common::{LIMIT, SOON, TRANSPORTS, assert_holds, noise, run, signal, start, until};
use home::Home;
use rustix::process::Signal;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

#[test]
fn a_killed_receiver_is_named_and_the_others_get_everything() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut sender = home.start_fed(&format!("send x {transport} --peers 3"));
        let victim = start(&mut home.words("recv x victim"));
        let others = ["a", "b"].map(|file| home.start(&format!("recv x {file}")));
        let bytes = noise(6 << 20, 1);
        sender.stdin().write_all(&bytes[..1 << 20]).unwrap();
        home.attached("x", 3);
        let pid = victim.pid();
        signal(pid, Signal::KILL);
        let begun = Instant::now();
        until(SOON, "it is gone from the list", || home::live(&home.ls()[0]) == 2);
        assert!(begun.elapsed() < SOON);
        sender.stdin().write_all(&bytes[1 << 20..]).unwrap();
        sender.close_stdin();
        let sent = sender.end(LIMIT);
        sent.has_code(4).one_line(&[&format!("pid {pid}"), "lost"]);
        for (other, file) in others.into_iter().zip(["a", "b"]) {
            other.end(LIMIT).silent_success();
            assert_holds(&home.place.at(file), &bytes);
        }
        drop(victim);
        assert!(!home.place.at("victim").exists());
        home.nothing_left();
    }
}

#[test]
fn a_killed_sender_is_an_error_and_its_name_can_be_had_at_once() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut sender = home.start_fed(&format!("send x {transport} --peers 2"));
        let to_file = home.start("recv x out");
        let to_stdout = start(&mut home.script("exec \"$SHELL_BIN\" recv x > through"));
        sender.stdin().write_all(b"the beginning").unwrap();
        until(SOON, "the beginning has arrived", || {
            std::fs::read(home.place.at("through")).is_ok_and(|bytes| bytes == b"the beginning")
        });
        signal(sender.pid(), Signal::KILL);
        for receiver in [to_file, to_stdout] {
            let ended = receiver.end(SOON);
            ended.has_code(4).one_line(&["recv: x", "the sender died before the end"]);
        }
        assert!(!home.place.at("out").exists());
        drop(sender);
        assert_eq!(home.left(), ["x.sock"]);
        assert_eq!(home.ls()[0]["state"], "stale");
        // The same name at once, in both orders.
        let recv = home.start("recv x again");
        home.awaited("x", 1);
        assert_eq!(home.ls().len(), 2, "what is stale, and who waits");
        run(&mut home.script(&format!("echo again | shell send x {transport}"))).silent_success();
        recv.end(LIMIT).silent_success();
        assert_holds(&home.place.at("again"), b"again\n");
        home.nothing_left();
    }
}

#[test]
fn a_sender_that_is_killed_before_it_begins_is_not_the_end_of_waiting_but_of_taking_part() {
    let home = Home::new();
    let waiting = home.start("recv x out");
    home.awaited("x", 1);
    // Killed while nobody has joined: whoever waits waits on.
    let sender = home.start_fed("send y");
    home.owned("y");
    signal(sender.pid(), Signal::KILL);
    drop(sender);
    run(&mut home.script("echo now | shell send x")).silent_success();
    waiting.end(LIMIT).silent_success();
    assert_eq!(home.left(), ["y.sock"]);
    run(&mut home.words("rm --dead")).has_code(0);
    home.nothing_left();
}

#[test]
fn everybody_dies_of_the_signal_that_stops_it_and_leaves_nothing() {
    for (number, which) in [(2, Signal::INT), (15, Signal::TERM), (1, Signal::HUP)] {
        for transport in TRANSPORTS {
            let home = Home::new();
            // Waiting for the other side.
            let recv = home.start("recv x");
            home.awaited("x", 1);
            signal(recv.pid(), which);
            assert_eq!(recv.end(SOON).status.signal(), Some(number));
            let send = home.start_fed(&format!("send x {transport}"));
            home.owned("x");
            signal(send.pid(), which);
            assert_eq!(send.end(SOON).status.signal(), Some(number));
            home.nothing_left();
            // Under way.
            let mut send = home.start_fed(&format!("send x {transport}"));
            let recv = home.start("recv x out");
            send.stdin().write_all(b"some").unwrap();
            home.attached("x", 1);
            signal(send.pid(), which);
            assert_eq!(send.end(SOON).status.signal(), Some(number));
            recv.end(SOON).has_code(4);
            home.nothing_left();
        }
    }
}

#[test]
fn a_receiver_that_is_told_to_stop_is_not_a_silent_loss() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut send = home.start_fed(&format!("send x {transport}"));
        let recv = home.start("recv x out");
        home.attached("x", 1);
        signal(recv.pid(), Signal::TERM);
        assert_eq!(recv.end(SOON).status.signal(), Some(15));
        let _ = send.stdin().write_all(b"some");
        let sent = send.end(SOON);
        sent.has_code(4);
        assert!(sent.stderr.contains("no receiver is left"), "{sent:?}");
        home.nothing_left();
    }
}

#[test]
fn a_stopped_receiver_is_waited_for_and_named() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let bytes = noise(4 << 20, 2);
        home.place.file("source", &bytes);
        let recv = home.start("recv x out");
        home.awaited("x", 1);
        signal(recv.pid(), Signal::STOP);
        let other = home.start("recv x other");
        let send = home.start(&format!("send x source {transport} --peers 1"));
        // The other one makes it begin; the stopped one cannot have joined.
        other.end(LIMIT).silent_success();
        assert!(send.end(SOON).status.success());
        signal(recv.pid(), Signal::CONT);
        // Under way: a second one makes it begin, the first takes nothing.
        let send = home.start(&format!("send x source {transport} --peers 2 --slots 2"));
        home.attached("x", 1);
        signal(recv.pid(), Signal::STOP);
        let other = home.start("recv x other");
        until(SOON, "it says for whom it waits", || send.stderr().contains("waiting for peer 1"));
        let listed = &home.ls()[0]["receivers"][0];
        assert_eq!((&listed["state"], listed["lag_bytes"].as_u64() > Some(0)), (&"stopped".into(), true));
        assert!(!home.place.at("out").exists());
        signal(recv.pid(), Signal::CONT);
        send.end(LIMIT).has_code(0);
        for (receiver, file) in [(recv, "out"), (other, "other")] {
            receiver.end(LIMIT).silent_success();
            assert_holds(&home.place.at(file), &bytes);
        }
        home.nothing_left();
    }
}

#[test]
fn who_holds_everybody_up_is_thrown_out_where_that_was_asked_for() {
    let home = Home::new();
    let bytes = noise(4 << 20, 7);
    home.place.file("source", &bytes);
    let send = home.start("send x source --peers 2 --slots 2 --evict-after 300ms");
    let slow = home.start("recv x slow");
    home.attached("x", 1);
    signal(slow.pid(), Signal::STOP);
    let fast = home.start("recv x fast");
    fast.end(LIMIT).silent_success();
    assert_holds(&home.place.at("fast"), &bytes);
    signal(slow.pid(), Signal::CONT);
    slow.end(LIMIT).has_code(4).one_line(&["evicted for being too slow"]);
    send.end(LIMIT).has_code(4);
    assert!(!home.place.at("slow").exists());
    home.nothing_left();
}

#[test]
fn nobody_waits_for_the_time_of_a_slice_when_a_receiver_is_killed() {
    // The ring is full because of the victim; the sender must go on when it dies.
    let home = Home::new();
    let bytes = noise(2 << 20, 9);
    home.place.file("source", &bytes);
    let send = home.start("send x source --peers 2 --slots 2");
    let victim = home.start("recv x victim");
    home.attached("x", 1);
    signal(victim.pid(), Signal::STOP);
    let other = home.start("recv x other");
    until(SOON, "everybody waits", || send.stderr().contains("waiting for peer"));
    assert!(!home.place.at("other").exists());
    let begun = Instant::now();
    signal(victim.pid(), Signal::KILL);
    other.end(LIMIT).silent_success();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    send.end(LIMIT).has_code(4);
    assert_holds(&home.place.at("other"), &bytes);
    drop(victim);
    home.nothing_left();
}
