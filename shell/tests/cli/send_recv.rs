//! `shell send` and `shell recv`: separate processes that find each other by name, in either order.

use crate::kit::smallest;
use crate::kit::{LIMIT, SOON, Sandbox, TRANSPORTS, assert_holds, noise, run, start, until};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::Duration;

const BLOCK: usize = 80 << 10;

#[test]
fn the_hello_pair_works_in_both_orders_and_leaves_nothing() {
    for (receiver_first, transport) in
        [(true, "--shm"), (false, "--shm"), (true, "--socket"), (false, "--socket")]
    {
        let sandbox = Sandbox::new();
        let hello = format!("echo 'Hello from the other side!' | shell send hello --peers 1 {transport}");
        let send = || start(&mut sandbox.script(&hello));
        let recv = || sandbox.start("recv hello");
        let (send, recv) = if receiver_first {
            let recv = recv();
            sandbox.until_awaited("hello", 1);
            (send(), recv)
        } else {
            let send = send();
            sandbox.until_owned("hello");
            (send, recv())
        };
        let recv = recv.end(LIMIT);
        recv.silent_success();
        assert_eq!(recv.stdout, "Hello from the other side!\n");
        let send = send.end(LIMIT);
        send.silent_success();
        assert_eq!(send.stdout, "");
        sandbox.nothing_left();
    }
}

#[test]
fn files_of_every_size_arrive_whole_over_both_transports() {
    for transport in TRANSPORTS {
        for (size, seed) in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 << 20].into_iter().zip(1..) {
            let sandbox = Sandbox::new();
            let bytes = noise(size, seed);
            sandbox.file("source", &bytes);
            let first = sandbox.start("recv x to-a-file");
            sandbox.until_awaited("x", 1);
            let sender = sandbox.start(&format!("send x source {transport} --peers 2 --verify"));
            let second = start(&mut sandbox.script("shell recv x --verify > through-a-pipe"));
            for process in [first, sender, second] {
                process.end(LIMIT).silent_success();
            }
            assert_holds(&sandbox.at("to-a-file"), &bytes);
            assert_holds(&sandbox.at("through-a-pipe"), &bytes);
            sandbox.nothing_left();
        }
    }
}

#[test]
fn a_sparse_file_arrives_with_its_holes() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let file = std::fs::File::create(sandbox.at("sparse")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", 5 << 20).unwrap();
        file.set_len(9 << 20).unwrap();
        let recv = sandbox.start("recv x out");
        run(&mut sandbox.words(&format!("send x sparse {transport} --verify"))).silent_success();
        recv.end(LIMIT).silent_success();
        let bytes = std::fs::read(sandbox.at("sparse")).unwrap();
        assert_holds(&sandbox.at("out"), &bytes);
    }
}

#[test]
fn a_pipeline_feeds_three_consumers_in_bounded_memory() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let consumers: Vec<_> = (0..3).map(|_| start(&mut sandbox.script("shell recv x | cksum"))).collect();
        let mut sender = start(&mut sandbox.script(&format!(
            "yes 'one line of many' | head -c 200000000 | \"$SHELL_BIN\" send x {transport} --peers 3 & \
             wait $!; cat /dev/null"
        )));
        sandbox.until_owned("x");
        let mut peak = 0;
        while sender.is_running() {
            let pids = sandbox.processes();
            let status =
                pids.iter().filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
            let peaks = status.filter(|status| status.starts_with("Name:\tshell")).filter_map(|status| {
                let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.trim().to_owned();
                line.strip_suffix(" kB")?.trim().parse::<u64>().ok()
            });
            peak = peak.max(peaks.max().unwrap_or(0));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(peak > 0 && peak < 32 << 10, "{peak} KiB of memory of its own");
        sender.end(LIMIT).has_code(0);
        let sums: Vec<_> = consumers.into_iter().map(|consumer| consumer.end(LIMIT).stdout).collect();
        assert!(sums[0].contains("200000000"), "{sums:?}");
        assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
        sandbox.nothing_left();
    }
}

#[test]
fn it_begins_when_enough_receivers_are_there_and_what_was_read_is_there_at_once() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut sender = sandbox.start_fed(&format!("send x {transport} --peers 2"));
        sender.stdin().write_all(b"early ").unwrap();
        let first = start(&mut sandbox.script("shell recv x > first"));
        sandbox.until_joined("x", 1);
        std::thread::sleep(Duration::from_millis(200));
        assert_holds(&sandbox.at("first"), b"");
        assert_eq!(sandbox.ls()[0]["state"], "waiting");
        let second = start(&mut sandbox.script("shell recv x > second"));
        until(SOON, "both have what was sent, while the stream continues", || {
            ["first", "second"]
                .iter()
                .all(|file| std::fs::read(sandbox.at(file)).is_ok_and(|bytes| bytes == b"early "))
        });
        assert_eq!(sandbox.ls()[0]["state"], "live");
        sender.stdin().write_all(b"late").unwrap();
        sender.close_stdin();
        for process in [sender, first, second] {
            process.end(LIMIT).silent_success();
        }
        assert_holds(&sandbox.at("second"), b"early late");
        sandbox.nothing_left();
    }
}

#[test]
fn a_late_receiver_gets_everything_that_is_still_held_or_an_error() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut sender = sandbox.start_fed(&format!("send x {} --block 512", smallest(transport)));
        let first = start(&mut sandbox.script("shell recv x > first"));
        sender.stdin().write_all(b"one ").unwrap();
        let has = |file: &str, bytes: &[u8]| std::fs::read(sandbox.at(file)).is_ok_and(|have| have == bytes);
        until(SOON, "the first has it", || has("first", b"one "));
        let second = start(&mut sandbox.script("shell recv x > second"));
        until(SOON, "the late one has the beginning", || has("second", b"one "));
        let flood = noise(100 << 10, 5);
        sender.stdin().write_all(&flood).unwrap();
        let whole = [b"one ", &flood[..]].concat();
        until(SOON, "the flood has arrived", || has("second", &whole));
        run(&mut sandbox.words("recv x")).refusal(1, &["recv: x", "first bytes are gone", "--from now"]);
        let third = start(&mut sandbox.script("shell recv x --from now > third"));
        sandbox.until_joined("x", 3);
        sender.stdin().write_all(b"the rest").unwrap();
        sender.close_stdin();
        for process in [sender, first, second, third] {
            process.end(LIMIT).silent_success();
        }
        assert_holds(&sandbox.at("third"), b"the rest");
        assert_holds(&sandbox.at("first"), &[whole, b"the rest".to_vec()].concat());
        sandbox.nothing_left();
    }
}

#[test]
fn with_no_peers_wanted_it_begins_at_once_and_goes_on_alone() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut sender = sandbox.start_fed(&format!("send x {} --peers 0 --block 512", smallest(transport)));
        sandbox.until_owned("x");
        sender.stdin().write_all(&noise(64 << 10, 1)).unwrap();
        until(SOON, "the ring takes all bytes without a receiver", || {
            sandbox.ls()[0]["sent_bytes"] == 64 << 10
        });
        let recv = start(&mut sandbox.script("shell recv x --from now > now"));
        sandbox.until_joined("x", 1);
        sender.stdin().write_all(b"news").unwrap();
        sender.close_stdin();
        sender.end(LIMIT).silent_success();
        recv.end(LIMIT).silent_success();
        assert_holds(&sandbox.at("now"), b"news");
        sandbox.nothing_left();
    }
}

#[test]
fn waiting_ends_with_the_time_that_was_given() {
    let sandbox = Sandbox::new();
    let ended = run(&mut sandbox.words("recv x --timeout 300ms"));
    ended.refusal(4, &["recv: x", "timed out", "sender"]);
    for transport in TRANSPORTS {
        let ended = run(&mut sandbox.words(&format!("send x {transport} --timeout 300ms")));
        ended.refusal(4, &["send: ", "timed out", "receiver"]);
        // A sender without any output.
        let mut sender = sandbox.start_fed(&format!("send x {transport}"));
        run(&mut sandbox.words("recv x --timeout 300ms")).refusal(4, &["timed out", "sender"]);
        sender.close_stdin();
        sender.end(LIMIT).has_code(4);
    }
    sandbox.nothing_left();
}

#[test]
fn a_name_has_one_sender_and_only_plain_names_are_names() {
    let sandbox = Sandbox::new();
    let mut sender = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    for transport in TRANSPORTS {
        run(&mut sandbox.words(&format!("send x {transport}"))).refusal(1, &["'x' is in use"]);
    }
    for name in ["", ".", "..", ".x", "a/b", "a b", "ä", "a\nb", &"n".repeat(65)] {
        for verb in ["send", "recv"] {
            run(&mut sandbox.shell([verb, name])).refusal(2, &["letters"]);
        }
    }
    let longest = "n".repeat(64);
    let recv = sandbox.start(&format!("recv {longest}"));
    run(sandbox.words(&format!("send {longest}")).stdin(Stdio::null())).silent_success();
    recv.end(LIMIT).silent_success();
    sender.close_stdin();
    run(&mut sandbox.words("recv x")).silent_success();
    sender.end(LIMIT).silent_success();
    sandbox.nothing_left();
}

#[test]
fn a_checksum_that_is_insisted_on_must_come() {
    let sandbox = Sandbox::new();
    sandbox.file("source", b"text");
    for (target, transport) in [("-", "--shm"), ("out", "--socket")] {
        let recv = sandbox.start(&format!("recv x {target} --verify"));
        run(&mut sandbox.words(&format!("send x source {transport}"))).has_code(4);
        recv.end(LIMIT).has_code(1).one_line(&["no checksum", "--verify"]);
        assert!(!sandbox.at("out").exists());
    }
    sandbox.nothing_left();
}

#[test]
fn a_reader_that_has_enough_is_a_quiet_end() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let reader = start(&mut sandbox.script("shell recv x | head -c 10"));
        let steady = sandbox.start("recv x out");
        sandbox.until_awaited("x", 2);
        let bytes = noise(8 << 20, 3);
        sandbox.file("source", &bytes);
        run(&mut sandbox.words(&format!("send x source {transport} --peers 2"))).silent_success();
        reader.end(LIMIT).has_code(0);
        steady.end(LIMIT).silent_success();
        assert_holds(&sandbox.at("out"), &bytes);
        sandbox.nothing_left();
    }
}

#[test]
fn a_receiver_that_cannot_write_fails_alone() {
    let sandbox = Sandbox::new();
    let bytes = noise(1 << 20, 4);
    sandbox.file("source", &bytes);
    let full = start(&mut sandbox.script("exec \"$SHELL_BIN\" recv x > /dev/full"));
    let whole = sandbox.start("recv x out");
    sandbox.until_awaited("x", 2);
    let sent = run(&mut sandbox.words("send x source --peers 2"));
    sent.has_code(4);
    assert!(sent.stderr.contains("failed"), "{sent:?}");
    full.end(LIMIT).has_code(1).one_line(&["standard output", "no space"]);
    whole.end(LIMIT).silent_success();
    assert_holds(&sandbox.at("out"), &bytes);
    sandbox.nothing_left();
}

#[test]
fn files_are_replaced_links_are_not_followed_and_directories_stay() {
    let sandbox = Sandbox::new();
    sandbox.file("source", b"new");
    sandbox.file("old", b"old");
    sandbox.file("untouched", b"untouched");
    symlink("untouched", sandbox.at("link")).unwrap();
    std::fs::create_dir(sandbox.at("directory")).unwrap();
    for target in ["old", "link"] {
        let recv = sandbox.start(&format!("recv x {target}"));
        run(&mut sandbox.words("send x source")).silent_success();
        recv.end(LIMIT).silent_success();
        assert_holds(&sandbox.at(target), b"new");
    }
    assert_holds(&sandbox.at("untouched"), b"untouched");
    run(&mut sandbox.words("recv x directory")).refusal(1, &["directory", "is a directory"]);
    run(&mut sandbox.words("recv x missing/file")).refusal(1, &["missing/file", "no such file"]);
    run(&mut sandbox.words("recv x old --no-clobber")).refusal(1, &["old", "exists"]);
    for target in ["missing/", "old/"] {
        run(&mut sandbox.words(&format!("recv x {target}"))).refusal(1, &[target, "not a directory"]);
    }
    let recv = sandbox.start("recv x /dev/null");
    run(&mut sandbox.words("send x source")).silent_success();
    recv.end(LIMIT).silent_success();
    sandbox.nothing_left();
}

#[test]
fn a_target_of_255_bytes_and_one_whose_temporary_name_was_left_are_written() {
    let sandbox = Sandbox::new();
    sandbox.file("source", b"new");
    sandbox.file("old", b"old");
    let long = "n".repeat(255);
    // A file that a killed process with the same pid might have left.
    let script = "touch .$(printf %08x $$).part && exec \"$SHELL_BIN\" recv x old";
    let receivers = [sandbox.start(&format!("recv x {long}")), start(&mut sandbox.script(script))];
    run(&mut sandbox.words("send x source --peers 2")).silent_success();
    for recv in receivers {
        recv.end(LIMIT).silent_success();
    }
    assert_holds(&sandbox.at(long), b"new");
    assert_holds(&sandbox.at("old"), b"new");
}

#[test]
fn a_receiver_that_joins_under_way_cannot_require_a_checksum() {
    let sandbox = Sandbox::new();
    run(&mut sandbox.words("recv x --from now --verify")).refusal(2, &["--verify", "--from now"]);
    sandbox.nothing_left();
}

#[test]
fn whatever_the_umask_what_is_ours_is_ours_alone() {
    for umask in ["0", "022", "0277", "0777"] {
        let sandbox = Sandbox::new();
        let script = |words| sandbox.script(&format!("umask {umask}; exec \"$SHELL_BIN\" {words}"));
        let send = start(script("send x").stdin(Stdio::piped()));
        sandbox.until_owned("x");
        let recv = start(&mut script("recv y"));
        sandbox.until_awaited("y", 1);
        let mode = |path: &str| {
            let mode = std::fs::metadata(sandbox.at(path)).unwrap().permissions();
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o7777
        };
        assert_eq!(mode("run/whorl"), 0o700, "{umask}");
        for file in sandbox.left() {
            assert_eq!(mode(&format!("run/whorl/{file}")), 0o1600, "{umask}: {file}");
        }
        for process in [send, recv] {
            crate::kit::signal(process.pid(), rustix::process::Signal::TERM);
            process.end(SOON);
        }
        sandbox.nothing_left();
    }
}

#[test]
fn what_was_planted_under_a_name_or_in_the_way_is_refused_and_not_touched() {
    let sandbox = Sandbox::new();
    sandbox.make_runtime_directory();
    sandbox.file("target", b"target");
    let plant = sandbox.socket("x");
    symlink(sandbox.at("target"), &plant).unwrap();
    for verb in ["send", "recv"] {
        run(&mut sandbox.words(&format!("{verb} x"))).has_code(1).one_line(&["not a socket owned by you"]);
    }
    run(&mut sandbox.words("rm x")).refusal(1, &["not a socket owned by you"]);
    assert_holds(&sandbox.at("target"), b"target");
    assert!(plant.is_symlink());
    std::fs::remove_file(&plant).unwrap();
    let directory = sandbox.at("run/whorl");
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(&directory, mode(0o777)).unwrap();
    for words in ["send x", "recv x", "ls", "rm x", "rm --dead"] {
        run(&mut sandbox.words(words)).refusal(1, &["not safe", "0700"]);
    }
    std::fs::remove_dir(&directory).unwrap();
    symlink(sandbox.at("run"), &directory).unwrap();
    run(&mut sandbox.words("recv x")).refusal(1, &["not safe", "link"]);
}
