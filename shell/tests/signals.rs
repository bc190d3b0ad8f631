//! Signals that the parent blocked or ignored: what survives an exec makes nobody deaf who must hear.

mod dipc_support;

use dipc_support::{Place, Server, eventually, kill, text};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

/// How a parent leaves a signal to what it starts.
#[derive(Clone, Copy, Debug)]
enum Left {
    Blocked,
    Ignored,
}

/// Starts a program with these signals left so.
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
                    // SAFETY: no handler of ours.
                    unsafe { libc::signal(signal, libc::SIG_IGN) };
                }
            }
        }
        Ok(())
    };
    // SAFETY: async-signal-safe calls alone.
    unsafe { command.pre_exec(leave) }
}

/// Whether a process has ended: gone, or not reaped yet.
fn has_ended(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

const STOPPING: &[i32] = &[libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

#[test]
fn a_daemon_hears_sigterm_whatever_its_parent_left() {
    for how in [Left::Blocked, Left::Ignored] {
        let place = Place::new();
        let output =
            leaving(&mut place.shell(&["dipc", "1", "1", "0", "1"]), how, STOPPING).output().unwrap();
        assert!(output.status.success(), "{how:?} {output:?}");
        let port = text(&output.stdout).trim_end().rsplit(':').next().unwrap().parse().unwrap();
        let server = Server { place, port };
        let bits = |field: &str| u64::from_str_radix(&server.status(field), 16).unwrap();
        // A thread that starts another one blocks everything for a moment.
        eventually("nothing is blocked", || bits("SigBlk") == 0);
        assert_eq!(bits("SigIgn") & (1 << (libc::SIGTERM - 1) | 1 << (libc::SIGHUP - 1)), 0, "{how:?}");
        let pid = server.pid();
        kill(pid, "TERM");
        eventually("the daemon has ended", || has_ended(pid));
        assert_eq!(server.place.leftovers(), Vec::<String>::new(), "{how:?}");
    }
}

/// How a child ended that was told to; one that did not is killed, and the test fails.
#[track_caller]
fn ended(mut child: std::process::Child) -> ExitStatus {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while std::time::Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("it is deaf");
}

/// Tells a process that a supervisor or a shell started, once it is at work.
fn told(words: &[&str], how: Left, left: &'static [i32], signal: &str) -> ExitStatus {
    let place = Place::new();
    let mut command = place.shell(words);
    let child = leaving(&mut command, how, left).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let child = child.unwrap();
    eventually("its file is there", || {
        place.leftovers().iter().any(|name| name.ends_with(".wait") || name.ends_with(".sock"))
    });
    kill(child.id() as i32, signal);
    let ended = ended(child);
    assert_eq!(place.leftovers(), Vec::<String>::new(), "{words:?} {how:?}");
    ended
}

#[test]
fn who_was_started_with_its_signals_blocked_is_stopped_and_cleans_up() {
    let recv = &["recv", "nobody"];
    assert_eq!(told(recv, Left::Blocked, STOPPING, "TERM").signal(), Some(libc::SIGTERM));
    assert_eq!(told(recv, Left::Blocked, STOPPING, "INT").signal(), Some(libc::SIGINT));
}

#[test]
fn a_server_in_the_foreground_ends_on_sigterm_even_if_that_was_ignored() {
    let server = &["dipc", "1", "1", "0", "1", "--foreground"];
    for how in [Left::Blocked, Left::Ignored] {
        assert_eq!(told(server, how, STOPPING, "TERM").code(), Some(0), "{how:?}");
    }
}

#[test]
fn what_was_ignored_on_purpose_stays_ignored() {
    let place = Place::new();
    // As `nohup` leaves SIGHUP, and a script's shell leaves SIGINT to its jobs in the background.
    let mut recv = place.shell(&["recv", "nobody"]);
    let recv = leaving(&mut recv, Left::Ignored, &[libc::SIGINT, libc::SIGHUP]).spawn().unwrap();
    eventually("it waits", || place.leftovers().iter().any(|name| name.ends_with(".wait")));
    let status = std::fs::read_to_string(format!("/proc/{}/status", recv.id())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    for signal in [libc::SIGINT, libc::SIGHUP] {
        assert_ne!(ignored & 1 << (signal - 1), 0, "{signal} is caught");
    }
    kill(recv.id() as i32, "INT");
    kill(recv.id() as i32, "HUP");
    kill(recv.id() as i32, "TERM");
    assert_eq!(ended(recv).signal(), Some(libc::SIGTERM));
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn a_forked_process_follows_its_parent_even_where_sigterm_is_ignored() {
    let (mut ends, ended) = std::io::pipe().unwrap();
    // A process of one thread, as the program is that forks.
    // SAFETY: the child makes system calls and calls of the library that take no lock of another thread's.
    let parent = unsafe { libc::fork() };
    if parent == 0 {
        // SAFETY: no handler of ours.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        let child = whorl::os::fork::fork(|| {
            let _ = rustix::io::write(&ended, b".");
            while whorl::os::signal::stop_signal().is_none() {
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
    kill(parent, "KILL");
    let mut status = 0;
    // SAFETY: `status` is writable; the child is ours.
    unsafe { libc::waitpid(parent, &raw mut status, 0) };
    // Readable at its end: when the last copy of the other end is closed.
    let mut news = libc::pollfd { fd: ends.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `news` lives through the call.
    assert_eq!(unsafe { libc::poll(&raw mut news, 1, 20_000) }, 1, "the child is still there");
}
