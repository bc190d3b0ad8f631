//! Channels under random kills, across namespaces, and between users.

mod common;
mod home;

use common::{LIMIT, SOON, TRANSPORTS, is_root, next, noise, run, signal, skip, start, until};
use home::Home;
use rustix::process::Signal;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Rounds; each starts a sender and two receivers and kills one of the three at some moment.
const ROUNDS: u64 = 500;

#[test]
fn after_a_kill_at_any_time_the_name_works_at_once_and_one_file_is_left_at_most() {
    let home = Home::new();
    let bytes = noise(400_000, 1);
    home.place.file("source", &bytes);
    let mut state = std::env::var("WHORL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2463534242);
    eprintln!("seed {state} (set WHORL_SEED for another)");
    let (mut stale, mut whole, mut lost) = (0, 0, 0);
    for round in 0..ROUNDS {
        let transport = TRANSPORTS[(next(&mut state) % 2) as usize];
        let sender = format!("send x source {transport} --block 4K --slots 4 --peers 2");
        let mut words = [sender.as_str(), "recv x a", "recv x b"];
        words.rotate_left((next(&mut state) % 3) as usize);
        let processes: Vec<_> = words.iter().map(|words| home.start(words)).collect();
        let victim = (next(&mut state) % 3) as usize;
        // From before they have met to after they are through: that takes some 10 ms here, more where it is busy.
        std::thread::sleep(Duration::from_micros(next(&mut state) % 25_000));
        signal(processes[victim].pid(), Signal::KILL);
        let victim_sent = words[victim].starts_with("send");
        // The survivors end by themselves, except those that wait for the next of the dead one's kind.
        let mut ended = 0;
        for (process, (index, words)) in processes.into_iter().zip(words.iter().enumerate()) {
            if index == victim {
                continue;
            }
            let waits = if victim_sent { words.starts_with("recv") } else { true };
            ended += u32::from(finish(&home, process, waits, round));
        }
        lost += u32::from(ended < 2);
        let left = home.left();
        assert!(left.len() <= 1, "round {round}: {left:?}");
        for channel in home.ls().iter().take(1) {
            assert_eq!(channel["state"], "stale", "round {round}: {channel}");
            stale += 1;
        }
        for file in ["a", "b"] {
            let path = home.place.at(file);
            if path.exists() {
                assert!(std::fs::read(&path).unwrap() == bytes, "round {round}: {file} is not whole");
                std::fs::remove_file(path).unwrap();
                whole += 1;
            }
        }
        // The same name, at once.
        let again = home.start("recv x again");
        run(home.script("echo $0 | shell send x").arg(round.to_string())).silent_success();
        again.end(LIMIT).silent_success();
        assert_eq!(std::fs::read_to_string(home.place.at("again")).unwrap(), format!("{round}\n"));
        if !home.left().is_empty() {
            run(&mut home.words("rm --dead")).has_code(0);
            assert_eq!(home.left(), Vec::<String>::new(), "round {round}");
        }
    }
    eprintln!("{ROUNDS} rounds: {stale} left a file, {whole} files whole, {lost} with somebody left waiting");
    run(&mut home.words("rm --dead")).has_code(0);
    home.nothing_left();
    assert!(stale > 10 && whole > 10, "the kills come too early or too late to try anything");
}

/// Lets a survivor end. One that waits for somebody who will not come is ended by `rm`; true if it ended without.
fn finish(home: &Home, mut process: common::Live, may_wait: bool, round: u64) -> bool {
    let begun = std::time::Instant::now();
    while process.is_running() {
        let patience = if may_wait { Duration::from_millis(150) } else { SOON };
        if begun.elapsed() > patience {
            assert!(may_wait, "round {round}: a survivor hangs; it said: {}", process.stderr());
            // Again and again: it may not have begun to wait when the first one looked.
            until(SOON, &format!("round {round}: whoever waits is ended"), || {
                run(&mut home.words("rm --force x"));
                !process.is_running()
            });
            return false;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    let ended = process.end(SOON);
    assert!(matches!(ended.code(), Some(0 | 1 | 4)), "round {round}: {ended:?}");
    true
}

fn can_unshare(flags: &[&str]) -> bool {
    let tried = Command::new("unshare").args(flags).arg("true").stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

#[test]
fn from_another_mount_namespace_with_its_own_runtime_directory_nothing_is_seen() {
    if !can_unshare(&["-mp", "--fork", "--mount-proc"]) {
        return skip("private namespaces", "there is no unshare -mp");
    }
    let home = Home::new();
    let sender = home.start_fed("send x");
    home.owned("x");
    let inside = |words: &str| {
        let script = format!("mount -t tmpfs -o mode=700 tmpfs run && exec \"$SHELL_BIN\" {words}");
        let mut command = home.place.program("unshare");
        command.args(["-mp", "--fork", "--mount-proc", "sh", "-c", &script]);
        command.env("XDG_RUNTIME_DIR", home.place.at("run")).env("SHELL_BIN", env!("CARGO_BIN_EXE_shell"));
        command
    };
    run(&mut inside("rm x")).refusal(3, &["rm: x", "no such channel"]);
    run(&mut inside("recv x --timeout 300ms")).refusal(4, &["recv: x", "timed out waiting for a sender"]);
    assert_eq!(run(&mut inside("ls")).silent_success().stdout, "");
    assert_eq!(home.left(), ["x.sock"]);
    drop(sender);
}

#[test]
fn across_pid_namespaces_data_flows_and_death_is_told_right() {
    if !can_unshare(&["-mp", "--fork", "--mount-proc"]) {
        return skip("private pid namespaces", "there is no unshare -mp");
    }
    let home = Home::new();
    let inside = |words: &str| {
        let mut command = home.place.program("unshare");
        command.args(["-mp", "--fork", "--kill-child", "--mount-proc", env!("CARGO_BIN_EXE_shell")]);
        command.args(words.split_whitespace()).env("XDG_RUNTIME_DIR", home.place.at("run"));
        command
    };
    let bytes = noise(1 << 20, 3);
    home.place.file("source", &bytes);
    for transport in TRANSPORTS {
        // Both ways round.
        let recv = start(&mut inside("recv x in"));
        home.awaited("x", 1);
        run(&mut home.words(&format!("send x source {transport}"))).silent_success();
        recv.end(LIMIT).silent_success();
        let send = start(&mut inside(&format!("send x source {transport}")));
        run(&mut home.words("recv x out")).silent_success();
        send.end(LIMIT).silent_success();
        for file in ["in", "out"] {
            assert!(std::fs::read(home.place.at(file)).unwrap() == bytes);
            std::fs::remove_file(home.place.at(file)).unwrap();
        }
        // A living receiver in there, stopped for long, is not taken for dead; a killed one is noticed.
        let mut send = home.start_fed(&format!("send x {transport} --peers 2"));
        let recv = start(&mut inside("recv x in"));
        let other = home.start("recv x out");
        home.attached("x", 2);
        let shell = within(recv.pid());
        signal(shell, Signal::STOP);
        send.stdin().write_all(b"some").unwrap();
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(home::live(&home.ls()[0]), 2);
        signal(shell, Signal::KILL);
        until(SOON, "the death in there is noticed out here", || home::live(&home.ls()[0]) == 1);
        send.close_stdin();
        send.end(LIMIT).has_code(4);
        other.end(LIMIT).silent_success();
        drop(recv);
        // A sender in there that is killed: out here it is an error, and stale.
        let send = start(inside(&format!("send x {transport} --peers 2")).stdin(Stdio::piped()));
        let recv = home.start("recv x out");
        home.attached("x", 1);
        signal(within(send.pid()), Signal::KILL);
        recv.end(SOON).has_code(4).one_line(&["the sender died"]);
        drop(send);
        assert_eq!(home.ls()[0]["state"], "stale");
        run(&mut home.words("rm --dead")).has_code(0);
    }
    home.nothing_left();
}

/// The child that `unshare` started.
fn within(unshare: i32) -> i32 {
    let mut found = Vec::new();
    until(SOON, "there is a process in there", || {
        found = common::children(unshare);
        !found.is_empty()
    });
    found[0]
}

#[test]
fn another_user_can_neither_join_nor_list_nor_stop_a_channel() {
    let what = "a second user";
    let tried = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "true"]).status();
    if !is_root() || !tried.is_ok_and(|status| status.success()) {
        return skip(what, "it takes root and setpriv");
    }
    let home = Home::new();
    let shell = home.place.at("shell");
    std::fs::copy(env!("CARGO_BIN_EXE_shell"), &shell).unwrap();
    let top = shell.parent().unwrap();
    std::fs::set_permissions(top, PermissionsExt::from_mode(0o755)).unwrap();
    let stranger = |words: &str, runtime: &str| {
        let mut command = home.place.program("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&shell);
        command.args(words.split_whitespace()).env("XDG_RUNTIME_DIR", home.place.at(runtime));
        command
    };
    let verbs = ["recv x --timeout 1s", "send x --timeout 1s", "ls", "rm x", "rm --force x", "rm --dead"];
    let mut sender = home.start_fed("send x");
    home.owned("x");
    for words in verbs {
        run(&mut stranger(words, "run")).refusal(1, &["runtime directory"]);
    }
    // Even where the way there is open to all: the directory is not theirs, then the socket is not.
    std::fs::set_permissions(home.place.at("run"), PermissionsExt::from_mode(0o755)).unwrap();
    for words in verbs {
        run(&mut stranger(words, "run")).refusal(1, &["runtime directory"]);
    }
    // A directory of their own with our socket linked into it: it is not theirs, so it is refused.
    std::fs::create_dir_all(home.place.at("theirs/whorl")).unwrap();
    std::fs::hard_link(home.socket("x"), home.place.at("theirs/whorl/x.sock")).unwrap();
    for path in ["theirs", "theirs/whorl"] {
        chown(home.place.at(path), Some(65534), Some(65534)).unwrap();
        std::fs::set_permissions(home.place.at(path), PermissionsExt::from_mode(0o700)).unwrap();
    }
    run(&mut stranger("recv x --timeout 1s", "theirs")).refusal(1, &["not a socket owned by you"]);
    run(&mut stranger("rm x", "theirs")).refusal(1, &["not a socket owned by you"]);
    // And if it were: who connects is asked who it is.
    chown(home.place.at("theirs/whorl/x.sock"), Some(65534), Some(65534)).unwrap();
    run(&mut stranger("recv x --timeout 1s", "theirs")).refusal(1, &["belongs to another user"]);
    // The user itself neither trusts what the stranger owns.
    run(home.words("ls").env("XDG_RUNTIME_DIR", home.place.at("theirs"))).refusal(1, &["not safe"]);
    std::fs::set_permissions(home.place.at("run"), PermissionsExt::from_mode(0o700)).unwrap();
    chown(home.socket("x"), Some(0), Some(0)).unwrap();
    assert!(sender.is_running());
    let recv = home.start("recv x out");
    sender.stdin().write_all(b"ours").unwrap();
    sender.close_stdin();
    sender.end(LIMIT).silent_success();
    recv.end(LIMIT).silent_success();
    home.nothing_left();
}
