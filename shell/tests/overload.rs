//! Too much work for the machine, signals all the time, a clock that jumps: slower, but nothing is lost.
//!
//! `WHORL_FAULTS_LONG=1` does ten times as much of it.

mod common;
mod home;
mod load;

use common::*;
use home::Home;
use load::{Along, Busy, channels, copies, handlers, jumps, mailboxes, storm};
use std::fs;
use std::time::{Duration, Instant};

/// How often each kind of work is done.
fn rounds() -> usize {
    if std::env::var_os("WHORL_FAULTS_LONG").is_some() { 10 } else { 1 }
}

fn everything(home: &Home, along: &Along, length: usize) {
    for _ in 0..rounds() {
        copies(home, along, length);
        channels(home, along, length);
        mailboxes(home, along, 500);
    }
    home.nothing_left();
}

/// H24: eight processes for each core compute without end, and whoever waits gets its turn all the same.
#[test]
fn with_eight_times_as_much_work_as_processors_nothing_is_lost() {
    let home = Home::new();
    let _busy = Busy::start(8);
    everything(&home, &Along::new(), 4 << 20);
}

/// H24: who shares one processor with all others, and all of them with somebody who computes, gets on.
#[test]
fn on_one_processor_nothing_is_lost() {
    let home = Home::new();
    let first = fs::read_to_string("/proc/self/status").expect("/proc");
    let allowed =
        first.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list").trim();
    let one = allowed.split([',', '-']).next().expect("a processor");
    // Commands are started by threads of ours, which hand their processors down.
    let pinned = std::process::Command::new("taskset").args(["-c", one, "true"]).status();
    if !pinned.is_ok_and(|status| status.success()) {
        return skip("one processor", "taskset is not there");
    }
    home.place.file("source", &noise(4 << 20, 3));
    let bytes = fs::read(home.place.at("source")).expect("just written");
    for transport in TRANSPORTS {
        let script = format!("exec taskset -c {one} \"$SHELL_BIN\" copy {transport} -n 8 --verify -q source");
        run(&mut home.place.script(&script)).silent_success();
        for peer in 1..=8 {
            assert_holds(&home.place.received(peer, "source"), &bytes);
        }
        let script = format!(
            "for i in 1 2 3; do taskset -c {one} \"$SHELL_BIN\" recv x out$i --verify & done; \
             taskset -c {one} \"$SHELL_BIN\" send x source --peers 3 --verify {transport}; code=$?; wait; exit $code"
        );
        run(home.place.script(&script).env("XDG_RUNTIME_DIR", home.place.at("run"))).silent_success();
        for i in 1..=3 {
            assert_holds(&home.place.at(format!("out{i}")), &bytes);
        }
    }
    home.nothing_left();
}

/// H16: six kinds of signals, one every 100 us, at everybody: every call that can be interrupted is, again and again.
#[test]
fn in_a_storm_of_signals_nothing_is_lost() {
    let home = Home::new();
    let along = match handlers(&home.place) {
        Ok(along) => along,
        Err(why) => return skip("a storm of signals", why),
    };
    let storm = storm(&home);
    everything(&home, &along, 4 << 20);
    let sent = storm.done();
    assert!(sent > 100, "only {sent} signals: that was no storm");
    eprintln!("{sent} signals");
}

/// H22: the wall clock jumps by up to a year, back and forth, hundreds of times a second.
#[test]
fn whatever_the_clock_says_nothing_is_lost() {
    let home = Home::new();
    let (along, jumping) = match jumps(&home.place) {
        Ok(both) => both,
        Err(why) => return skip("a clock that jumps", why),
    };
    everything(&home, &along, 4 << 20);
    let jumps = jumping.done();
    assert!(jumps > 100, "only {jumps} jumps");
    eprintln!("{jumps} jumps");
}

/// H22: a time limit is a second while the clock jumps by years, neither nothing nor for ever.
#[test]
fn time_limits_do_not_look_at_the_clock_that_jumps() {
    let home = Home::new();
    let (along, _jumping) = match jumps(&home.place) {
        Ok(both) => both,
        Err(why) => return skip("time limits and a clock that jumps", why),
    };
    fs::create_dir(home.place.at("servers")).expect("a directory");
    let scenes = [
        ("recv x --timeout 1s", 4),
        ("send x source --timeout 1s", 4),
        ("serve one --dir servers --for 1s -q", 0),
    ];
    home.place.file("source", b"text");
    for (words, code) in scenes {
        let begun = Instant::now();
        let mut command = home.words(words);
        command.envs(along.iter().map(|(name, value)| (name, value)));
        // That it ends at all within the test's own limit is the other half.
        start(&mut command).end(LIMIT).has_code(code);
        assert!(begun.elapsed() >= Duration::from_secs(1), "{words} ended after {:?}", begun.elapsed());
    }
    home.nothing_left();
}

/// Our own sources that hold one of these words.
fn sources_with(words: &[&str]) -> Vec<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("our own sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).expect("our own sources");
            if words.iter().any(|word| source.contains(word)) {
                found.push(path.strip_prefix(&root).expect("below").display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// H22: nothing that waits or times out asks for the time of day.
#[test]
fn the_time_of_day_is_asked_for_by_name_only_where_it_decides_nothing() {
    // It tells segments apart.
    assert_eq!(sources_with(&["SystemTime", "UNIX_EPOCH"]), ["shm/ring.rs"]);
}

/// A timeout that is too long for one of the kernel's calls ends whatever makes it; so all are made, and capped, in one place.
#[test]
fn timeouts_for_the_kernel_are_made_in_one_place() {
    // The other one's are the times of a file.
    assert_eq!(sources_with(&["Timespec {", "tv_sec"]), ["os/timeout.rs", "transfer/destination.rs"]);
}
