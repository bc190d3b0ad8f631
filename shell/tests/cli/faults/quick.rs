//! Scenes of the commands that only read, print or check. They end at once, or on a signal. They run only without a
//! call, because they make few calls that the other scenes do not make.

use super::calls::{Fault, Scene, Verdict, end, ends_properly, ensure, nothing_left};
use crate::kit::{Running, SOON, Sandbox, run, signal, start, start_with_stdout, until};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;

pub const SCENES: [Scene; 8] = [
    Scene { name: "--help", play: help },
    Scene { name: "completions", play: completions },
    Scene { name: "man", play: man },
    Scene { name: "doctor", play: doctor },
    Scene { name: "ls, top --once", play: list_as_text },
    Scene { name: "top", play: top },
    Scene { name: "mail watch", play: mail_watch },
    Scene { name: "dipc --foreground", play: dipc_foreground },
];

/// Runs a command that prints, and checks that its output holds this if it succeeds.
fn prints(sandbox: &Sandbox, fault: &Fault, words: &str, holds: &[&str]) -> Verdict {
    let ended = end(start(&mut fault.shell(sandbox, words)), words)?;
    ends_properly(&ended, fault)?;
    let is_whole = holds.iter().all(|word| ended.stdout.contains(word));
    ensure(ended.code() != Some(0) || is_whole, || format!("not what it prints: {ended:?}"))?;
    nothing_left(sandbox, fault, 1)
}

pub fn help(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    prints(sandbox, fault, "--help", &["Usage:", "Exit codes:"])
}

pub fn completions(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    prints(sandbox, fault, "completions bash", &["complete ", "dipcrm"])
}

pub fn doctor(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let ended = end(start(&mut fault.shell(sandbox, "doctor")), "doctor")?;
    // Its results are findings on standard output, so it may end with 1 without an error message.
    if !(ended.code() == Some(1) && ended.stderr.is_empty() && ended.stdout.contains("fail")) {
        ends_properly(&ended, fault)?;
    }
    ensure(ended.code() != Some(0) || ended.stdout.contains("shared futex"), || format!("{ended:?}"))?;
    nothing_left(sandbox, fault, 1)
}

pub fn man(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let ended = end(start(&mut fault.shell(sandbox, "man pages")), "man")?;
    ends_properly(&ended, fault)?;
    let pages = sandbox.names("pages");
    ensure(ended.code() != Some(0) || pages.len() > 10, || format!("{pages:?}: {ended:?}"))?;
    for page in pages {
        let text = fs::read_to_string(sandbox.at("pages").join(&page)).unwrap_or_default();
        ensure(text.contains("EXIT STATUS") || text.starts_with(".so "), || format!("{page} is not whole"))?;
    }
    nothing_left(sandbox, fault, 1)
}

pub fn list_as_text(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let living = sandbox.start_fed("send living");
    sandbox.until_owned("living");
    let result = prints_while(sandbox, fault, "ls");
    let once = prints_while(sandbox, fault, "top --once");
    signal(living.pid(), Signal::TERM);
    end(living, "send")?;
    result?;
    once?;
    nothing_left(sandbox, fault, 1)
}

fn prints_while(sandbox: &Sandbox, fault: &Fault, words: &str) -> Verdict {
    let ended = end(start(&mut fault.shell(sandbox, words)), words)?;
    ends_properly(&ended, fault)?;
    ensure(ended.code() != Some(0) || ended.stdout.contains("living"), || format!("{ended:?}"))
}

/// A terminal: the side of the user, and the side of the command.
fn terminal() -> Option<[File; 2]> {
    let (mut master, mut slave) = (-1, -1);
    let (none, size) =
        (std::ptr::null_mut(), libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 });
    // SAFETY: the two integers and the size live through the call; the other pointers may be null.
    let made = unsafe {
        libc::openpty(&raw mut master, &raw mut slave, none, none.cast(), (&raw const size).cast_mut())
    };
    // SAFETY: both were just opened, and only this test uses them.
    let ends = (made == 0).then(|| [master, slave].map(|fd| unsafe { File::from_raw_fd(fd) }))?;
    for end in &ends {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).ok()?;
    }
    rustix::io::ioctl_fionbio(&ends[0], true).ok()?;
    Some(ends)
}

pub fn top(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let living = sandbox.start_fed("send living");
    sandbox.until_owned("living");
    let Some([mut master, slave]) = terminal() else { return Err("a terminal cannot be opened".into()) };
    let mut command = fault.shell(sandbox, "top --interval 50ms");
    command.stdin(slave.try_clone().expect("a copy")).env("TERM", "xterm");
    let mut top = start_with_stdout(&mut command, slave.into());
    let mut seen = String::new();
    let begun = std::time::Instant::now();
    while top.is_running() && !seen.contains("living") && begun.elapsed() < SOON {
        read_what_is_there(&mut master, &mut seen);
    }
    let has_shown = seen.contains("living");
    let _ = master.write_all(b"q");
    // The test reads what the command draws, as a terminal does. A command that does not react to the key reacts to the
    // signal.
    for _ in 0..1000 {
        if !top.is_running() {
            break;
        }
        read_what_is_there(&mut master, &mut seen);
    }
    let heeds_keys = !top.is_running();
    signal(top.pid(), Signal::TERM);
    let ended = end(top, "top")?;
    signal(living.pid(), Signal::TERM);
    end(living, "send")?;
    if heeds_keys || ended.signal() != Some(Signal::TERM.as_raw()) {
        ends_properly(&ended, fault)?;
    }
    let shows = ended.code() != Some(0) || has_shown || seen.contains("unknown");
    ensure(shows && (heeds_keys || !matches!(fault, Fault::Nothing)), || {
        format!("it showed {seen:?}; {ended:?}")
    })?;
    nothing_left(sandbox, fault, 1)
}

fn read_what_is_there(master: &mut File, seen: &mut String) {
    let mut bytes = [0; 4096];
    match master.read(&mut bytes) {
        Ok(count) => seen.push_str(&String::from_utf8_lossy(&bytes[..count])),
        Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
    }
}

pub fn mail_watch(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let started = run(&mut sandbox.words("dipc 1 1 0 1"));
    let port = started.stdout.trim_end().rsplit(':').next().unwrap_or_default().to_owned();
    run(&mut sandbox.words(&format!("mail -p {port} write 0 before"))).has_code(0);
    let (mut reader, writer) = UnixStream::pair().expect("a pair of sockets");
    let mut command = fault.shell(sandbox, &format!("mail -p {port} watch 0"));
    let watch: Running = start_with_stdout(&mut command, std::os::fd::OwnedFd::from(writer).into());
    drop(command); // its copy of the socket
    let mut seen = [0; 100];
    reader.set_read_timeout(Some(SOON)).expect("a socket");
    let count = reader.read(&mut seen).unwrap_or(0);
    ensure(count == 0 || seen[..count].starts_with(b"before"), || format!("{:?}", &seen[..count]))?;
    run(&mut sandbox.words(&format!("dipcrm {port}"))).has_code(0);
    let ended = end(watch, "mail watch")?;
    ends_properly(&ended, fault)?;
    nothing_left(sandbox, fault, 1)
}

pub fn dipc_foreground(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let mut dipc = start(&mut fault.shell(sandbox, "dipc 1 1 0 1 --foreground"));
    let entries = || sandbox.left().into_iter().filter(|name| name.ends_with(".sock")).count();
    until(SOON, "it serves, or has ended", || entries() > 0 || !dipc.is_running());
    signal(dipc.pid(), Signal::TERM);
    let dipc = end(dipc, "dipc --foreground")?;
    // A server logs errors that happen while it serves. Its names are then those of a dead server.
    let is_logged = dipc.code() == Some(1) && dipc.stderr.lines().all(|line| line.contains(" ERROR "));
    if dipc.signal() != Some(Signal::TERM.as_raw()) && !is_logged {
        ends_properly(&dipc, fault)?;
    }
    if is_logged || fault.failing().is_some_and(|call| call.starts_with("unlink")) {
        run(&mut sandbox.words("rm --dead")).has_code(0);
    }
    nothing_left(sandbox, fault, 1)
}
