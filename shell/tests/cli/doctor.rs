//! `shell doctor`: what works is `ok`, what is broken is found, and the line says what to do.

use crate::kit::*;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

fn checks(command: &mut Command) -> (Option<i32>, Vec<Value>) {
    let ended = run(command);
    assert_eq!(ended.stderr, "", "{ended:?}");
    let json = ended.json();
    let checks = json["checks"].as_array().expect("an array").clone();
    let failed = checks.iter().any(|check| check["verdict"] == "fail");
    assert_eq!((json["ok"] == true, ended.code()), (!failed, Some(i32::from(failed))), "{json}");
    for check in &checks {
        assert!(["ok", "warn", "fail"].iter().any(|word| check["verdict"] == *word), "{check}");
        assert_eq!(
            check["verdict"] == "ok",
            check["advice"].is_null(),
            "a line that needs it says what to do: {check}"
        );
    }
    (ended.code(), checks)
}

#[track_caller]
fn verdict(checks: &[Value], name: &str) -> String {
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("{name} in {checks:?}"))["verdict"].as_str().unwrap().into()
}

#[test]
fn here_where_the_tests_run_everything_that_they_need_is_found() {
    let sandbox = Sandbox::new();
    let (code, all) = checks(&mut sandbox.words("doctor --json"));
    assert_eq!(code, Some(0), "{all:?}");
    let needed = [
        "kernel",
        "memfd",
        "sealing",
        "OFD locks",
        "pidfd",
        "sock_diag",
        "file calls",
        "/proc",
        "runtime directory",
        "unnamed files",
        "sockets, locks",
    ];
    for name in needed.iter().chain(&["leftovers", "loopback", "open files"]) {
        assert_eq!(verdict(&all, name), "ok", "{all:?}");
    }
    for name in
        ["shared futex", "inotify", "processes", "memory", "/dev/shm", "pid namespace", "memory limit"]
    {
        assert_ne!(verdict(&all, name), "fail", "{all:?}");
    }
    let text = run(&mut sandbox.words("doctor"));
    text.silent_success();
    assert_eq!(text.stdout.lines().count(), all.len() + 1, "one line for each, and the verdict: {text:?}");
    assert!(text.stdout.lines().last().unwrap().starts_with("verdict: "), "{text:?}");
    for (line, check) in text.stdout.lines().zip(&all) {
        let fields: Vec<_> = line.split('\t').collect();
        assert_eq!(fields.len(), 3, "{line}");
        assert_eq!(fields[1], check["name"].as_str().unwrap());
    }
    assert!(!text.stdout.contains('\x1b'), "no colour but on a terminal");
    sandbox.nothing_left();
}

#[test]
fn a_directory_that_others_may_write_is_a_failure_with_a_way_out() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.at("run/whorl")).unwrap();
    fs::set_permissions(sandbox.at("run/whorl"), fs::Permissions::from_mode(0o777)).unwrap();
    let (code, all) = checks(&mut sandbox.words("doctor --json"));
    assert_eq!((code, verdict(&all, "runtime directory").as_str()), (Some(1), "fail"));
    let text = run(&mut sandbox.words("doctor"));
    text.has_code(1);
    let line =
        text.stdout.lines().find(|line| line.starts_with("fail\truntime directory")).expect("its line");
    assert!(line.contains("0700") && line.contains("XDG_RUNTIME_DIR"), "{line}");
}

#[test]
fn what_the_dead_left_is_a_warning_until_it_is_cleared_away() {
    let sandbox = Sandbox::new();
    let sender = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    signal(sender.pid(), Signal::KILL);
    drop(sender);
    let (code, all) = checks(&mut sandbox.words("doctor --json"));
    assert_eq!((code, verdict(&all, "leftovers").as_str()), (Some(0), "warn"), "{all:?}");
    run(&mut sandbox.words("rm --dead")).has_code(0);
    assert_eq!(verdict(&checks(&mut sandbox.words("doctor --json")).1, "leftovers"), "ok");
}

#[test]
fn limits_that_are_too_low_are_reported() {
    let sandbox = Sandbox::new();
    if sandbox.program("prlimit").stdout(Stdio::null()).status().is_err() {
        return skip("doctor under limits", "there is no prlimit");
    }
    let limited = |limit: &str| {
        let mut command = sandbox.program("prlimit");
        command.args([limit, SHELL, "doctor", "--json"]);
        checks(&mut command).1
    };
    for (limit, name, expected) in [
        ("--nofile=500", "open files", "warn"),
        ("--nofile=50", "open files", "fail"),
        ("--nproc=500", "processes", "warn"),
        ("--fsize=50000000", "file size", "warn"),
        ("--as=2000000000", "address space", "warn"),
    ] {
        assert_eq!(verdict(&limited(limit), name), expected, "{limit}");
    }
}

#[test]
fn a_pid_namespace_of_its_own_is_reported() {
    let sandbox = Sandbox::new();
    let apart = |program: &str| {
        let mut command = sandbox.program("unshare");
        command.args(["--pid", "--fork", "--mount-proc", program]);
        command
    };
    if !apart("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return skip("doctor in a pid namespace", "unshare is missing or not allowed");
    }
    let (code, all) = checks(apart(SHELL).args(["doctor", "--json"]));
    assert_eq!((code, verdict(&all, "pid namespace").as_str()), (Some(0), "warn"), "{all:?}");
}

#[test]
fn calls_that_a_filter_bars_are_reported() {
    let sandbox = Sandbox::new();
    if lacks_strace("doctor under filters") {
        return;
    }
    for (call, error, name) in [
        ("faccessat2", "EPERM", "file calls"),
        ("linkat", "EPERM", "file calls"),
        ("renameat2", "ENOSYS", "file calls"),
        ("pidfd_open", "EPERM", "pidfd"),
    ] {
        let mut command = sandbox.program("strace");
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={call}:error={error}")]);
        command.arg(SHELL).args(["doctor", "--json"]);
        let (code, all) = checks(&mut command);
        assert_eq!((code, verdict(&all, name).as_str()), (Some(0), "warn"), "{call}: {all:?}");
        assert_eq!(verdict(&all, "unnamed files"), "ok", "{call}: {all:?}");
    }
}

#[test]
fn memory_objects_are_made_where_they_must_not_be_executable() {
    let sandbox = Sandbox::new();
    let script = "echo 2 > /proc/sys/vm/memfd_noexec && exec \"$0\" \"$@\"";
    let apart = |program: &str| {
        let mut command = sandbox.program("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script, program]);
        command
    };
    if !apart("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return skip("memory objects that must not be executable", "vm.memfd_noexec cannot be set");
    }
    let (code, all) = checks(apart(SHELL).args(["doctor", "--json"]));
    assert_eq!((code, verdict(&all, "memfd").as_str()), (Some(0), "ok"), "{all:?}");
    sandbox.file("f", b"contents");
    run(apart(SHELL).args(["copy", "-n", "1", "f"])).silent_success();
}
