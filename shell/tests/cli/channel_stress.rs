//! Channels under random kills, across namespaces, and between users.

use crate::kit::smallest;
use crate::kit::{
    LIMIT, Running, SHELL, SOON, Sandbox, TRANSPORTS, children, is_root, lacks_unshare, live_receivers, next,
    noise, run, short_or_long, signal, skip, start, until,
};
use rustix::process::Signal;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Rounds. Each starts a sender and two receivers, and kills one of the three at some moment.

#[test]
fn after_a_kill_at_any_time_the_name_works_at_once_and_one_file_is_left_at_most() {
    let sandbox = Sandbox::new();
    let bytes = noise(400_000, 1);
    sandbox.file("source", &bytes);
    let mut state = std::env::var("WHORL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2463534242);
    eprintln!("seed {state} (set WHORL_SEED for another)");
    let rounds = short_or_long(100_u64, 500);
    let (mut stale, mut whole, mut lost) = (0, 0, 0);
    for round in 0..rounds {
        let transport = TRANSPORTS[(next(&mut state) % 2) as usize];
        let sender = format!("send x source {} --block 1K --peers 2", smallest(transport));
        let mut words = [sender.as_str(), "recv x a", "recv x b"];
        words.rotate_left((next(&mut state) % 3) as usize);
        let processes: Vec<_> = words.iter().map(|words| sandbox.start(words)).collect();
        let victim = (next(&mut state) % 3) as usize;
        // From before they have met until after they have finished. That takes some 10 ms here, and more on a busy
        // machine.
        std::thread::sleep(Duration::from_micros(next(&mut state) % 25_000));
        signal(processes[victim].pid(), Signal::KILL);
        let victim_sent = words[victim].starts_with("send");
        // The survivors end by themselves. A process that waits for a replacement of the dead one does not.
        let mut ended = 0;
        for (process, (index, words)) in processes.into_iter().zip(words.iter().enumerate()) {
            if index == victim {
                continue;
            }
            let waits = if victim_sent { words.starts_with("recv") } else { true };
            ended += u32::from(finish(&sandbox, process, waits, round));
        }
        lost += u32::from(ended < 2);
        let left = sandbox.left();
        assert!(left.len() <= 1, "round {round}: {left:?}");
        for channel in sandbox.ls().iter().take(1) {
            assert_eq!(channel["state"], "stale", "round {round}: {channel}");
            stale += 1;
        }
        for file in ["a", "b"] {
            let path = sandbox.at(file);
            if path.exists() {
                assert!(std::fs::read(&path).unwrap() == bytes, "round {round}: {file} is not whole");
                std::fs::remove_file(path).unwrap();
                whole += 1;
            }
        }
        // The same name again.
        let again = sandbox.start("recv x again");
        run(sandbox.script("echo $0 | shell send x").arg(round.to_string())).silent_success();
        again.end(LIMIT).silent_success();
        assert_eq!(std::fs::read_to_string(sandbox.at("again")).unwrap(), format!("{round}\n"));
        if !sandbox.left().is_empty() {
            run(&mut sandbox.words("rm --dead")).has_code(0);
            assert_eq!(sandbox.left(), Vec::<String>::new(), "round {round}");
        }
    }
    eprintln!(
        "{rounds} rounds: {stale} left a file, {whole} files whole, {lost} with a process left waiting"
    );
    run(&mut sandbox.words("rm --dead")).has_code(0);
    sandbox.nothing_left();
    assert!(
        stale > rounds / 50 && whole > rounds / 50,
        "the kills come too early or too late to try anything"
    );
}

/// Lets a survivor end. `rm` ends a process that waits for a peer that will not come. Returns whether it ended without
/// `rm`.
fn finish(sandbox: &Sandbox, mut process: Running, may_wait: bool, round: u64) -> bool {
    let begun = std::time::Instant::now();
    while process.is_running() {
        let patience = if may_wait { Duration::from_millis(150) } else { SOON };
        if begun.elapsed() > patience {
            assert!(may_wait, "round {round}: a survivor hangs; stderr: {}", process.stderr());
            // Again and again, because it may not have begun to wait when the first `rm` looked.
            until(SOON, &format!("round {round}: the waiting process is ended"), || {
                run(&mut sandbox.words("rm --force x"));
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

#[test]
fn from_another_mount_namespace_with_its_own_runtime_directory_nothing_is_seen() {
    if lacks_unshare(&["-mp", "--fork", "--mount-proc"], "private namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let sender = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    let inside = |words: &str| {
        let script = format!("mount -t tmpfs -o mode=700 tmpfs run && exec \"$SHELL_BIN\" {words}");
        let mut command = sandbox.program("unshare");
        command.args(["-mp", "--fork", "--mount-proc", "sh", "-c", &script]);
        command
    };
    run(&mut inside("rm x")).refusal(3, &["rm: x", "no such channel"]);
    run(&mut inside("recv x --timeout 300ms")).refusal(4, &["recv: x", "timed out waiting for a sender"]);
    assert_eq!(run(&mut inside("ls")).silent_success().stdout, "");
    assert_eq!(sandbox.left(), ["x.sock"]);
    drop(sender);
}

#[test]
fn across_pid_namespaces_data_flows_and_death_is_detected() {
    if lacks_unshare(&["-mp", "--fork", "--mount-proc"], "private pid namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let inside = |words: &str| {
        let mut command = sandbox.program("unshare");
        command.args(["-mp", "--fork", "--kill-child", "--mount-proc", SHELL]);
        command.args(words.split_whitespace());
        command
    };
    let bytes = noise(1 << 20, 3);
    sandbox.file("source", &bytes);
    for transport in TRANSPORTS {
        // In both directions.
        let recv = start(&mut inside("recv x in"));
        sandbox.until_awaited("x", 1);
        run(&mut sandbox.words(&format!("send x source {transport}"))).silent_success();
        recv.end(LIMIT).silent_success();
        let send = start(&mut inside(&format!("send x source {transport}")));
        run(&mut sandbox.words("recv x out")).silent_success();
        send.end(LIMIT).silent_success();
        for file in ["in", "out"] {
            assert!(std::fs::read(sandbox.at(file)).unwrap() == bytes);
            std::fs::remove_file(sandbox.at(file)).unwrap();
        }
        // A live receiver in the namespace, stopped for long, is not reported dead. A killed one is.
        let mut send = sandbox.start_fed(&format!("send x {transport} --peers 2"));
        let recv = start(&mut inside("recv x in"));
        let other = sandbox.start("recv x out");
        sandbox.until_joined("x", 2);
        let shell = within(recv.pid());
        signal(shell, Signal::STOP);
        send.stdin().write_all(b"some").unwrap();
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(live_receivers(&sandbox.ls()[0]), 2);
        signal(shell, Signal::KILL);
        until(SOON, "the death in there is noticed out here", || live_receivers(&sandbox.ls()[0]) == 1);
        send.close_stdin();
        send.end(LIMIT).has_code(4);
        other.end(LIMIT).silent_success();
        drop(recv);
        // A sender in the namespace is killed. Outside, that is an error, and the name is stale.
        let send = start(inside(&format!("send x {transport} --peers 2")).stdin(Stdio::piped()));
        let recv = sandbox.start("recv x out");
        sandbox.until_joined("x", 1);
        signal(within(send.pid()), Signal::KILL);
        recv.end(SOON).has_code(4).one_line(&["the sender died"]);
        drop(send);
        assert_eq!(sandbox.ls()[0]["state"], "stale");
        run(&mut sandbox.words("rm --dead")).has_code(0);
    }
    sandbox.nothing_left();
}

/// The child that `unshare` started.
fn within(unshare: i32) -> i32 {
    let mut found = Vec::new();
    until(SOON, "there is a process in there", || {
        found = children(unshare);
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
    let sandbox = Sandbox::new();
    let shell = sandbox.copy_of_shell();
    let top = shell.parent().unwrap();
    std::fs::set_permissions(top, PermissionsExt::from_mode(0o755)).unwrap();
    let stranger = |words: &str, runtime: &str| {
        let mut command = sandbox.program("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&shell);
        command.args(words.split_whitespace()).env("XDG_RUNTIME_DIR", sandbox.at(runtime));
        command
    };
    let verbs = ["recv x --timeout 1s", "send x --timeout 1s", "ls", "rm x", "rm --force x", "rm --dead"];
    let mut sender = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    for words in verbs {
        run(&mut stranger(words, "run")).refusal(1, &["runtime directory"]);
    }
    // Even if the path is open to all: the directory is not owned by that user, and neither is the socket.
    std::fs::set_permissions(sandbox.at("run"), PermissionsExt::from_mode(0o755)).unwrap();
    for words in verbs {
        run(&mut stranger(words, "run")).refusal(1, &["runtime directory"]);
    }
    // A directory of that user, with the socket linked into it: the socket is not owned by that user, so it is refused.
    std::fs::create_dir_all(sandbox.at("theirs/whorl")).unwrap();
    std::fs::hard_link(sandbox.socket("x"), sandbox.at("theirs/whorl/x.sock")).unwrap();
    for path in ["theirs", "theirs/whorl"] {
        chown(sandbox.at(path), Some(65534), Some(65534)).unwrap();
        std::fs::set_permissions(sandbox.at(path), PermissionsExt::from_mode(0o700)).unwrap();
    }
    run(&mut stranger("recv x --timeout 1s", "theirs")).refusal(1, &["not a socket owned by you"]);
    run(&mut stranger("rm x", "theirs")).refusal(1, &["not a socket owned by you"]);
    // If the socket's file is owned by that user, the kernel still says that its owner is another user.
    chown(sandbox.at("theirs/whorl/x.sock"), Some(65534), Some(65534)).unwrap();
    run(&mut stranger("recv x --timeout 1s", "theirs")).refusal(1, &["belongs to another user"]);
    // Nor does the first user trust what the other user owns.
    run(sandbox.words("ls").env("XDG_RUNTIME_DIR", sandbox.at("theirs"))).refusal(1, &["not safe"]);
    std::fs::set_permissions(sandbox.at("run"), PermissionsExt::from_mode(0o700)).unwrap();
    chown(sandbox.socket("x"), Some(0), Some(0)).unwrap();
    assert!(sender.is_running());
    let recv = sandbox.start("recv x out");
    sender.stdin().write_all(b"ours").unwrap();
    sender.close_stdin();
    sender.end(LIMIT).silent_success();
    recv.end(LIMIT).silent_success();
    sandbox.nothing_left();
}
