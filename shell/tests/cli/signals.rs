//! Signals that the parent blocked or ignored. That state survives an exec, and the command still ends on a signal.

use crate::kit::mailbox_server::{Server, port_of};
use crate::kit::{LIMIT, Sandbox, is_alive, proc_status, ran_alone, run, signal, start, until};
use rustix::process::Signal;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

/// How a parent leaves a signal to the programs that it starts.
#[derive(Clone, Copy, Debug)]
enum Left {
    Blocked,
    Ignored,
}

/// Starts a program with these signals left like that.
fn leaving<'c>(command: &'c mut Command, how: Left, signals: &'static [i32]) -> &'c mut Command {
    let leave = move || {
        for &signal in signals {
            // SAFETY: plain data for which zero is a value.
            let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
            // SAFETY: `set` lives through the call.
            unsafe { libc::sigaddset(&raw mut set, signal) };
            match how {
                Left::Blocked => {
                    // SAFETY: as above.
                    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
                }
                Left::Ignored => {
                    // SAFETY: no handler of this program.
                    unsafe { libc::signal(signal, libc::SIG_IGN) };
                }
            }
        }
        Ok(())
    };
    // SAFETY: async-signal-safe calls alone.
    unsafe { command.pre_exec(leave) }
}

const STOPPING: &[i32] = &[libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

#[test]
fn a_daemon_hears_sigterm_whatever_its_parent_left() {
    for how in [Left::Blocked, Left::Ignored] {
        let sandbox = Sandbox::new();
        let output = run(leaving(&mut sandbox.words("dipc 1 1 0 1"), how, STOPPING));
        assert!(output.status.success(), "{how:?} {output:?}");
        let server = Server { sandbox, port: port_of(&output.stdout) };
        let bits = |field: &str| u64::from_str_radix(&proc_status(server.pid(), field).unwrap(), 16).unwrap();
        // A thread that starts another thread blocks all signals for a moment.
        until(LIMIT, "nothing is blocked", || bits("SigBlk") == 0);
        assert_eq!(bits("SigIgn") & (1 << (libc::SIGTERM - 1) | 1 << (libc::SIGHUP - 1)), 0, "{how:?}");
        let pid = server.pid();
        signal(pid, Signal::TERM);
        until(LIMIT, "the daemon has ended", || !is_alive(pid));
        assert_eq!(server.sandbox.left(), Vec::<String>::new(), "{how:?}");
    }
}

/// How a process ends that was started with signals left like that, and gets a signal once it works.
#[track_caller]
fn ending(words: &str, how: Left, left: &'static [i32], sent: Signal) -> ExitStatus {
    let sandbox = Sandbox::new();
    let process = start(leaving(&mut sandbox.words(words), how, left));
    until(LIMIT, "its file is there", || {
        sandbox.left().iter().any(|name| name.ends_with(".wait") || name.ends_with(".sock"))
    });
    signal(process.pid(), sent);
    let ended = process.end(LIMIT);
    assert_eq!(sandbox.left(), Vec::<String>::new(), "{words} {how:?}");
    ended.status
}

#[test]
fn a_process_started_with_blocked_signals_stops_and_cleans_up() {
    for stopping in [Signal::TERM, Signal::INT] {
        let status = ending("recv missing", Left::Blocked, STOPPING, stopping);
        assert_eq!(status.signal(), Some(stopping.as_raw()));
    }
}

#[test]
fn a_server_in_the_foreground_ends_on_sigterm_even_if_that_was_ignored() {
    for how in [Left::Blocked, Left::Ignored] {
        let status = ending("dipc 1 1 0 1 --foreground", how, STOPPING, Signal::TERM);
        assert_eq!(status.code(), Some(0), "{how:?}");
    }
}

#[test]
fn what_was_ignored_on_purpose_stays_ignored() {
    let sandbox = Sandbox::new();
    // As `nohup` leaves SIGHUP, and a script's shell leaves SIGINT to its background jobs.
    let mut recv = sandbox.words("recv missing");
    let recv = start(leaving(&mut recv, Left::Ignored, &[libc::SIGINT, libc::SIGHUP]));
    until(LIMIT, "it waits", || sandbox.left().iter().any(|name| name.ends_with(".wait")));
    let ignored = u64::from_str_radix(&proc_status(recv.pid(), "SigIgn").unwrap(), 16).unwrap();
    for signal in [libc::SIGINT, libc::SIGHUP] {
        assert_ne!(ignored & 1 << (signal - 1), 0, "{signal} is caught");
    }
    for sent in [Signal::INT, Signal::HUP, Signal::TERM] {
        signal(recv.pid(), sent);
    }
    assert_eq!(recv.end(LIMIT).signal(), Some(libc::SIGTERM));
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

#[test]
fn a_forked_process_follows_its_parent_even_where_sigterm_is_ignored() {
    if ran_alone(module_path!(), "a_forked_process_follows_its_parent_even_where_sigterm_is_ignored") {
        return;
    }
    let (mut ends, ended) = std::io::pipe().unwrap();
    // A process of one thread, like the program when it forks.
    // SAFETY: the child makes system calls and calls of the library that take no lock of another thread's.
    let parent = unsafe { libc::fork() };
    if parent == 0 {
        // SAFETY: no handler of this program.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        let child = whorl::internal::os::fork::fork(|| {
            let _ = rustix::io::write(&ended, b".");
            while whorl::internal::os::signal::stop_signal().is_none() {
                // SAFETY: a plain system call, which a signal interrupts.
                unsafe { libc::poll(std::ptr::null_mut(), 0, 1000) };
            }
            0
        });
        drop(child);
        loop {
            // SAFETY: until it is killed.
            unsafe { libc::pause() };
        }
    }
    assert!(parent > 0);
    drop(ended);
    ends.read_exact(&mut [0]).unwrap();
    signal(parent, Signal::KILL);
    let mut status = 0;
    // SAFETY: `status` is writable; the child is ours.
    unsafe { libc::waitpid(parent, &raw mut status, 0) };
    // It becomes readable when the last copy of the other end is closed.
    let mut news = libc::pollfd { fd: ends.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `news` lives through the call.
    assert_eq!(unsafe { libc::poll(&raw mut news, 1, 20_000) }, 1, "the child is still there");
}
