//! An error from the kernel is one line that says what failed, without the kernel's number.

use crate::kit::*;
use std::fs::File;

/// Asserts one line that gives the reason.
#[track_caller]
fn in_words(ended: &Ended, words: &[&str]) {
    ended.has_code(1).one_line(words);
    assert!(!ended.stderr.contains("os error"), "{ended:?}");
}

#[test]
fn whatever_descriptor_is_the_one_too_many() {
    let sandbox = Sandbox::new();
    sandbox.file("f", b"some bytes");
    for command in ["send x f", "recv x --timeout 1ms", "serve x --dir d", "dipc 1 1 0 1"] {
        let mut refused = 0;
        // With so few descriptors no command comes so far that it waits for another, except a receiver, which opens
        // little.
        for limit in 5..12 {
            let script = format!("ulimit -n {limit}; exec \"$SHELL_BIN\" {command}");
            let ended = run(&mut sandbox.script(&script));
            if ended.stderr.contains("too many open files") {
                in_words(&ended, &["too many open files"]);
                refused += 1;
            } else {
                assert!(command.starts_with("recv"), "{limit} are too few for {command}: {ended:?}");
            }
        }
        assert!(refused > 0, "{command} was never refused");
    }
}

#[test]
fn a_result_that_cannot_be_written() {
    let sandbox = Sandbox::new();
    let mut list = sandbox.words("ls --json");
    let full = File::options().write(true).open("/dev/full").expect("a device of every Linux");
    let ended = start_with_stdout(&mut list, full.into()).end(LIMIT);
    in_words(&ended, &["cannot write to standard output: no space left on device"]);
}

/// Every flag and argument that takes a number, and a part of the message about a wrong one.
const NUMBERS: [(&str, &str); 24] = [
    ("copy f -n", "from 1 to 1000"),
    ("copy f -n 1 --ring", "from 4 KiB to 8 GiB"),
    ("copy f -n 1 --block", "512"),
    ("send x f --block", "512"),
    ("send x f --ring", "from 4 KiB to 8 GiB"),
    ("send x f --peers", "from 0 to 1024"),
    ("send x f --seats", "from 1 to 1024"),
    ("send x f --timeout", "duration"),
    ("send x f --evict-after", "duration"),
    ("recv x --timeout", "duration"),
    ("serve x --dir d --for", "duration"),
    ("serve x --dir d --clients", "from 1 to 18446744073709551615"),
    ("servers --dir d --timeout", "duration"),
    ("dipc", "from 1 to 1048576"),
    ("dipc 1", "from 1 to 2097152 (KiB)"),
    ("dipc 1 1", "from 0 to 65535"),
    ("dipc 1 1 0", "from 1 to 2097152 (KiB)"),
    ("dipc 1 1 0 1 --idle", "duration"),
    ("dipc 1 1 0 1 --workers", "from 1 to 64"),
    ("dipc 1 1 0 1 --max-connections", "from 1 to 1048576"),
    ("dipcrm", "from 1 to 65535"),
    ("mail read", "from 0 to 1048575"),
    ("mail read 0 -p", "from 1 to 65535"),
    ("top --interval", "duration"),
];

#[test]
fn an_invalid_number_is_refused_with_its_limits() {
    let sandbox = Sandbox::new();
    for (words, limit) in NUMBERS {
        let is_flag = words.split(' ').next_back().is_some_and(|last| last.starts_with('-'));
        let large = ["18446744073709551616", "99999999999999999999999999"];
        for value in
            ["", "-1", "nan", "inf", "1e3", "0x10", "-1s", "1.5", " 1", "+1"].into_iter().chain(large)
        {
            if value == "-1s" && !is_flag {
                continue; // it looks like flags
            }
            if value == "1.5" && limit == "duration" {
                continue; // a second and a half
            }
            let mut command = sandbox.words(words);
            let ended = run(command.arg(value));
            ended.refusal(2, &["--help"]);
            for foreign in ["invalid digit", "too large to fit", "not in", "unexpected argument"] {
                assert!(!ended.stderr.contains(foreign), "{words} {value}: {ended:?}");
            }
            // A size or a duration may be malformed. If it is too large, the message gives the limit.
            let of_form = limit == "512" || limit == "duration";
            let wanted = match (of_form, large.contains(&value)) {
                (true, true) if limit == "512" => "from 512 bytes to 64 MiB",
                (true, true) => "at most a year",
                (true, false) if limit == "512" => "",
                _ => limit,
            };
            assert!(ended.stderr.contains(wanted), "{words} {value}: {ended:?}");
        }
    }
}

#[test]
fn a_runtime_directory_of_another_user_is_not_to_be_removed() {
    if !is_root() {
        return skip("the runtime directory of another user", "this is not root");
    }
    let sandbox = Sandbox::new();
    let theirs = sandbox.at("theirs");
    std::fs::create_dir(&theirs).expect("a directory");
    std::os::unix::fs::chown(&theirs, Some(12345), Some(12345)).expect("root may do this");
    for command in ["ls", "rm x", "recv x", "send x", "serve x --dir d", "dipc 1 1 0 1", "top --once"] {
        let ended = run(sandbox.words(command).env("XDG_RUNTIME_DIR", &theirs));
        ended.refusal(1, &["belongs to user 12345", "run this as that user, or unset XDG_RUNTIME_DIR"]);
        assert!(!ended.stderr.contains("remove"), "{ended:?}");
    }
    let doctor = run(sandbox.words("doctor").env("XDG_RUNTIME_DIR", &theirs));
    assert!(
        doctor.stdout.contains("runs as user 0; run this as that user, or unset XDG_RUNTIME_DIR\n"),
        "{doctor:?}"
    );
    // A user that may not look into the directory gets the same message.
    std::fs::set_permissions(sandbox.at(""), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("our own directory");
    std::fs::set_permissions(&theirs, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .expect("we are root");
    let mut other = sandbox.program("setpriv");
    other.args(["--reuid=54321", "--regid=54321", "--clear-groups"]);
    // The program must be where other users may read it.
    let program = sandbox.copy_of_shell();
    let ended = run(other.arg(program).arg("ls").env("XDG_RUNTIME_DIR", &theirs));
    ended.refusal(1, &["belongs to user 12345", "runs as user 54321", "unset XDG_RUNTIME_DIR"]);
}

#[test]
fn what_a_sandbox_lacks_is_named() {
    let sandbox = Sandbox::new();
    sandbox.file("f", b"some bytes");
    let within = |before: &str, command: &str| {
        let script = format!("{before} && exec \"$SHELL_BIN\" {command}");
        run(sandbox.program("unshare").args(["-m", "sh", "-c", &script]))
    };
    if can_mount() {
        for command in [
            "copy -n 1 f",
            "send x f",
            "recv x",
            "ls",
            "rm x",
            "serve x --dir d",
            "dipc 1 1 0 1",
            "top --json",
        ] {
            let ended = within("umount -l /proc", command);
            ended.refusal(1, &["/proc is not mounted", "mount -t proc proc /proc"]);
        }
        let doctor = within("umount -l /proc", "doctor");
        assert!(doctor.stdout.contains("fail\t/proc\tnot mounted"), "{doctor:?}");
        assert!(!doctor.stdout.contains("EiB"), "{doctor:?}");
        let ended = within("mount -t tmpfs none /dev", "dipc 1 1 0 1 </proc/self/status");
        ended.refusal(1, &["dipc: cannot open /dev/null", "no such file or directory"]);
    } else {
        skip("a sandbox without /proc or /dev/null", "a mount namespace cannot be made");
    }
    if !lacks_strace("a filter that refuses prctl") {
        let mut traced = sandbox.program("strace");
        traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=prctl:error=EPERM", SHELL]);
        let ended = run(traced.args(["copy", "-n", "1", "f"]));
        ended.refusal(1, &["cannot start receiver 1", "prctl", "seccomp"]);
    }
    sandbox.nothing_left();
}
