//! `shell copy` when processes are killed, stopped or interrupted, and when a source or a disk fails midway.

use crate::kit::stopped_copy::{StoppedCopy, copy_waiting_for_input, copy_with_stopped_receiver};
use crate::kit::*;
use rustix::fs::{CWD, Mode};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::FromRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// More than any ring or socket holds.
const LONG: usize = 48 << 20;

fn peers(json: &Value) -> &[Value] {
    json["receivers"].as_array().expect("peers")
}

/// Asserts what must be true of a copy to `peers` peers if `lost` were lost: exit code 4, a line about each lost peer,
/// and whole files of the others.
#[track_caller]
fn assert_lost(sandbox: &Sandbox, copy: &Ended, lost: &[i32], bytes: &[u8]) {
    copy.has_code(4);
    let json = copy.json();
    for peer in peers(&json) {
        let is_lost = lost.iter().any(|&pid| peer["pid"] == pid);
        assert_eq!(peer["error"].is_string(), is_lost, "{peer}");
        let path = sandbox.at(peer["path"].as_str().unwrap());
        if is_lost {
            assert!(!path.exists(), "{peer}");
            let name = format!("peer {} (pid {})", peer["peer"], peer["pid"]);
            let named = copy.stderr.lines().filter(|line| line.contains(&name) && !line.contains("waiting"));
            assert_eq!(named.count(), 1, "{name}: {copy:?}");
        } else {
            assert_holds(&path, bytes);
            assert_eq!(peer["bytes"], bytes.len());
        }
    }
    sandbox.only_names_left(Duration::ZERO);
}

#[test]
fn a_killed_receiver_is_named_and_the_others_get_everything() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(LONG, 1);
        let (mut copy, receivers) = copy_waiting_for_input(
            &sandbox,
            &["copy", transport, "-n", "3", "--json", "-"],
            3,
            &bytes[..300_000],
        );
        signal(receivers[1], Signal::KILL);
        copy.stdin().write_all(&bytes[300_000..]).unwrap();
        copy.close_stdin();
        let copy = copy.end(LIMIT);
        copy.one_line(&["peer", &receivers[1].to_string(), "SIGKILL"]);
        assert_lost(&sandbox, &copy, &[receivers[1]], &bytes);
    }
}

#[test]
fn a_receiver_killed_while_the_source_is_silent_is_reaped_at_once() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let arguments = ["copy", transport, "-n", "3", "--json", "-"];
        let (mut copy, receivers) = copy_waiting_for_input(&sandbox, &arguments, 3, b"x");
        signal(receivers[2], Signal::KILL);
        until(SOON, "it is reaped", || children(copy.pid()) == receivers[..2]);
        copy.close_stdin();
        assert_lost(&sandbox, &copy.end(LIMIT), &[receivers[2]], b"x");
    }
}

#[test]
fn killing_every_receiver_ends_the_copy_whatever_the_source_does() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        let arguments = ["copy", transport, "-n", "3", "--json", "-"];
        let (copy, receivers) = copy_waiting_for_input(&sandbox, &arguments, 3, b"x");
        for &pid in &receivers {
            signal(pid, Signal::KILL);
        }
        // Its standard input stays open and silent.
        let copy = copy.end(SOON);
        assert_lost(&sandbox, &copy, &receivers, b"");
        assert_eq!(copy.stderr.lines().count(), 3, "{copy:?}");

        let sandbox = Sandbox::new();
        sandbox.file("source", &noise(LONG, 1));
        let arguments = ["copy", transport, "-n", "2", "--json", "source"];
        let StoppedCopy { copy, receivers, .. } =
            copy_with_stopped_receiver(&sandbox, &arguments, 2, &sandbox.at("received-files"), LONG as u64);
        for &pid in &receivers {
            signal(pid, Signal::KILL);
        }
        // By sockets, the receiver that was not stopped may have everything already.
        let copy = copy.end(SOON);
        let whole =
            |pid: &i32| peers(&copy.json()).iter().any(|peer| peer["pid"] == *pid && peer["error"].is_null());
        let lost: Vec<_> = receivers.iter().copied().filter(|pid| !whole(pid)).collect();
        assert!(!lost.is_empty());
        assert_lost(&sandbox, &copy, &lost, &noise(LONG, 1));
    });
}

#[test]
fn receivers_end_when_their_sender_is_killed() {
    for (transport, count) in TRANSPORTS.into_iter().flat_map(|t| [(t, 1), (t, 3), (t, 64)]) {
        let sandbox = Sandbox::new();
        let arguments = ["copy", transport, "-n", &count.to_string(), "-"];
        let (copy, receivers) = copy_waiting_for_input(&sandbox, &arguments, count, &noise(100_000, 1));
        signal(copy.pid(), Signal::KILL);
        sandbox.only_names_left(SOON);
        // A process that ends leaves its directory a moment before it is dead.
        until(SOON, "every receiver has ended", || !receivers.iter().copied().any(is_alive));
        assert_eq!(copy.end(SOON).signal(), Some(9));
        assert_eq!(sandbox.names("received-files"), Vec::<String>::new());
    }
}

#[test]
fn a_stopped_receiver_whose_sender_was_killed_ends_when_it_continues() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        sandbox.file("source", &noise(LONG, 1));
        let arguments = ["copy", transport, "-n", "3", "source"];
        let held =
            copy_with_stopped_receiver(&sandbox, &arguments, 3, &sandbox.at("received-files"), LONG as u64);
        signal(held.copy.pid(), Signal::KILL);
        held.copy.end(SOON);
        // The kernel continues stopped processes of an orphaned process group.
        until(SOON, "the others are gone", || sandbox.processes().iter().all(|&pid| pid == held.stopped));
        signal(held.stopped, Signal::CONT);
        sandbox.only_names_left(SOON);
        for name in sandbox.names("received-files") {
            assert_holds(&sandbox.at("received-files").join(name), &noise(LONG, 1));
        }
    });
}

#[test]
fn a_stopped_receiver_is_waited_for_and_named_and_then_everything_is_whole() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        let bytes = noise(LONG, 1);
        sandbox.file("source", &bytes);
        let arguments = ["copy", transport, "-n", "3", "--json", "source"];
        let StoppedCopy { copy, stopped, .. } =
            copy_with_stopped_receiver(&sandbox, &arguments, 3, &sandbox.at("received-files"), LONG as u64);
        sleep(Duration::from_millis(1500)); // the copy must still wait
        assert!(is_stopped(stopped));
        signal(stopped, Signal::CONT);
        let copy = copy.end(LIMIT);
        copy.has_code(0).one_line(&["waiting for peer", &format!("(pid {stopped})")]);
        let json = copy.json();
        let named = peers(&json).iter().find(|peer| peer["pid"] == stopped).unwrap();
        assert!(copy.stderr.contains(&format!("peer {} ", named["peer"])), "{copy:?}");
        for peer in 1..=3 {
            assert_holds(&sandbox.received(peer, "source"), &bytes);
        }
        sandbox.only_names_left(Duration::ZERO);
    });
}

#[test]
fn a_receiver_that_is_stopped_and_then_killed_is_lost_alone() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        let bytes = noise(LONG, 1);
        sandbox.file("source", &bytes);
        let arguments = ["copy", transport, "-n", "3", "--json", "source"];
        let StoppedCopy { copy, stopped, .. } =
            copy_with_stopped_receiver(&sandbox, &arguments, 3, &sandbox.at("received-files"), LONG as u64);
        signal(stopped, Signal::KILL);
        assert_lost(&sandbox, &copy.end(LIMIT), &[stopped], &bytes);
    });
}

#[test]
fn a_receiver_stopped_with_everything_on_its_way_is_named_too() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        let arguments = ["copy", transport, "-n", "3", "--quiet", "-"];
        let (mut copy, receivers) = copy_waiting_for_input(&sandbox, &arguments, 3, b"start");
        signal(receivers[1], Signal::STOP);
        copy.stdin().write_all(b"end").unwrap();
        copy.close_stdin();
        // Also with --quiet, because it is a warning.
        let name = format!("peer 2 (pid {})", receivers[1]);
        until(LIMIT, "it is named", || copy.stderr().contains(&name));
        assert!(
            !copy.stderr().contains("peer 1 ") && !copy.stderr().contains("peer 3 "),
            "{}",
            copy.stderr()
        );
        signal(receivers[1], Signal::CONT);
        copy.end(LIMIT).has_code(0);
        assert_holds(&sandbox.received(2, "stdin"), b"startend");
    });
}

#[test]
fn stopping_and_continuing_all_processes_loses_nothing() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(LONG / 2, 9);
        let mut copy = start(sandbox.shell(["copy", transport, "-n", "3", "-"]).stdin(Stdio::piped()));
        let all: Vec<_> = copy.receivers(3).into_iter().chain([copy.pid()]).collect();
        let mut state = 11;
        for piece in bytes.chunks(bytes.len() / 60 + 1) {
            let pid = all[next(&mut state) as usize % 4];
            signal(pid, Signal::STOP);
            sleep(Duration::from_micros(next(&mut state) % 5000));
            signal(pid, Signal::CONT);
            copy.stdin().write_all(piece).unwrap();
        }
        copy.close_stdin();
        copy.end(LIMIT).silent_success();
        for peer in 1..=3 {
            assert_holds(&sandbox.received(peer, "stdin"), &bytes);
        }
    }
}

/// Interrupts what `begin` starts, with each stop signal, sent to the command alone and to its whole group.
fn interrupts(begin: impl Fn(&Sandbox, &str) -> (Running, Vec<i32>) + Sync) {
    let signals = [(2, Signal::INT), (15, Signal::TERM), (1, Signal::HUP)];
    let cases = TRANSPORTS.into_iter().flat_map(|transport| signals.map(|signal| (transport, signal)));
    let cases = cases.flat_map(|(transport, signal)| [false, true].map(|group| (transport, signal, group)));
    all_at_once(cases, |(transport, (number, stop), whole_group)| {
        let sandbox = Sandbox::new();
        let (copy, receivers) = begin(&sandbox, transport);
        match whole_group {
            true => signal_group(copy.pid(), stop),
            false => assert!(signal(copy.pid(), stop)),
        }
        let copy = copy.end(SOON);
        assert_eq!(copy.signal(), Some(number), "{transport} {stop:?} {whole_group}: {copy:?}");
        assert!(!receivers.into_iter().any(is_alive), "children are gone before it is");
        sandbox.only_names_left(Duration::ZERO);
        assert!(!copy.stderr.contains("panicked") && copy.stdout.is_empty(), "{copy:?}");
        assert_eq!(sandbox.names("received-files"), Vec::<String>::new());
    });
}

#[test]
fn interrupted_while_its_standard_input_is_silent() {
    interrupts(|sandbox, transport| {
        copy_waiting_for_input(sandbox, &["copy", transport, "-n", "3", "-"], 3, &noise(200_000, 1))
    });
}

#[test]
fn interrupted_before_its_standard_input_said_anything() {
    interrupts(|sandbox, transport| {
        let mut copy = start(sandbox.shell(["copy", transport, "-n", "3", "-"]).stdin(Stdio::piped()));
        let receivers = copy.receivers(3);
        (copy, receivers)
    });
}

fn fifo(sandbox: &Sandbox) -> PathBuf {
    let fifo = sandbox.at("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fifo
}

#[test]
fn interrupted_while_a_fifo_has_no_writer() {
    interrupts(|sandbox, transport| {
        fifo(sandbox);
        let mut copy = start(&mut sandbox.shell(["copy", transport, "-n", "3", "fifo"]));
        let receivers = copy.receivers(3);
        (copy, receivers)
    });
}

#[test]
fn interrupted_while_a_fifos_writer_is_silent() {
    interrupts(|sandbox, transport| {
        let fifo = fifo(sandbox);
        // This end stays open in the command's parent, which never closes it.
        let mut copy = start(&mut sandbox.shell(["copy", transport, "-n", "3", "fifo"]));
        let writer = File::options().write(true).open(fifo).unwrap();
        std::mem::forget(writer);
        let receivers = copy.receivers(3);
        (copy, receivers)
    });
}

#[test]
fn interrupted_while_a_receiver_is_stopped() {
    interrupts(|sandbox, transport| {
        sandbox.file("source", &noise(LONG / 2, 1));
        let arguments = ["copy", transport, "-n", "1", "source"];
        let held = copy_with_stopped_receiver(
            sandbox,
            &arguments,
            1,
            &sandbox.at("received-files"),
            LONG as u64 / 2,
        );
        (held.copy, held.receivers)
    });
}

#[test]
fn ignored_signals_stay_ignored() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        sandbox.file("source", b"contents");
        let script = format!("trap '' HUP; exec \"$SHELL_BIN\" copy {transport} -n 2 -");
        let mut copy = start(sandbox.script(&script).stdin(Stdio::piped()));
        let receivers = copy.receivers(2);
        copy.stdin().write_all(b"before").unwrap();
        copy.have(&receivers, &sandbox.at("received-files"), 6);
        signal_group(copy.pid(), Signal::HUP);
        copy.stdin().write_all(b"after").unwrap();
        copy.close_stdin();
        copy.end(LIMIT).silent_success();
        assert_holds(&sandbox.received(2, "stdin"), b"beforeafter");
    }
}

#[test]
fn a_source_that_shrinks_midway_is_an_error_and_leaves_nothing() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        sandbox.file("source", &noise(LONG, 1));
        // One peer only. By sockets another one could have everything already, and would keep it.
        let arguments = ["copy", transport, "-n", "1", "source"];
        let held =
            copy_with_stopped_receiver(&sandbox, &arguments, 1, &sandbox.at("received-files"), LONG as u64);
        File::options().write(true).open(sandbox.at("source")).unwrap().set_len(LONG as u64 / 2).unwrap();
        signal(held.stopped, Signal::CONT);
        let copy = held.copy.end(LIMIT);
        copy.has_code(1);
        let last = copy.stderr.lines().last().unwrap();
        assert!(last.contains("source: ") && last.contains("shrank"), "{copy:?}");
        assert_eq!(copy.stderr.lines().count(), 2, "the receiver waited for, and the error: {copy:?}");
        sandbox.only_names_left(Duration::ZERO);
        assert_eq!(sandbox.names("received-files"), Vec::<String>::new());
    });
}

#[test]
fn a_source_that_fails_midway_is_an_error_and_leaves_nothing() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        // If no process has the terminal open, reading from its controlling side is an input/output error.
        let (mut master, mut slave) = (-1, -1);
        let null = std::ptr::null_mut();
        // SAFETY: the two integers live through the call; the other pointers may be null.
        let result =
            unsafe { libc::openpty(&raw mut master, &raw mut slave, null, null.cast(), null.cast()) };
        assert_eq!(result, 0);
        // SAFETY: both were just opened, and only this test uses them.
        let [master, mut slave] = [master, slave].map(|fd| unsafe { File::from_raw_fd(fd) });
        for end in [&master, &slave] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).unwrap();
        }
        let mut copy = start(sandbox.shell(["copy", transport, "-n", "3", "--json", "-"]).stdin(master));
        let receivers = copy.receivers(3);
        slave.write_all(b"so far").unwrap();
        copy.have(&receivers, &sandbox.at("received-files"), 6);
        drop(slave);
        copy.end(LIMIT).refusal(1, &["-: ", "reading failed"]);
        sandbox.only_names_left(Duration::ZERO);
        assert_eq!(sandbox.names("received-files"), Vec::<String>::new());
    }
}

#[test]
fn a_disk_error_of_one_receiver_ends_that_one_only() {
    if Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("a limit on one receiver's file", "there is no prlimit");
    }
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(5_000_000, 3);
        let script = format!("trap '' XFSZ; exec \"$SHELL_BIN\" copy {transport} -n 3 --json -");
        let mut copy = start(sandbox.script(&script).stdin(Stdio::piped()));
        let receivers = copy.receivers(3);
        copy.stdin().write_all(&bytes[..1000]).unwrap();
        copy.have(&receivers, &sandbox.at("received-files"), 1000);
        let limited =
            sandbox.program("prlimit").args(["--pid", &receivers[1].to_string(), "--fsize=100000"]).status();
        assert!(limited.unwrap().success());
        copy.stdin().write_all(&bytes[1000..]).unwrap();
        copy.close_stdin();
        let copy = copy.end(LIMIT);
        copy.one_line(&["peer 2", "too large"]);
        assert_lost(&sandbox, &copy, &[receivers[1]], &bytes);
    }
}

#[test]
fn a_name_that_cannot_be_given_in_the_end_ends_that_receiver_only() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let arguments = ["copy", transport, "-n", "3", "--json", "-"];
        let (mut copy, _) = copy_waiting_for_input(&sandbox, &arguments, 3, b"contents");
        fs::create_dir(sandbox.received(2, "stdin")).unwrap();
        copy.close_stdin();
        let copy = copy.end(LIMIT);
        copy.has_code(4).one_line(&["peer 2", "directory"]);
        assert_holds(&sandbox.received(1, "stdin"), b"contents");
        assert_holds(&sandbox.received(3, "stdin"), b"contents");
        sandbox.only_names_left(Duration::ZERO);
    }
}
