//! Terminals of any size, and terminals that report none, under the commands that draw on them.

use crate::kit::*;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Columns and rows that a terminal can report.
const SIZES: [(u16, u16); 9] =
    [(80, 24), (0, 0), (1, 1), (65535, 65535), (1, 65535), (65535, 1), (2, 3), (0, 24), (200, 50)];

/// A terminal of which every byte is read.
struct Pty {
    ours: OwnedFd,
    theirs: OwnedFd,
    drawn: Arc<Mutex<Vec<u8>>>,
}

impl Pty {
    fn new(size: (u16, u16)) -> Self {
        let ours =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("its other side");
        let name = ptsname(&ours, Vec::new()).expect("its name");
        let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let drawn = Arc::new(Mutex::new(Vec::new()));
        let (from, to) = (ours.try_clone().expect("a copy"), drawn.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 65536];
            // An error: the other side is closed.
            while let Ok(count) = rustix::io::read(&from, &mut bytes) {
                to.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        let pty = Self { ours, theirs: theirs.expect("its other side"), drawn };
        pty.resize(size);
        pty
    }

    fn resize(&self, (ws_col, ws_row): (u16, u16)) {
        tcsetwinsize(&self.ours, Winsize { ws_col, ws_row, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
    }

    /// Starts a command with this terminal as its three standard streams.
    fn start(&self, command: &mut Command) -> Running {
        let side = || self.theirs.try_clone().expect("a copy");
        start_with_streams(command.stdin(side()), side().into(), side().into())
    }

    fn drawn(&self) -> usize {
        self.drawn.lock().unwrap().len()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.drawn.lock().unwrap()).into_owned()
    }

    fn type_in(&self, keys: &str) {
        rustix::io::write(&self.ours, keys.as_bytes()).expect("a terminal");
    }
}

/// The most memory that a process used, in KiB.
fn peak(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn top_draws_on_a_terminal_of_any_size_and_when_it_changes() {
    for (number, size) in SIZES.into_iter().enumerate() {
        let sandbox = Sandbox::new();
        let pty = Pty::new(size);
        let mut top = pty.start(sandbox.words("top --interval 50ms").env("TERM", "xterm"));
        until(LIMIT, "it draws or ends", || pty.drawn() > 100 || !top.is_running());
        for next in [SIZES[(number + 1) % SIZES.len()], (80, 24)] {
            let before = pty.drawn();
            pty.resize(next);
            // The command does not draw again if the size is equal, so the test presses a key that shows and hides the
            // help.
            pty.type_in("?");
            until(LIMIT, "it draws or ends", || pty.drawn() > before || !top.is_running());
            assert!(top.is_running(), "{size:?}, then {next:?}: {}", pty.text());
        }
        assert!(peak(top.pid()) < 250 << 10, "{size:?}: {} KiB", peak(top.pid()));
        pty.type_in("xq");
        let code = top.end(LIMIT).code();
        assert_eq!(code, Some(0), "{size:?}: {}", pty.text());
        assert!(!pty.text().contains("panicked"), "{size:?}: {}", pty.text());
    }
}

#[test]
fn top_waits_for_a_terminal_that_is_not_ready() {
    let sandbox = Sandbox::new();
    let pty = Pty::new((65535, 65535));
    let flags = fcntl_getfl(&pty.theirs).expect("flags");
    fcntl_setfl(&pty.theirs, flags | OFlags::NONBLOCK).expect("flags");
    let mut top = pty.start(sandbox.words("top --interval 50ms").env("TERM", "xterm"));
    until(LIMIT, "it draws or ends", || pty.drawn() > 100 || !top.is_running());
    for _ in 0..5 {
        let before = pty.drawn();
        pty.type_in("?");
        until(LIMIT, "it draws or ends", || pty.drawn() > before || !top.is_running());
    }
    assert!(top.is_running(), "{}", pty.text());
    pty.type_in("xq");
    assert_eq!(top.end(LIMIT).code(), Some(0), "{}", pty.text());
}

#[test]
fn top_says_why_it_does_not_draw() {
    let sandbox = Sandbox::new();
    for term in [None, Some(""), Some("dumb")] {
        let pty = Pty::new((80, 24));
        let mut command = sandbox.words("top");
        match term {
            Some(term) => command.env("TERM", term),
            None => command.env_remove("TERM"),
        };
        assert_eq!(pty.start(&mut command).end(LIMIT).code(), Some(2), "{term:?}");
        until(LIMIT, "a line was read", || pty.text().ends_with(" --help\r\n"));
        let said = pty.text();
        let line = said.lines().next().unwrap_or_default();
        assert!(!line.contains(char::is_control), "{term:?}: {said:?}");
        for word in ["shell: top: TERM", "--once", "--json"] {
            assert!(line.contains(word), "{term:?}: {said:?}");
        }
    }
}

#[test]
fn progress_is_drawn_on_a_terminal_of_any_size() {
    let sandbox = Sandbox::new();
    let bytes = noise(3 << 20, 7);
    sandbox.file("f", &bytes);
    for size in SIZES {
        for is_ready in [true, false] {
            let pty = Pty::new(size);
            if !is_ready {
                let flags = fcntl_getfl(&pty.theirs).expect("flags");
                fcntl_setfl(&pty.theirs, flags | OFlags::NONBLOCK).expect("flags");
            }
            let mut command = sandbox.words("copy -n 2 --progress always f");
            let copying = pty.start(command.env("TERM", "xterm"));
            assert_eq!(copying.end(LIMIT).code(), Some(0), "{size:?}: {}", pty.text());
            assert!(!pty.text().contains("panicked"), "{size:?}: {}", pty.text());
            assert_holds(&sandbox.received(1, "f"), &bytes);
        }
    }
    sandbox.nothing_left();
}

#[test]
fn tables_fit_a_terminal_of_any_size() {
    let sandbox = Sandbox::new();
    let sender = sandbox.start_fed("send chan");
    sandbox.until_owned("chan");
    for size in SIZES {
        for command in ["ls", "top --once", "doctor", "--help"] {
            let pty = Pty::new(size);
            let ended = pty.start(sandbox.words(command).env("TERM", "xterm")).end(LIMIT);
            assert!(ended.code().is_some_and(|code| code < 2), "{command} {size:?}: {}", pty.text());
            until(LIMIT, "it is printed", || pty.drawn() > 0);
            assert!(!pty.text().contains("panicked"), "{command} {size:?}: {}", pty.text());
        }
    }
    drop(sender);
}
