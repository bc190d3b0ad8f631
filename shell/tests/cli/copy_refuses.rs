//! `shell copy` refuses: an exit code, one line that says what is wrong, nothing on stdout, nothing left behind.

use crate::kit::*;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A sandbox with a small file `f`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file("f", b"contents");
    sandbox
}

#[track_caller]
fn refuses(sandbox: &Sandbox, command: &mut Command, code: i32, words: &[&str]) {
    let copy = run(command);
    copy.refusal(code, words);
    sandbox.only_names_left(Duration::ZERO);
    assert_eq!(sandbox.names("received-files"), Vec::<String>::new(), "no file under its name");
}

#[test]
fn sources_that_cannot_be_read() {
    for transport in TRANSPORTS {
        let sandbox = sandbox();
        fs::create_dir(sandbox.at("d")).unwrap();
        let copy = |source: &str| sandbox.shell(["copy", transport, "-n", "2", source]);
        refuses(&sandbox, &mut copy("missing"), 1, &["missing: ", "no such file"]);
        refuses(&sandbox, &mut copy("f/below"), 1, &["f/below: ", "not a directory"]);
        refuses(&sandbox, &mut copy("d"), 1, &["d: ", "directory"]);
        refuses(&sandbox, &mut copy("."), 1, &["directory"]);
        refuses(&sandbox, &mut copy(""), 2, &["<FILE>"]);
        refuses(&sandbox, &mut copy(&"x/".repeat(3000)), 1, &["too long"]);
        let directory = File::open(sandbox.at("d")).unwrap();
        refuses(&sandbox, copy("-").stdin(directory), 1, &["directory"]);
        let write_only = File::create(sandbox.at("w")).unwrap();
        refuses(&sandbox, copy("-").stdin(write_only), 1, &["-: ", "not open for reading"]);
    }
}

/// `shell` as a user without any rights, or why that cannot be tried.
fn as_nobody(sandbox: &Sandbox, arguments: &[&str]) -> Result<Command, &'static str> {
    fs::set_permissions(sandbox.at(""), fs::Permissions::from_mode(0o777)).unwrap();
    let set = ["--reuid=54321", "--regid=54321", "--clear-groups"];
    let with = |program: &str, arguments: &[&str]| {
        let mut command = sandbox.program("setpriv");
        command.args(set).arg(program).args(arguments);
        command
    };
    let program = SHELL;
    match with(program, &["--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Err(_) => Err("there is no setpriv"),
        Ok(status) if !status.success() => Err("another user cannot run the command here"),
        Ok(_) => Ok(with(program, arguments)),
    }
}

#[test]
fn files_and_directories_without_permission() {
    for transport in TRANSPORTS {
        let sandbox = sandbox();
        let source = sandbox.file("secret", b"secret");
        fs::set_permissions(source, fs::Permissions::from_mode(0o000)).unwrap();
        fs::create_dir(sandbox.at("locked")).unwrap();
        fs::set_permissions(sandbox.at("locked"), fs::Permissions::from_mode(0o555)).unwrap();
        let cases: [(&[&str], &[&str]); 3] = [
            (&["copy", transport, "-n", "2", "secret"], &["secret: ", "permission denied"]),
            (&["copy", transport, "-n", "2", "-d", "locked", "f"], &["locked: ", "permission denied"]),
            (
                &["copy", transport, "-n", "2", "-d", "locked/a/b", "f"],
                &["locked/a/b: ", "permission denied"],
            ),
        ];
        for (arguments, words) in cases {
            let command =
                if is_root() { as_nobody(&sandbox, arguments) } else { Ok(sandbox.shell(arguments)) };
            match command {
                Ok(mut command) => refuses(&sandbox, &mut command, 1, words),
                Err(why) => skip("sources and directories without permission", why),
            }
        }
        fs::set_permissions(sandbox.at("locked"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn numbers_that_are_none() {
    let sandbox = sandbox();
    for peers in ["0", "-1", "x", "100000", "1001", "", " 1", "1.5", "1e2", "+x", "99999999999999999999"] {
        refuses(
            &sandbox,
            &mut sandbox.shell(["copy", "-n", peers, "f"]),
            2,
            &["--peers", "1000", &format!("'{peers}'")],
        );
        let joined = format!("--peers={peers}");
        refuses(&sandbox, &mut sandbox.shell(["copy", &joined, "f"]), 2, &["--peers", "1000"]);
    }
    for block in ["0", "511", "65M", "64MiB1", "x", "", "-1", "1Q", "67108865", "99999999999999999999"] {
        let command = &mut sandbox.shell(["copy", "-n", "2", "--block", block, "f"]);
        refuses(&sandbox, command, 2, &["--block", "512", &format!("'{block}'")]);
    }
    for ring in ["0", "4095", "9G", "x", "", "-4", "99999999999999999999"] {
        let command = &mut sandbox.shell(["copy", "-n", "2", "--ring", ring, "f"]);
        refuses(&sandbox, command, 2, &["--ring", "4 KiB", &format!("'{ring}'")]);
    }
    for (ring, block, most) in [("4K", "2041", "2040"), ("1M", "512K", "524280")] {
        for command in ["copy -n 2 f", "send x f"] {
            let command = &mut sandbox.words(&format!("{command} --ring {ring} --block {block}"));
            refuses(&sandbox, command, 2, &["--block", "a ring of", most]);
        }
    }
    for command in ["copy -n 2 f", "send x f"] {
        let command = &mut sandbox.words(&format!("{command} --socket --ring 1M"));
        refuses(&sandbox, command, 2, &["--socket", "--ring"]);
    }
    refuses(
        &sandbox,
        &mut sandbox.shell(["copy", "-n", "2", "--progress", "maybe", "f"]),
        2,
        &["--progress", "maybe"],
    );
}

#[test]
fn commands_and_flags_that_do_not_exist() {
    let sandbox = sandbox();
    refuses(&sandbox, &mut sandbox.shell(["copy", "-n", "2"]), 2, &["FILE"]);
    refuses(&sandbox, &mut sandbox.shell(["copy", "f"]), 2, &["--peers"]);
    refuses(&sandbox, &mut sandbox.shell(["copy"]), 2, &["FILE", "--peers"]);
    refuses(&sandbox, &mut sandbox.shell(["copy", "-n"]), 2, &["--peers"]);
    refuses(&sandbox, &mut sandbox.shell(["copy", "-n", "2", "f", "g"]), 2, &["'g'"]);
    refuses(&sandbox, &mut sandbox.shell(["copy", "-n", "2", "-n", "3", "f"]), 2, &["--peers"]);
    refuses(&sandbox, &mut sandbox.shell(["copy", "--frob", "-n", "2", "f"]), 2, &["--frob"]);
    refuses(
        &sandbox,
        &mut sandbox.shell(["copy", "--verifi", "-n", "2", "f"]),
        2,
        &["--verifi'", "--verify"],
    );
    refuses(
        &sandbox,
        &mut sandbox.shell(["copy", "--shm", "--socket", "-n", "2", "f"]),
        2,
        &["--shm", "--socket"],
    );
    refuses(&sandbox, &mut sandbox.shell(["cpoy", "-n", "2", "f"]), 2, &["cpoy", "copy"]);
    refuses(&sandbox, &mut sandbox.shell(["frobnicate"]), 2, &["frobnicate", "--help"]);
    refuses(&sandbox, &mut sandbox.shell::<&str>([]), 2, &["--help"]);
    refuses(&sandbox, &mut sandbox.shell([""]), 2, &["''"]);
}

#[test]
fn arguments_that_are_not_text_are_no_reason_to_panic() {
    let sandbox = sandbox();
    let raw = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    for arguments in [
        vec![raw(b"\xff")],
        vec![raw(b"copy"), raw(b"-n"), raw(b"\xff"), raw(b"f")],
        vec![raw(b"copy"), raw(b"-n\xff"), raw(b"f")],
        vec![raw(b"copy"), raw(b"--\xff"), raw(b"-n"), raw(b"2"), raw(b"f")],
        vec![raw(b"copy"), raw(b"-\xff"), raw(b"-n"), raw(b"2"), raw(b"f")],
        vec![raw(b"copy"), raw(b"-n"), raw(b"2"), raw(b"--block"), raw(b"8\xc0K"), raw(b"f")],
        vec![raw(b"copy"), raw(b"-n"), raw(b"2"), raw(b"--progress=\xff"), raw(b"f")],
        // Text that is not fit for a terminal: escape sequences, line ends.
        vec![raw(b"copy"), raw(b"-n"), raw(b"\x1b[31m2\n3"), raw(b"f")],
        vec![raw(b"copy"), raw(b"-n"), raw(b"2"), raw(b"--frob\x1b[31m\nx"), raw(b"f")],
        vec![raw(b"\x1b]0;title\x07\n")],
        vec![raw(b"c\x08o\x7f\xc2\x9b31mpy")],
        vec![raw(b"copy"), raw(b"-n"), raw(b"2"), raw(b"--name"), raw(b"\x1b[31m\n{frob\x1b}"), raw(b"f")],
        vec![raw(b"copy"), raw(b"-n"), raw(b"2"), raw(b"--name"), raw(b"\x1b[31m\n/{peer}"), raw(b"f")],
    ] {
        refuses(&sandbox, &mut sandbox.shell(arguments), 2, &[]);
    }
    for arguments in [
        vec![raw(b"copy"), raw(b"-n"), raw(b"2"), raw(b"\x1b[31mmissing\n")],
        vec![raw(b"copy"), raw(b"-n"), raw(b"2"), raw(b"\xff\xfe")],
        vec![raw(b"copy"), raw(b"-n"), raw(b"2"), raw(b"-d"), raw(b"f/\x1b[31m\n"), raw(b"f")],
    ] {
        refuses(&sandbox, &mut sandbox.shell(arguments), 1, &[]);
    }
}

#[test]
fn directories_that_are_none() {
    for transport in TRANSPORTS {
        let sandbox = sandbox();
        sandbox.file("file", b"in the way");
        let copy = |directory: &str| sandbox.shell(["copy", transport, "-n", "2", "-d", directory, "f"]);
        refuses(&sandbox, &mut copy("file"), 1, &["file: ", "not a directory"]);
        refuses(&sandbox, &mut copy("file/below"), 1, &["file/below: ", "not a directory"]);
        refuses(&sandbox, &mut copy("/proc/nothing/here"), 1, &["/proc/nothing/here: "]);
        refuses(&sandbox, &mut copy(""), 2, &["--dir"]);
        assert_holds(&sandbox.at("file"), b"in the way");
    }
}

#[test]
fn a_target_that_exists_as_a_directory() {
    for transport in TRANSPORTS {
        let sandbox = sandbox();
        fs::create_dir_all(sandbox.at("out/peer-02_f")).unwrap();
        let command = &mut sandbox.shell(["copy", transport, "-n", "3", "-d", "out", "f"]);
        refuses(&sandbox, command, 1, &["out/peer-02_f", "directory"]);
        assert_eq!(sandbox.names("out"), ["peer-02_f"]);
        assert!(sandbox.at("out/peer-02_f").is_dir());
    }
}

#[test]
fn templates_that_do_not_work() {
    for transport in TRANSPORTS {
        let sandbox = sandbox();
        let copy =
            |peers, template: &str| sandbox.shell(["copy", transport, "-n", peers, "--name", template, "f"]);
        refuses(&sandbox, &mut copy("2", "{name}"), 2, &["{peer}", "{pid}"]);
        refuses(&sandbox, &mut copy("2", "fixed"), 2, &["{peer}", "{pid}"]);
        refuses(&sandbox, &mut copy("2", "a/{peer}"), 2, &["a/01"]);
        refuses(&sandbox, &mut copy("2", "../{peer}"), 2, &["../01"]);
        refuses(&sandbox, &mut copy("1", ""), 2, &["file name"]);
        refuses(&sandbox, &mut copy("1", "."), 2, &["file name"]);
        refuses(&sandbox, &mut copy("1", ".."), 2, &["file name"]);
        refuses(&sandbox, &mut copy("2", "{peer}{frob}"), 2, &["{frob}", "{peer}", "{pid}", "{name}"]);
        refuses(&sandbox, &mut copy("2", "{peer"), 2, &["{peer"]);
        refuses(&sandbox, &mut copy("2", "{}{peer}"), 2, &["{}"]);
        refuses(&sandbox, &mut copy("2", "{Peer}"), 2, &["{Peer}"]);
    }
}

#[test]
fn names_that_are_too_long_are_refused_before_anything_is_read() {
    for transport in TRANSPORTS {
        let sandbox = sandbox();
        let long = "x".repeat(255);
        sandbox.file(&long, b"contents");
        refuses(&sandbox, &mut sandbox.shell(["copy", transport, "-n", "2", &long]), 1, &["--name", "255"]);
        let template = format!("{}{{peer}}", "y".repeat(253));
        let command = &mut sandbox.shell(["copy", transport, "-n", "100", "--name", &template, "f"]);
        refuses(&sandbox, command, 1, &["--name", "255"]);
    }
}

#[test]
fn a_ring_beyond_the_limit_of_file_sizes() {
    let sandbox = sandbox();
    let command = &mut sandbox.script("ulimit -f 1024; exec \"$SHELL_BIN\" copy -n 2 --ring 2M f");
    refuses(&sandbox, command, 1, &["shared memory", "ulimit -f"]);
}

#[test]
fn more_descriptors_than_are_allowed() {
    for transport in TRANSPORTS {
        let sandbox = sandbox();
        for limit in [40, 100, 200] {
            let script = format!("ulimit -n {limit}; exec \"$SHELL_BIN\" copy {transport} -n 250 f");
            refuses(&sandbox, &mut sandbox.script(&script), 1, &["250", &limit.to_string(), "ulimit -n"]);
        }
        // A soft limit alone does not limit the command.
        let script = format!("ulimit -S -n 40; exec \"$SHELL_BIN\" copy {transport} -n 60 f");
        run(&mut sandbox.script(&script)).silent_success();
        assert_eq!(sandbox.names("received-files").len(), 60);
    }
}

#[test]
fn more_processes_than_are_allowed() {
    for transport in TRANSPORTS {
        let sandbox = sandbox();
        if !is_root() {
            return skip("a limit of processes", "it needs a user of its own, which only root can take");
        }
        let arguments = ["copy", transport, "-n", "20", "f"];
        let command = match as_nobody(&sandbox, &arguments) {
            Ok(command) => command,
            Err(why) => return skip("a limit of processes", why),
        };
        // The limit counts the user's processes, so it is set after the user is.
        let mut limited = sandbox.program("prlimit");
        limited.args(["--nproc=7", command.get_program().to_str().unwrap()]).args(command.get_args());
        refuses(&sandbox, &mut limited, 1, &["receiver", "processes"]);
    }
}

/// Runs a copy on a small disk. Prints what is left in `full`, and exits with the copy's code.
fn on_a_small_disk(sandbox: &Sandbox, size: &str, arguments: &str) -> Ended {
    fs::create_dir_all(sandbox.at("full")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size={size} tmpfs full || exit 99; \"$SHELL_BIN\" copy {arguments}; code=$?; \
         ls -A full; exit $code"
    );
    run(sandbox.program("unshare").args(["-m", "sh", "-c", &script]))
}

#[test]
fn a_disk_too_small_for_any_copy() {
    if !can_mount() {
        return skip("a full disk", "a private mount namespace cannot be made");
    }
    for (transport, length) in TRANSPORTS.into_iter().flat_map(|t| [(t, 300_000), (t, 3_000_000)]) {
        let sandbox = Sandbox::new();
        sandbox.file("big", &noise(length, 1));
        let copy = on_a_small_disk(&sandbox, "64k", &format!("{transport} -n 1 -d full big"));
        copy.refusal(1, &["peer 1", "no space"]);
        let copy = on_a_small_disk(&sandbox, "64k", &format!("{transport} -n 4 -d full big"));
        copy.has_code(1);
        assert_eq!((&*copy.stdout, copy.stderr.lines().count()), ("", 4), "{copy:?}");
        assert!(copy.stderr.lines().all(|line| line.contains("no space")), "{copy:?}");
        // No peer has a file, and the JSON object says so as well.
        let copy = on_a_small_disk(&sandbox, "64k", &format!("{transport} -n 2 -d full --json big"));
        let json = copy.has_code(1).json();
        let errors = json["receivers"].as_array().unwrap().iter().map(|peer| peer["error"].as_str().unwrap());
        assert!(
            errors.clone().count() == 2 && errors.clone().all(|error| error.contains("no space")),
            "{json}"
        );
        sandbox.only_names_left(Duration::ZERO);
    }
}

#[test]
fn a_disk_too_small_for_all_copies() {
    if !can_mount() {
        return skip("a full disk", "a private mount namespace cannot be made");
    }
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        sandbox.file("big", &noise(2_000_000, 1));
        for size in ["3m", "5m", "7m"] {
            let copy = on_a_small_disk(&sandbox, size, &format!("{transport} -n 5 -d full --json big"));
            let (json, names) = copy.stdout.split_once('\n').expect("an object, then names");
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            let failed =
                json["receivers"].as_array().unwrap().iter().filter(|peer| !peer["error"].is_null()).count();
            // How many copies fit varies. All of them never fit.
            assert!(failed > 0, "{copy:?}");
            copy.has_code(if failed == 5 { 1 } else { 4 });
            assert_eq!(names.lines().count(), 5 - failed, "{copy:?}");
            assert!(names.lines().all(|name| name.starts_with("peer-")), "{copy:?}");
            assert_eq!(copy.stderr.matches("no space").count(), failed, "{copy:?}");
        }
    }
}

#[test]
fn results_that_cannot_be_written() {
    let sandbox = sandbox();
    let copy = || sandbox.shell(["copy", "-n", "2", "--json", "f"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    start_with_stdout(&mut copy(), full.into())
        .end(LIMIT)
        .has_code(1)
        .one_line(&["standard output", "space"]);
    // A reader that went away is a quiet end. A stream that was closed from the start is not, because the result is
    // lost.
    for arguments in ["copy -n 2 --json f", "--help", "copy -h", "--version"] {
        let script = "{ \"$SHELL_BIN\" ARGS; echo $? >code; } | head -c0".replace("ARGS", arguments);
        let piped = run(&mut sandbox.script(&script));
        assert_eq!(piped.stderr, "", "{arguments}");
        assert_eq!(fs::read_to_string(sandbox.at("code")).unwrap(), "0\n", "{arguments}");
        let closed = run(&mut sandbox.script(&"\"$SHELL_BIN\" ARGS >&-".replace("ARGS", arguments)));
        closed.refusal(1, &["cannot write to standard output: it is closed"]);
    }
    // Without --json nothing is printed, so nothing can fail.
    let full = File::options().write(true).open("/dev/full").unwrap();
    start_with_stdout(&mut sandbox.shell(["copy", "-n", "2", "f"]), full.into()).end(LIMIT).silent_success();
    sandbox.only_names_left(Duration::ZERO);
}

#[test]
fn an_error_that_cannot_be_written_is_still_an_exit_code() {
    let sandbox = sandbox();
    for redirect in ["2>&-", "2>/dev/full"] {
        let copy = run(&mut sandbox.script(&format!("\"$SHELL_BIN\" copy -n 2 missing {redirect}")));
        assert_eq!((copy.code(), &*copy.stdout, &*copy.stderr), (Some(1), "", ""));
    }
}

#[test]
fn a_source_that_cannot_be_read_from_its_first_byte_on() {
    for transport in TRANSPORTS {
        let sandbox = sandbox();
        // Nothing is mapped at address 0: reading there is an input/output error.
        let command = &mut sandbox.shell(["copy", transport, "-n", "2", "/proc/self/mem"]);
        refuses(&sandbox, command, 1, &["/proc/self/mem: ", "reading failed"]);
        let memory = File::open("/proc/self/mem").unwrap();
        let command = &mut sandbox.shell(["copy", transport, "-n", "2", "-"]);
        refuses(&sandbox, command.stdin(memory), 1, &["-: ", "reading failed"]);
    }
}

#[test]
fn a_late_refusal_takes_back_the_directories_it_made() {
    let sandbox = sandbox();
    let long = sandbox.file("n".repeat(250), b"text");
    let long = long.to_str().unwrap();
    let refused = |directory: &str, more: &[&str]| {
        let arguments = ["copy", "-n", "1", "-d", directory].into_iter().chain(more.iter().copied());
        run(&mut sandbox.shell(arguments)).has_code(1);
        assert!(!sandbox.at("new").exists(), "{directory} {more:?}");
    };
    refused("new", &[long]);
    refused("new/below/./it", &[long]);
    let limited =
        format!("ulimit -f 1024; exec \"$SHELL_BIN\" copy -n 1 -d new --ring 2M --name {{peer}} {long}");
    run(&mut sandbox.script(&limited)).has_code(1);
    assert!(!sandbox.at("new").exists());
    // The existing directory stays, although it is empty.
    fs::create_dir(sandbox.at("old")).unwrap();
    run(&mut sandbox.shell(["copy", "-n", "1", "-d", "old/new", long])).has_code(1);
    assert!(sandbox.at("old").exists() && sandbox.names("old").is_empty());
}
