//! `shell copy` when system calls fail: unnamed files, as on some file systems, and each of the other calls once. Uses
//! strace.

use crate::kit::*;
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A copy on a file system without unnamed files: each receiver's first opening below `received-files` fails. The
/// command is the child, and strace runs beside it.
fn without_unnamed_files(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    fs::create_dir_all(sandbox.at("received-files")).unwrap();
    let directory = sandbox.at("received-files");
    let mut command = sandbox.program("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-P", directory.to_str().unwrap()]);
    command.args(["-e", "trace=openat", "-e", "inject=openat:error=EOPNOTSUPP:when=1"]);
    // The sender opens the directory by another name, which the filter does not match.
    command.arg(SHELL).args(arguments).args(["-d", "./received-files//."]);
    command
}

/// Starts a stream copy whose receivers write files with temporary names, and holds it.
fn hold_named(sandbox: &Sandbox, transport: &str, sent: &[u8]) -> (Running, Vec<i32>) {
    let arguments = ["copy", transport, "-n", "3", "-"];
    let mut copy = start(without_unnamed_files(sandbox, &arguments).stdin(Stdio::piped()));
    copy.stdin().write_all(sent).unwrap();
    let receivers = copy.receivers(3);
    copy.have(&receivers, &sandbox.at("received-files"), sent.len() as u64);
    assert_eq!(sandbox.parts().len(), 3, "they have temporary names");
    assert!(sandbox.parts().iter().all(|part| part.file_name().unwrap().len() <= 32), "short ones");
    (copy, receivers)
}

#[test]
fn without_unnamed_files_everything_is_the_same() {
    if lacks_strace("file systems without unnamed files") {
        return;
    }
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(2_000_001, 1);
        let (mut copy, _) = hold_named(&sandbox, transport, &bytes);
        copy.close_stdin();
        copy.end(LIMIT).silent_success();
        sandbox.only_names_left(SOON);
        // Again, first replacing the files, and then leaving them alone.
        for (flag, code) in [("--verify", 0), ("--no-clobber", 1)] {
            let arguments = ["copy", transport, "-n", "3", flag, "-"];
            run(&mut without_unnamed_files(&sandbox, &arguments)).has_code(code);
            sandbox.only_names_left(SOON);
            for peer in 1..=3 {
                assert_holds(&sandbox.received(peer, "stdin"), b"");
            }
        }
    }
}

#[test]
fn temporary_names_are_removed_by_the_survivor() {
    if lacks_strace("file systems without unnamed files") {
        return;
    }
    for transport in TRANSPORTS {
        for stop in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
            let sandbox = Sandbox::new();
            let (copy, _) = hold_named(&sandbox, transport, &noise(100_000, 1));
            signal(copy.pid(), stop);
            assert_eq!(copy.end(SOON).signal(), Some(stop.as_raw()), "{transport}");
            sandbox.only_names_left(SOON);
            assert_eq!(sandbox.names("received-files"), Vec::<String>::new());
        }
        let sandbox = Sandbox::new();
        let (mut copy, receivers) = hold_named(&sandbox, transport, b"x");
        signal(receivers[0], Signal::KILL);
        until(SOON, "its file is removed", || sandbox.parts().len() == 2);
        copy.close_stdin();
        copy.end(LIMIT).has_code(4).one_line(&["peer 1 "]);
        sandbox.only_names_left(SOON);
        assert_eq!(sandbox.names("received-files"), ["peer-02_stdin", "peer-03_stdin"]);
    }
}

/// A copy to three peers, of which the second is stopped before its first action. The command has not reported that
/// yet.
fn stopped_at_birth(sandbox: &Sandbox, transport: &str) -> (Running, Vec<i32>) {
    for _attempt in 0..10 {
        let mut command = sandbox.program("strace");
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=getppid:signal=STOP:when=1"]);
        // Each receiver makes this call before it takes part, and its parent does not.
        command.arg(SHELL).args(["copy", transport, "-n", "3", "source"]);
        let mut copy = start(&mut command);
        let receivers = copy.receivers(3);
        for innocent in [receivers[0], receivers[2]] {
            until(LIMIT, "it continues", || {
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
    if lacks_strace("receivers stopped at birth") {
        return;
    }
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        sandbox.file("source", b"contents");
        let (copy, receivers) = stopped_at_birth(&sandbox, transport);
        until(LIMIT, "the copy waits for the receiver", || copy.stderr().contains("waiting for peer"));
        signal(receivers[1], Signal::CONT);
        let copy = copy.end(LIMIT);
        copy.has_code(0).one_line(&[&format!("waiting for peer 2 (pid {})", receivers[1])]);
        assert!(!copy.stderr.contains("has everything"), "{transport}: {copy:?}");
        for innocent in [receivers[0], receivers[2]] {
            assert!(!copy.stderr.contains(&innocent.to_string()), "{transport}: {copy:?}");
        }
        for peer in 1..=3 {
            assert_holds(&sandbox.received(peer, "source"), b"contents");
        }
    }
}

/// Runs a copy in which system calls fail as `inject` says, in every process.
fn injected(sandbox: &Sandbox, arguments: &[&str], inject: &str) -> Ended {
    let mut command = sandbox.program("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={inject}")]);
    run(command.arg(SHELL).args(arguments))
}

#[test]
fn calls_that_are_interrupted_are_made_again() {
    if lacks_strace("interrupted calls") {
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
        let sandbox = Sandbox::new();
        let bytes = noise(1_000_003, 2);
        sandbox.file("source", &bytes);
        for call in calls {
            // Every third call, without the first ones of the loader and the runtime.
            let inject = format!("{call}:error=EINTR:when=12+3");
            let mut command = sandbox.program("strace");
            command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={inject}")]);
            command.arg(SHELL).args(["copy", transport, "-n", "2", "--verify", source]);
            let copy = run(command.stdin(fs::File::open(sandbox.at("source")).unwrap()));
            assert_eq!((copy.code(), &*copy.stderr), (Some(0), ""), "{transport} {source} {call}: {copy:?}");
            let name = if source == "-" { "stdin" } else { "source" };
            for peer in [1, 2] {
                assert_holds(&sandbox.received(peer, name), &bytes);
            }
        }
        sandbox.only_names_left(SOON);
    }
}

#[test]
fn a_directory_is_judged_without_faccessat2() {
    if lacks_strace("kernels and filters without faccessat2") {
        return;
    }
    for error in ["ENOSYS", "EPERM"] {
        let sandbox = Sandbox::new();
        sandbox.file("source", b"contents");
        let arguments = ["copy", "-n", "2", "source"];
        injected(&sandbox, &arguments, &format!("faccessat2:error={error}")).silent_success();
        assert_holds(&sandbox.received(2, "source"), b"contents");
    }
}

#[test]
fn files_are_named_and_sent_by_other_calls_where_a_filter_bars_some() {
    if lacks_strace("filters that bar calls") {
        return;
    }
    for inject in
        ["linkat:error=EPERM", "linkat:error=ENOSYS", "sendfile:error=EINVAL", "sendfile:error=EPERM"]
    {
        let sandbox = Sandbox::new();
        let bytes = noise(700_001, 5);
        sandbox.file("source", &bytes);
        fs::File::options().write(true).open(sandbox.at("source")).unwrap().set_len(2_000_000).unwrap();
        let expected = [&bytes[..], &[0; 2_000_000 - 700_001]].concat();
        // Again, first replacing the files, and then leaving them alone.
        for (flag, code) in [("--fsync", 0), ("--verify", 0), ("--no-clobber", 1)] {
            let arguments = ["copy", "--socket", "-n", "2", flag, "source"];
            injected(&sandbox, &arguments, inject).has_code(code);
            (1..=2).for_each(|peer| assert_holds(&sandbox.received(peer, "source"), &expected));
            sandbox.only_names_left(SOON);
        }
    }
}

#[test]
fn receivers_are_watched_without_pidfds() {
    if lacks_strace("kernels and filters without pidfds") {
        return;
    }
    for (transport, error) in [("--shm", "ENOSYS"), ("--socket", "EPERM")] {
        let sandbox = Sandbox::new();
        let bytes = noise(500_000, 4);
        sandbox.file("source", &bytes);
        let inject = format!("pidfd_open:error={error}");
        injected(&sandbox, &["copy", transport, "-n", "3", "source"], &inject).silent_success();
        (1..=3).for_each(|peer| assert_holds(&sandbox.received(peer, "source"), &bytes));
        // The command notices a killed receiver at once, and the others continue.
        let mut command = sandbox.program("strace");
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={inject}")]);
        command.arg(SHELL).args(["copy", transport, "-n", "3", "-"]);
        let mut copy = start(command.stdin(Stdio::piped()));
        copy.stdin().write_all(&bytes).unwrap();
        let receivers = copy.receivers(3);
        copy.have(&receivers, &sandbox.at("received-files"), bytes.len() as u64);
        signal(receivers[1], Signal::KILL);
        until(SOON, "it is reaped", || children(copy.pid()).len() == 2);
        copy.close_stdin();
        copy.end(LIMIT).has_code(4).one_line(&["peer 2 ", "killed by SIGKILL"]);
        sandbox.only_names_left(SOON);
    }
}

#[test]
fn any_call_that_fails_is_a_sentence_and_leaves_nothing() {
    if lacks_strace("failing calls") {
        return;
    }
    // The calls that a copy makes, without those that only the loader and the runtime make. Without futex, too: a wake
    // cannot fail, and the standard library's locks sleep without end if one does.
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
                let sandbox = Sandbox::new();
                sandbox.file("source", &bytes);
                fs::File::options().write(true).open(sandbox.at("source")).unwrap().set_len(600_000).unwrap();
                let expected = [&bytes[..], &[0; 99_997]].concat();
                fs::create_dir(sandbox.at("received-files")).unwrap();
                fs::write(sandbox.received(2, "source"), b"old").unwrap();
                let arguments =
                    ["copy", transport, "-n", "2", "--verify", "--fsync", "--preserve", "--json", "source"];
                let inject = format!("{call}:error={error}:when={nth}");
                let copy = injected(&sandbox, &arguments, &inject);
                let what = format!("{transport} {inject}: {copy:?}");
                if copy.code() == Some(127) {
                    continue; // the loader's own call
                }
                assert!(copy.code().is_some() && !copy.stderr.contains("panicked"), "{what}");
                until(SOON, &format!("no process is left: {what}"), || sandbox.processes().is_empty());
                assert_eq!(sandbox.parts(), Vec::<std::path::PathBuf>::new(), "{what}");
                for peer in [1, 2] {
                    match fs::read(sandbox.received(peer, "source")) {
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
    let sandbox = Sandbox::new();
    sandbox.only_names_left(Duration::ZERO);
}
