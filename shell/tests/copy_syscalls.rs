//! `shell copy` where system calls fail: as on file systems without unnamed files, and each of the others once. By strace.

mod common;

use common::*;
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A copy on a file system that does not know unnamed files: each receiver's first opening below `received-files` fails.
/// The command is the child; strace lives beside it.
fn without_unnamed_files(place: &Place, arguments: &[&str]) -> Command {
    fs::create_dir_all(place.at("received-files")).unwrap();
    let directory = place.at("received-files");
    let mut command = place.program("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-P", directory.to_str().unwrap()]);
    command.args(["-e", "trace=openat", "-e", "inject=openat:error=EOPNOTSUPP:when=1"]);
    // By another name, so that the sender's own opening of it is not meant.
    command.arg(env!("CARGO_BIN_EXE_shell")).args(arguments).args(["-d", "./received-files//."]);
    command
}

/// Holds a stream copy whose receivers write files with temporary names.
fn hold_named(place: &Place, transport: &str, sent: &[u8]) -> (Live, Vec<i32>) {
    let arguments = ["copy", transport, "-n", "3", "-"];
    let mut copy = start(without_unnamed_files(place, &arguments).stdin(Stdio::piped()));
    copy.stdin().write_all(sent).unwrap();
    let receivers = copy.receivers(3);
    copy.have(&receivers, &place.at("received-files"), sent.len() as u64);
    assert_eq!(place.parts().len(), 3, "they have temporary names");
    assert!(place.parts().iter().all(|part| part.file_name().unwrap().len() <= 32), "short ones");
    (copy, receivers)
}

#[test]
fn without_unnamed_files_everything_is_the_same() {
    if no_strace("file systems without unnamed files") {
        return;
    }
    for transport in TRANSPORTS {
        let place = Place::new();
        let bytes = noise(2_000_001, 1);
        let (mut copy, _) = hold_named(&place, transport, &bytes);
        copy.close_stdin();
        copy.end(LIMIT).silent_success();
        place.nothing_left(SOON);
        // Again, replacing files, and then leaving them alone.
        for (flag, code) in [("--verify", 0), ("--no-clobber", 1)] {
            let arguments = ["copy", transport, "-n", "3", flag, "-"];
            run(&mut without_unnamed_files(&place, &arguments)).has_code(code);
            place.nothing_left(SOON);
            for peer in 1..=3 {
                assert_holds(&place.received(peer, "stdin"), b"");
            }
        }
    }
}

#[test]
fn temporary_names_are_removed_by_whoever_survives() {
    if no_strace("file systems without unnamed files") {
        return;
    }
    for transport in TRANSPORTS {
        for stop in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
            let place = Place::new();
            let (copy, _) = hold_named(&place, transport, &noise(100_000, 1));
            signal(copy.pid(), stop);
            assert_eq!(copy.end(SOON).signal(), Some(stop.as_raw()), "{transport}");
            place.nothing_left(SOON);
            assert_eq!(place.names("received-files"), Vec::<String>::new());
        }
        let place = Place::new();
        let (mut copy, receivers) = hold_named(&place, transport, b"x");
        signal(receivers[0], Signal::KILL);
        until(SOON, "its file is removed", || place.parts().len() == 2);
        copy.close_stdin();
        copy.end(LIMIT).has_code(4).one_line(&["peer 1 "]);
        place.nothing_left(SOON);
        assert_eq!(place.names("received-files"), ["peer-02_stdin", "peer-03_stdin"]);
    }
}

/// A copy to three peers of which the second is stopped before it did anything; nothing was said about it yet.
fn stopped_at_birth(place: &Place, transport: &str) -> (Live, Vec<i32>) {
    for _attempt in 0..10 {
        let mut command = place.program("strace");
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=getppid:signal=STOP:when=1"]);
        // Each receiver calls this before it takes part, and their parent does not.
        command.arg(env!("CARGO_BIN_EXE_shell")).args(["copy", transport, "-n", "3", "source"]);
        let mut copy = start(&mut command);
        let receivers = copy.receivers(3);
        for innocent in [receivers[0], receivers[2]] {
            until(LIMIT, "it goes on", || {
                signal(innocent, Signal::CONT);
                !is_alive(innocent) || stat(innocent).is_some_and(|fields| fields[0] == "S")
            });
        }
        if copy.stderr().is_empty() {
            return (copy, receivers);
        }
    }
    panic!("this machine is too slow");
}

#[test]
fn a_receiver_stopped_before_it_takes_part_is_the_one_that_is_waited_for() {
    if no_strace("receivers stopped at birth") {
        return;
    }
    for transport in TRANSPORTS {
        let place = Place::new();
        place.file("source", b"contents");
        let (copy, receivers) = stopped_at_birth(&place, transport);
        until(LIMIT, "it says for whom it waits", || copy.stderr().contains("waiting for peer"));
        signal(receivers[1], Signal::CONT);
        let copy = copy.end(LIMIT);
        copy.has_code(0).one_line(&[&format!("waiting for peer 2 (pid {})", receivers[1])]);
        assert!(!copy.stderr.contains("has everything"), "{transport}: {copy:?}");
        for innocent in [receivers[0], receivers[2]] {
            assert!(!copy.stderr.contains(&innocent.to_string()), "{transport}: {copy:?}");
        }
        for peer in 1..=3 {
            assert_holds(&place.received(peer, "source"), b"contents");
        }
    }
}

/// Runs a copy in which system calls fail as `inject` says, in every process.
fn injected(place: &Place, arguments: &[&str], inject: &str) -> Ended {
    let mut command = place.program("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={inject}")]);
    run(command.arg(env!("CARGO_BIN_EXE_shell")).args(arguments))
}

#[test]
fn calls_that_are_interrupted_are_made_again() {
    if no_strace("interrupted calls") {
        return;
    }
    let calls = [
        "read",
        "pread64",
        "pwrite64",
        "write",
        "sendfile",
        "sendto",
        "epoll_wait",
        "epoll_pwait",
        "poll",
        "ppoll",
        "wait4",
    ];
    for (transport, source) in TRANSPORTS.into_iter().flat_map(|t| [(t, "source"), (t, "-")]) {
        let place = Place::new();
        let bytes = noise(1_000_003, 2);
        place.file("source", &bytes);
        for call in calls {
            // Not the loader's and the runtime's own first ones, then every third.
            let inject = format!("{call}:error=EINTR:when=12+3");
            let mut command = place.program("strace");
            command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={inject}")]);
            command.arg(env!("CARGO_BIN_EXE_shell")).args(["copy", transport, "-n", "2", "--verify", source]);
            let copy = run(command.stdin(fs::File::open(place.at("source")).unwrap()));
            assert_eq!((copy.code(), &*copy.stderr), (Some(0), ""), "{transport} {source} {call}: {copy:?}");
            let name = if source == "-" { "stdin" } else { "source" };
            for peer in [1, 2] {
                assert_holds(&place.received(peer, name), &bytes);
            }
        }
        place.nothing_left(SOON);
    }
}

#[test]
fn a_directory_is_judged_without_faccessat2() {
    if no_strace("kernels and filters without faccessat2") {
        return;
    }
    for error in ["ENOSYS", "EPERM"] {
        let place = Place::new();
        place.file("source", b"contents");
        let arguments = ["copy", "-n", "2", "source"];
        injected(&place, &arguments, &format!("faccessat2:error={error}")).silent_success();
        assert_holds(&place.received(2, "source"), b"contents");
    }
}

#[test]
fn files_are_named_and_sent_by_other_calls_where_a_filter_bars_some() {
    if no_strace("filters that bar calls") {
        return;
    }
    for inject in
        ["linkat:error=EPERM", "linkat:error=ENOSYS", "sendfile:error=EINVAL", "sendfile:error=EPERM"]
    {
        let place = Place::new();
        let bytes = noise(700_001, 5);
        place.file("source", &bytes);
        fs::File::options().write(true).open(place.at("source")).unwrap().set_len(2_000_000).unwrap();
        let expected = [&bytes[..], &[0; 2_000_000 - 700_001]].concat();
        // Again, replacing files, and then leaving them alone.
        for (flag, code) in [("--fsync", 0), ("--verify", 0), ("--no-clobber", 1)] {
            let arguments = ["copy", "--socket", "-n", "2", flag, "source"];
            injected(&place, &arguments, inject).has_code(code);
            (1..=2).for_each(|peer| assert_holds(&place.received(peer, "source"), &expected));
            place.nothing_left(SOON);
        }
    }
}

#[test]
fn receivers_are_watched_without_pidfds() {
    if no_strace("kernels and filters without pidfds") {
        return;
    }
    for (transport, error) in [("--shm", "ENOSYS"), ("--socket", "EPERM")] {
        let place = Place::new();
        let bytes = noise(500_000, 4);
        place.file("source", &bytes);
        let inject = format!("pidfd_open:error={error}");
        injected(&place, &["copy", transport, "-n", "3", "source"], &inject).silent_success();
        (1..=3).for_each(|peer| assert_holds(&place.received(peer, "source"), &bytes));
        // One that is killed is missed at once, and the others go on.
        let mut command = place.program("strace");
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={inject}")]);
        command.arg(env!("CARGO_BIN_EXE_shell")).args(["copy", transport, "-n", "3", "-"]);
        let mut copy = start(command.stdin(Stdio::piped()));
        copy.stdin().write_all(&bytes).unwrap();
        let receivers = copy.receivers(3);
        copy.have(&receivers, &place.at("received-files"), bytes.len() as u64);
        signal(receivers[1], Signal::KILL);
        until(SOON, "it is reaped", || children(copy.pid()).len() == 2);
        copy.close_stdin();
        copy.end(LIMIT).has_code(4).one_line(&["peer 2 ", "killed by SIGKILL"]);
        place.nothing_left(SOON);
    }
}

#[test]
fn any_call_that_fails_is_a_sentence_and_leaves_nothing() {
    if no_strace("failing calls") {
        return;
    }
    // What a copy asks of the system, without what only the loader and the runtime ask. And without futex: a wake cannot
    // fail, and the standard library's locks sleep for ever when one does.
    let calls = [
        ("memfd_create", "EMFILE"),
        ("fallocate", "ENOSPC"),
        ("fchmod", "EPERM"),
        ("fcntl", "EINVAL"),
        ("madvise", "EINVAL"),
        ("pipe2", "EMFILE"),
        ("eventfd2", "EMFILE"),
        ("epoll_create1", "EMFILE"),
        ("epoll_ctl", "ENOSPC"),
        ("pidfd_open", "EMFILE"),
        ("socketpair", "ENFILE"),
        ("clone", "EAGAIN"),
        ("clone3", "EAGAIN"),
        ("prctl", "EINVAL"),
        ("pwrite64", "EIO"),
        ("pread64", "EIO"),
        ("sendfile", "EIO"),
        ("sendto", "ENOMEM"),
        ("linkat", "EDQUOT"),
        ("/^renameat", "EIO"),
        ("ftruncate", "EFBIG"),
        ("fsync", "EIO"),
        ("lseek", "EIO"),
        ("ioctl", "EINVAL"),
        ("mkdir", "EROFS"),
        ("faccessat2", "EACCES"),
        ("fstatfs", "EIO"),
        ("wait4", "ECHILD"),
        ("epoll_wait", "ENOMEM"),
        ("flistxattr", "EIO"),
        ("utimensat", "EPERM"),
    ];
    let bytes = noise(500_003, 3);
    let mut failed = 0;
    for transport in TRANSPORTS {
        for (call, error) in calls {
            for nth in [1, 2, 4] {
                let place = Place::new();
                place.file("source", &bytes);
                fs::File::options().write(true).open(place.at("source")).unwrap().set_len(600_000).unwrap();
                let expected = [&bytes[..], &[0; 99_997]].concat();
                fs::create_dir(place.at("received-files")).unwrap();
                fs::write(place.received(2, "source"), b"old").unwrap();
                let arguments =
                    ["copy", transport, "-n", "2", "--verify", "--fsync", "--preserve", "--json", "source"];
                let inject = format!("{call}:error={error}:when={nth}");
                let copy = injected(&place, &arguments, &inject);
                let what = format!("{transport} {inject}: {copy:?}");
                if copy.code() == Some(127) {
                    continue; // the loader's own call, not ours
                }
                assert!(copy.code().is_some() && !copy.stderr.contains("panicked"), "{what}");
                until(SOON, &format!("nobody is left: {what}"), || place.processes().is_empty());
                assert_eq!(place.parts(), Vec::<std::path::PathBuf>::new(), "{what}");
                for peer in [1, 2] {
                    match fs::read(place.received(peer, "source")) {
                        Ok(found) if found == expected => {}
                        Ok(found) => {
                            assert!(peer == 2 && found == b"old" && copy.code() != Some(0), "{what}")
                        }
                        Err(_) => assert!(peer == 1 && copy.code() != Some(0), "{what}"),
                    }
                }
                if copy.code() != Some(0) {
                    failed += 1;
                    assert!(!copy.stderr.is_empty() && copy.stderr.lines().count() <= 2, "{what}");
                    assert!(copy.stderr.lines().all(|line| line.starts_with("shell: copy: ")), "{what}");
                }
            }
        }
    }
    eprintln!("{failed} of {} copies failed, each with a sentence", calls.len() * 6);
    assert!(failed > 40);
    // The place of the last one.
    let place = Place::new();
    place.nothing_left(Duration::ZERO);
}
