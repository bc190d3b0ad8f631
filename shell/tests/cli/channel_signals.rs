//! A process ends on a signal, whatever it is doing.

use crate::kit::process::until_asleep;
use crate::kit::{
    LIMIT, SOON, Sandbox, TRANSPORTS, all_at_once, noise, run, signal, start, start_with_stdout, until,
};
use rustix::process::Signal;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn a_receiver_whose_reader_takes_nothing_ends_on_a_signal() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        sandbox.file("source", &noise(2 << 20, 1));
        let (reader, writer) = std::io::pipe().unwrap();
        let recv = start_with_stdout(&mut sandbox.words("recv x"), Stdio::from(writer));
        let send = sandbox.start(&format!("send x source {transport}"));
        let mut full = 0;
        until(SOON, "the pipe is full", || {
            let before = std::mem::replace(&mut full, rustix::io::ioctl_fionread(&reader).unwrap());
            std::thread::sleep(Duration::from_millis(50));
            full >= 200_000 && full == before
        });
        signal(recv.pid(), Signal::TERM);
        assert_eq!(recv.end(SOON).signal(), Some(15), "{transport}");
        send.end(LIMIT).has_code(4);
        sandbox.nothing_left();
    }
}

#[test]
fn a_hole_of_a_tebibyte_is_no_reason_to_hear_no_signal() {
    all_at_once(TRANSPORTS, |transport| {
        for (words, ends_sender) in [("recv x /dev/null", false), ("recv x /dev/null --verify", true)] {
            let sandbox = Sandbox::new();
            std::fs::File::create(sandbox.at("huge")).unwrap().set_len(1 << 40).unwrap();
            let send = sandbox.start(&format!("send x huge --verify {transport}"));
            let recv = sandbox.start(words);
            sandbox.until_owned("x");
            std::thread::sleep(Duration::from_millis(700));
            let (ending, other) = if ends_sender { (send, recv) } else { (recv, send) };
            signal(ending.pid(), Signal::TERM);
            assert_eq!(ending.end(LIMIT).signal(), Some(15), "{transport} {words}");
            // The other process may be busy with bytes that were on their way.
            signal(other.pid(), Signal::TERM);
            let ended = other.end(LIMIT);
            assert!(ended.signal() == Some(15) || ended.code() == Some(4), "{transport} {words}: {ended:?}");
            sandbox.nothing_left();
        }
    });
}

#[test]
fn a_receiver_that_waits_for_a_seat_ends_on_a_signal_or_its_timeout() {
    let sandbox = Sandbox::new();
    let mut send = sandbox.start_fed("send x --seats 1");
    let sitting = sandbox.start("recv x out");
    sandbox.until_joined("x", 1);
    let looking = sandbox.start("recv x");
    // It looks for two seconds, and sleeps in between.
    until_asleep(looking.pid());
    signal(looking.pid(), Signal::TERM);
    assert_eq!(looking.end(SOON).signal(), Some(15));
    run(&mut sandbox.words("recv x --timeout 200ms")).refusal(4, &["recv: x", "timed out"]);
    run(&mut sandbox.words("recv x")).refusal(1, &["recv: x", "every seat is taken"]);
    send.stdin().write_all(b"some").unwrap();
    send.close_stdin();
    send.end(LIMIT).silent_success();
    sitting.end(LIMIT).silent_success();
    sandbox.nothing_left();
}

#[test]
fn a_receiver_that_waits_for_a_fifos_reader_ends_on_a_signal() {
    let sandbox = Sandbox::new();
    run(&mut sandbox.script("mkfifo fifo")).has_code(0);
    let recv = start(&mut sandbox.words("recv x fifo"));
    until_asleep(recv.pid());
    signal(recv.pid(), Signal::TERM);
    assert_eq!(recv.end(SOON).signal(), Some(15));
    sandbox.nothing_left();
}
