//! Too much work for the machine, signals all the time, a clock that jumps: slower, but nothing is lost.
//!
//! `WHORL_FAULTS_LONG=1` does ten times as much of it.

use crate::kit::machine::Busy;
use crate::kit::*;
use crate::work::{Along, channels, copies, handlers, jumps, mailboxes, storm};
use std::fs;
use std::time::{Duration, Instant};

/// How often each kind of work is done.
fn rounds() -> usize {
    short_or_long(1, 10)
}

fn everything(sandbox: &Sandbox, along: &Along, length: usize) {
    for _ in 0..rounds() {
        copies(sandbox, along, length);
        channels(sandbox, along, length);
        mailboxes(sandbox, along, 500);
    }
    sandbox.nothing_left();
}

/// H24: eight processes for each core compute without end, and whoever waits gets its turn all the same.
#[test]
fn with_eight_times_as_much_work_as_processors_nothing_is_lost() {
    let _alone = crate::alone();
    let sandbox = Sandbox::new();
    let _busy = Busy::start(8);
    everything(&sandbox, &Along::new(), 4 << 20);
}

/// H24: who shares one processor with all others, and all of them with somebody who computes, gets on.
#[test]
fn on_one_processor_nothing_is_lost() {
    let _alone = crate::alone();
    let sandbox = Sandbox::new();
    let first = fs::read_to_string("/proc/self/status").expect("/proc");
    let allowed =
        first.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list").trim();
    let one = allowed.split([',', '-']).next().expect("a processor");
    // Commands are started by threads of ours, which hand their processors down.
    let pinned = std::process::Command::new("taskset").args(["-c", one, "true"]).status();
    if !pinned.is_ok_and(|status| status.success()) {
        return skip("one processor", "taskset is not there");
    }
    sandbox.file("source", &noise(4 << 20, 3));
    let bytes = fs::read(sandbox.at("source")).expect("just written");
    for transport in TRANSPORTS {
        let script = format!("exec taskset -c {one} \"$SHELL_BIN\" copy {transport} -n 8 --verify -q source");
        run(&mut sandbox.script(&script)).silent_success();
        for peer in 1..=8 {
            assert_holds(&sandbox.received(peer, "source"), &bytes);
        }
        let script = format!(
            "for i in 1 2 3; do taskset -c {one} \"$SHELL_BIN\" recv x out$i --verify & done; \
             taskset -c {one} \"$SHELL_BIN\" send x source --peers 3 --verify {transport}; code=$?; wait; exit $code"
        );
        run(&mut sandbox.script(&script)).silent_success();
        for i in 1..=3 {
            assert_holds(&sandbox.at(format!("out{i}")), &bytes);
        }
    }
    sandbox.nothing_left();
}

/// H16: six kinds of signals, one every 100 us, at everybody: every call that can be interrupted is, again and again.
#[test]
fn in_a_storm_of_signals_nothing_is_lost() {
    let _alone = crate::alone();
    let sandbox = Sandbox::new();
    let along = match handlers(&sandbox) {
        Ok(along) => along,
        Err(why) => return skip("a storm of signals", why),
    };
    let storm = storm(&sandbox);
    everything(&sandbox, &along, 4 << 20);
    let sent = storm.done();
    assert!(sent > 100, "only {sent} signals: that was no storm");
    eprintln!("{sent} signals");
}

/// H22: the wall clock jumps by up to a year, back and forth, hundreds of times a second.
#[test]
fn whatever_the_clock_says_nothing_is_lost() {
    let _alone = crate::alone();
    let sandbox = Sandbox::new();
    let (along, jumping) = match jumps(&sandbox) {
        Ok(both) => both,
        Err(why) => return skip("a clock that jumps", why),
    };
    everything(&sandbox, &along, 4 << 20);
    let jumps = jumping.done();
    assert!(jumps > 100, "only {jumps} jumps");
    eprintln!("{jumps} jumps");
}

/// H22: a time limit is a second while the clock jumps by years, neither nothing nor for ever.
#[test]
fn time_limits_do_not_look_at_the_clock_that_jumps() {
    let _alone = crate::alone();
    let sandbox = Sandbox::new();
    let (along, _jumping) = match jumps(&sandbox) {
        Ok(both) => both,
        Err(why) => return skip("time limits and a clock that jumps", why),
    };
    fs::create_dir(sandbox.at("servers")).expect("a directory");
    let scenes = [
        ("recv x --timeout 1s", 4),
        ("send x source --timeout 1s", 4),
        ("serve one --dir servers --for 1s -q", 0),
    ];
    sandbox.file("source", b"text");
    for (words, code) in scenes {
        let begun = Instant::now();
        let mut command = sandbox.words(words);
        command.envs(along.iter().map(|(name, value)| (name, value)));
        // That it ends at all within the test's own limit is the other half.
        start(&mut command).end(LIMIT).has_code(code);
        assert!(begun.elapsed() >= Duration::from_secs(1), "{words} ended after {:?}", begun.elapsed());
    }
    sandbox.nothing_left();
}
