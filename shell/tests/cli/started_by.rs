//! What a parent may leave to the command: ignored and blocked signals, which survive exec(2), and a preloaded library
//! with a thread of its own.

use crate::kit::mailbox_server::port_of;
use crate::kit::*;
use rustix::process::Signal;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The command starts with a signal ignored.
fn ignoring(command: &mut Command, signal: i32) -> &mut Command {
    let ignore = move || {
        // SAFETY: ignoring runs no code of this program.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
        Ok(())
    };
    // SAFETY: one system call, which is async-signal-safe.
    unsafe { command.pre_exec(ignore) }
}

/// The command starts with a signal blocked.
fn blocking(command: &mut Command, signal: i32) -> &mut Command {
    let block = move || {
        // SAFETY: plain data for which zero is a value.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set lives through the call.
        unsafe { libc::sigaddset(&raw mut set, signal) };
        // SAFETY: as above.
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        Ok(())
    };
    // SAFETY: system calls, which are async-signal-safe.
    unsafe { command.pre_exec(block) }
}

#[test]
fn a_copy_ends_although_its_parent_ignores_the_ends_of_children() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(100_000, 1);
        sandbox.file("source", &bytes);
        let mut copy = sandbox.shell(["copy", transport, "-n", "2", "source"]);
        start(ignoring(&mut copy, libc::SIGCHLD)).end(LIMIT).silent_success();
        assert_holds(&sandbox.received(1, "source"), &bytes);
        assert_holds(&sandbox.received(2, "source"), &bytes);
        sandbox.only_names_left(SOON);
    }
}

/// Another process reaps the receivers. The command then does not know how they ended, but knows that they ended.
#[test]
fn a_copy_ends_although_something_else_reaps_its_receivers() {
    if lacks_strace("a copy whose receivers something else reaps") {
        return;
    }
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(100_000, 1);
        sandbox.file("source", &bytes);
        let mut copy = sandbox.program("strace");
        copy.args([
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=wait4",
            "-e",
            "inject=wait4:error=ECHILD",
        ]);
        copy.arg(SHELL).args(["copy", transport, "-n", "2", "source"]);
        start(&mut copy).end(LIMIT).silent_success();
        assert_holds(&sandbox.received(2, "source"), &bytes);
    }
}

#[test]
fn a_copy_that_was_started_with_its_signals_blocked_heeds_them() {
    for signal_ in [Signal::TERM, Signal::INT, Signal::HUP] {
        let sandbox = Sandbox::new();
        let mut copy = sandbox.shell(["copy", "-n", "2", "-"]);
        let mut copy = start(blocking(&mut copy, signal_.as_raw()).stdin(Stdio::piped()));
        copy.stdin().write_all(b"some").expect("it reads");
        copy.receivers(2);
        signal(copy.pid(), signal_);
        assert_eq!(copy.end(SOON).signal(), Some(signal_.as_raw()));
        sandbox.only_names_left(SOON);
    }
}

/// As under `nohup`.
#[test]
fn a_signal_that_was_ignored_stays_ignored_but_a_dead_parents_receivers_go() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut copy = sandbox.shell(["copy", transport, "-n", "2", "-"]);
        let mut copy = start(ignoring(&mut copy, libc::SIGTERM).stdin(Stdio::piped()));
        copy.stdin().write_all(b"some").expect("it reads");
        let receivers = copy.receivers(2);
        copy.have(&receivers, &sandbox.at("received-files"), 4);
        for pid in receivers.iter().copied().chain([copy.pid()]) {
            signal(pid, Signal::TERM);
        }
        copy.stdin().write_all(b" more").expect("it reads");
        copy.have(&receivers, &sandbox.at("received-files"), 9);
        signal(copy.pid(), Signal::KILL);
        sandbox.only_names_left(SOON);
    }
}

/// Monitoring agents are preloaded into every program, and start a thread.
#[test]
fn a_preloaded_library_may_have_a_thread() {
    const PRELOADED: &str = "
        #include <pthread.h>
        #include <unistd.h>
        static void *idle(void *nothing) { for (;;) pause(); return nothing; }
        __attribute__((constructor)) static void start(void) { pthread_t t; pthread_create(&t, 0, idle, 0); }";
    let sandbox = Sandbox::new();
    sandbox.file("agent.c", PRELOADED.as_bytes());
    let built =
        sandbox.program("cc").args(["-shared", "-fPIC", "-o", "agent.so", "agent.c", "-lpthread"]).status();
    if !built.is_ok_and(|built| built.success()) {
        return skip("a preloaded library with a thread", "there is no C compiler");
    }
    let agent = sandbox.at("agent.so");
    let bytes = noise(100_000, 1);
    sandbox.file("source", &bytes);
    for transport in TRANSPORTS {
        let mut copy = sandbox.shell(["copy", transport, "-n", "2", "source"]);
        start(copy.env("LD_PRELOAD", &agent)).end(LIMIT).silent_success();
        assert_holds(&sandbox.received(2, "source"), &bytes);
    }
    let shell = |words: &[&str]| {
        let mut command = sandbox.shell(words);
        command.env("XDG_RUNTIME_DIR", sandbox.at(".")).env("LD_PRELOAD", &agent);
        start(&mut command).end(LIMIT)
    };
    let started = shell(&["dipc", "1", "1", "0", "1"]);
    started.has_code(0);
    let port = port_of(&started.stdout).to_string();
    shell(&["dipcrm", &port]).has_code(0);
    sandbox.only_names_left(SOON);
}
