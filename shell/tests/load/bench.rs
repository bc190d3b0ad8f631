//! `shell bench`: every part measures something on any machine, prints it as text and as JSON, and leaves nothing
//! behind.
//!
//! The machine is busy here, so these tests do not judge how large a figure is: only that it is there and possible.

use crate::kit::*;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::sync::MutexGuard;
use std::time::Duration;

/// A measurement in a directory of its own, which also holds its temporary files.
struct Bench {
    sandbox: Sandbox,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.at("tmp")).expect("a directory");
        Self { sandbox, _turn: crate::alone() }
    }

    fn command(&self, words: &str) -> Command {
        let mut command = self.sandbox.shell(["bench"].into_iter().chain(words.split_whitespace()));
        command.env("TMPDIR", self.sandbox.at("tmp"));
        command
    }

    /// Returns what it measured, and asserts that it left nothing.
    #[track_caller]
    fn measured(&self, words: &str) -> Value {
        let ended = start(&mut self.command(words)).end(LIMIT * 3);
        ended.silent_success();
        self.nothing_left();
        ended.json()
    }

    /// How many processes work in this directory or below it. Servers have directories of their own.
    fn at_work(&self) -> usize {
        let here = self.sandbox.at("");
        let works =
            |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|at| at.starts_with(&here));
        all_pids().iter().filter(|pid| works(pid)).count()
    }

    #[track_caller]
    fn nothing_left(&self) {
        // Twice as long as the command waits for tools that it could not end.
        until(SOON * 2, "every process is gone", || self.at_work() == 0);
        until(SOON * 2, "no temporary file is left", || self.sandbox.names("tmp").is_empty());
        self.sandbox.only_names_left(SOON);
    }
}

/// Asserts that every case has possible figures of these contenders, in this order. Contenders without figures have a
/// reason.
#[track_caller]
fn sane(cases: &[Value], whorl: &str) {
    for case in cases {
        let rows = case["rows"].as_array().expect("rows");
        assert_eq!(rows[0]["who"], whorl, "{case}");
        assert!(rows[0]["median"].is_f64(), "Whorl itself is always measured: {case}");
        assert!(rows.len() > 2, "{case}");
        assert!(rows[0]["whorl_times_as_fast"].is_null(), "not compared with itself: {case}");
        for row in rows {
            let Some(median) = row["median"].as_f64() else {
                assert!(!row["note"].as_str().unwrap_or_default().is_empty(), "{row}");
                continue;
            };
            let (min, max) = (row["min"].as_f64().unwrap(), row["max"].as_f64().unwrap());
            assert!(0.0 < min && min <= median && median <= max && max.is_finite(), "{row}");
            assert!(row["rounds"].as_u64() >= Some(1), "{row}");
            if row["who"] != whorl {
                assert!(row["whorl_times_as_fast"].as_f64() > Some(0.0), "{row}");
            }
        }
    }
}

#[track_caller]
fn names(cases: &[Value]) -> Vec<&str> {
    cases.iter().map(|case| case["case"].as_str().expect("a name")).collect()
}

fn cases(json: &Value) -> &[Value] {
    json["cases"].as_array().expect("an array")
}

#[test]
fn the_ring_is_measured_and_every_message_of_a_schedule_arrives() {
    let bench = Bench::new();
    let json = bench.measured("ring --quick --receivers 2 --json");
    assert_eq!(names(cases(&json)), ["ring 64 B x2", "ring 4 KiB x2", "ring 80 KiB x2"]);
    sane(cases(&json), "whorl");
    for case in cases(&json) {
        for rival in ["pipe", "unix socket", "tee(2)"] {
            let row = case["rows"].as_array().unwrap().iter().find(|row| row["who"] == rival);
            assert!(row.is_some_and(|row| row["median"].is_f64()), "{rival}: {case}");
        }
    }
    assert!(json["machine"]["cores"].as_u64() >= Some(1), "{json}");
    assert_eq!(json["quick"], true);
    histograms(&json, 2, 10_000);
    timelines(&json, 2);
}

#[test]
fn a_rate_alone_is_asked_of_the_ring_and_of_what_is_there() {
    let bench = Bench::new();
    let json = bench.measured("ring --quick --rate 1000 --receivers 3 --json");
    assert_eq!((cases(&json).len(), json["slow_reader"].as_array().map(Vec::len)), (0, Some(0)), "{json}");
    histograms(&json, 3, 1000);
}

/// Percentiles ascend. The histogram holds each message that counted at each receiver: nine tenths of the messages
/// sent.
#[track_caller]
fn histograms(json: &Value, receivers: u64, rate: u64) {
    let all = json["lateness"].as_array().expect("an array");
    assert_eq!(all.iter().map(|one| &one["who"]).collect::<Vec<_>>(), ["whorl", "pipe", "unix socket"]);
    let mut messages = Vec::new();
    for one in all {
        assert_eq!((one["receivers"].as_u64(), one["rate"].as_u64()), (Some(receivers), Some(rate)), "{one}");
        let values = ["p50", "p90", "p99", "p99.9", "max"].map(|name| one["percentiles"][name].as_u64());
        assert!(values.iter().all(|value| *value > Some(0)) && values.is_sorted(), "{one}");
        let steps = one["histogram"].as_array().expect("an array");
        let counted: u64 = steps.iter().map(|step| step[1].as_u64().unwrap()).sum();
        assert_eq!(Some(counted), one["messages"].as_u64());
        assert!(steps.is_sorted_by_key(|step| step[0].as_u64()), "{one}");
        assert_eq!(steps.last().unwrap()[0].as_u64(), values[4], "{one}");
        messages.push(counted);
    }
    assert!(messages[0] >= 18 * receivers && messages[0] % receivers == 0, "{messages:?}");
    assert!(messages.iter().all(|&count| count == messages[0]), "the same schedule for all: {messages:?}");
}

#[test]
fn while_a_reader_pauses_the_sender_waits_and_then_all_get_everything() {
    let bench = Bench::new();
    timelines(&bench.measured("ring --slow-reader --quick --json"), 3);
}

#[track_caller]
fn timelines(json: &Value, receivers: usize) {
    let all = json["slow_reader"].as_array().expect("an array");
    assert_eq!(all.iter().map(|one| &one["who"]).collect::<Vec<_>>(), ["whorl", "pipe"]);
    for one in all {
        let counts = |value: &Value| -> Vec<u64> {
            value.as_array().expect("an array").iter().map(|count| count.as_u64().unwrap()).collect()
        };
        let sender = counts(&one["sender"]);
        let readers: Vec<_> = one["receivers"].as_array().expect("an array").iter().map(counts).collect();
        assert_eq!(readers.len(), receivers, "{one}");
        let sent: u64 = sender.iter().sum();
        assert_eq!(sent, 14_000, "the schedule's 700 ms: {one}");
        assert!(readers.iter().all(|reader| reader.iter().sum::<u64>() == sent), "{one}");
        // The pause itself is certain on any machine: slices without a message at its reader.
        let slice = one["slice_ms"].as_u64().unwrap();
        let pause = one["pause_ms"].as_u64().unwrap() / slice;
        let longest = |counts: &[u64]| counts.split(|&count| count > 0).map(<[u64]>::len).max().unwrap_or(0);
        assert!(longest(&readers[0]) as u64 >= pause - 2, "{one}");
    }
}

#[test]
fn copies_are_measured_beside_tools_that_are_there() {
    let bench = Bench::new();
    let json = bench.measured("copy --quick --json");
    assert_eq!(names(cases(&json)), ["copy wall", "copy cpu"]);
    sane(&cases(&json)[..1], "whorl --shm");
    let who: Vec<_> = cases(&json)[0]["rows"].as_array().unwrap().iter().map(|row| &row["who"]).collect();
    assert_eq!(who[..3], ["whorl --shm", "whorl --socket", "xargs -P2 cp"]);
    assert!(who.iter().any(|who| who.as_str().unwrap().starts_with("limit")), "{who:?}");
}

#[test]
fn the_lock_is_measured_beside_those_of_the_c_library_and_of_std() {
    let bench = Bench::new();
    let json = bench.measured("lock --quick --json");
    let names = names(cases(&json));
    assert_eq!(names[..3], ["lock read alone", "lock write alone", "lock two 5% 64 KiB"]);
    assert_eq!(names.len(), 8, "{names:?}");
    sane(cases(&json), "whorl");
    let who: Vec<_> = cases(&json)[0]["rows"].as_array().unwrap().iter().map(|row| &row["who"]).collect();
    assert_eq!(who, ["whorl", "pthread", "pthread, writers preferred", "std, threads"]);
}

#[test]
fn mailboxes_are_measured_and_servers_that_are_not_there_are_named() {
    let bench = Bench::new();
    let json = bench.measured("dipc --quick --json");
    assert_eq!(cases(&json).len(), 8);
    sane(cases(&json), "whorl");
    // Again without any tool installed.
    fs::create_dir(bench.sandbox.at("empty")).unwrap();
    let mut command = bench.command("dipc --quick --json");
    let ended = start(command.env("PATH", bench.sandbox.at("empty"))).end(LIMIT * 3);
    ended.silent_success();
    for case in cases(&ended.json()) {
        for (row, program) in case["rows"].as_array().unwrap()[1..].iter().zip(["redis-server", "memcached"])
        {
            assert_eq!(row["note"], format!("left out: {program} is not installed"), "{case}");
        }
    }
    bench.nothing_left();
}

#[test]
fn people_get_lines_and_a_signal_in_the_middle_leaves_nothing() {
    let bench = Bench::new();
    let text = start(&mut bench.command("ring --rate 2000 --quick")).end(LIMIT);
    text.silent_success();
    let lines: Vec<Vec<_>> = text.stdout.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0][0], "machine", "{text:?}");
    let who: Vec<_> = lines[1..].iter().map(|line| (line[0], line[2])).collect();
    assert_eq!(who, ["whorl", "pipe", "unix socket"].map(|who| ("ring lateness", who)), "{text:?}");
    for (words, by) in [
        ("ring --seconds 300", Signal::INT),
        ("copy --seconds 300", Signal::TERM),
        ("lock --seconds 300", Signal::HUP),
        ("dipc --seconds 300", Signal::INT),
    ] {
        // While it forks its first processes, and in the middle of its work.
        for later in [Duration::ZERO, Duration::from_millis(200)] {
            let running = start(&mut bench.command(words));
            until(LIMIT, "parties at work", || bench.at_work() > 1);
            std::thread::sleep(later);
            let ended = running.end_by(by, LIMIT);
            assert_eq!(ended.signal(), Some(by.as_raw()), "{words}: {ended:?}");
            assert_eq!(ended.stderr, "", "{words}");
            bench.nothing_left();
        }
    }
}

#[test]
fn without_a_name_all_four_are_measured() {
    let bench = Bench::new();
    let json = bench.measured("--quick --json");
    let parts: Vec<_> = names(cases(&json)).iter().map(|name| name.split(' ').next().unwrap()).collect();
    assert!(
        parts.is_sorted_by_key(|part| ["ring", "copy", "lock", "dipc"].iter().position(|one| one == part))
    );
    for (part, count) in [("ring", 6), ("copy", 2), ("lock", 4), ("dipc", 5)] {
        assert_eq!(parts.iter().filter(|one| **one == part).count(), count, "{part}: {parts:?}");
    }
    histograms(&json, 1, 10_000);
    timelines(&json, 3);
}

#[test]
fn a_bench_whose_output_is_closed_ends_quietly() {
    let bench = Bench::new();
    let mut script = bench.sandbox.script("\"$SHELL_BIN\" bench lock --seconds 90 | head -n 1");
    let ended = start(script.env("TMPDIR", bench.sandbox.at("tmp"))).end(LIMIT);
    assert!(ended.silent_success().stdout.starts_with("machine\t"), "{ended:?}");
    bench.nothing_left();
}

#[test]
fn a_killed_bench_leaves_no_process() {
    let bench = Bench::new();
    for words in ["ring --seconds 300", "copy --seconds 300", "dipc --seconds 300"] {
        let live = start(&mut bench.command(words));
        until(LIMIT, "parties at work", || bench.at_work() > 1);
        std::thread::sleep(Duration::from_millis(200));
        signal(live.pid(), Signal::KILL);
        assert_eq!(live.end(LIMIT).signal(), Some(Signal::KILL.as_raw()));
        bench.nothing_left();
    }
}

#[test]
fn what_cannot_be_asked_is_one_clear_line() {
    let bench = Bench::new();
    for (words, said) in [
        ("rings", &["rings", "ring"][..]),
        ("--rate 1000", &["--rate", "shell bench ring --rate"]),
        ("copy --receivers 3", &["--receivers", "ring"]),
        ("lock --slow-reader", &["--slow-reader", "ring"]),
        ("ring --rate 1000 --slow-reader", &["--rate", "--slow-reader"]),
        ("ring --rate fast", &["--rate", "fast", "100 to 10000000"]),
        ("ring --receivers 0", &["--receivers", "0", "1 to 64"]),
        ("ring --receivers -3", &["--receivers", "-3", "1 to 64"]),
        ("--seconds 0", &["--seconds", "0", "1 to 600"]),
        ("--seconds 5 --quick", &["--seconds", "--quick"]),
        ("ring -d /tmp", &["--dir", "shell bench copy"]),
    ] {
        run(&mut bench.command(words)).refusal(2, said);
    }
    run(&mut bench.command("copy -d nowhere")).refusal(1, &["bench: nowhere: ", "no such file"]);
    bench.nothing_left();
}
