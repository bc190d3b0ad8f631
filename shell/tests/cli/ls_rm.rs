//! `shell ls` and `shell rm`: the list is true, and `rm` removes only dead names, or asks a live owner to end.

use crate::kit::mailbox_server::Server;
use crate::kit::{
    LIMIT, SOON, Sandbox, TRANSPORTS, is_alive, noise, run, short_or_long, signal, start, stop, until,
};
use rustix::process::Signal;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use whorl::internal::registry::RuntimeDir;
use whorl::internal::registry::{State, list, remove_dead};
use whorl::{Name, Received, Receiver, Sender};

#[test]
fn the_list_shows_owners_waiters_and_lag() {
    let sandbox = Sandbox::new();
    let nothing = run(&mut sandbox.words("ls"));
    nothing.silent_success();
    assert_eq!(nothing.stdout, "");
    assert_eq!(run(&mut sandbox.words("ls --json")).stdout, "{\"channels\":[]}\n");
    for transport in TRANSPORTS {
        let waiting = sandbox.start("recv awaited");
        sandbox.until_awaited("awaited", 1);
        let mut sender = sandbox.start_fed(&format!("send x {transport} --peers 2"));
        let recv = start(&mut sandbox.script("exec \"$SHELL_BIN\" recv x > taken"));
        sandbox.until_joined("x", 1);
        let listed = sandbox.ls();
        let (awaited, x) = (&listed[0], &listed[1]);
        assert_eq!(
            (&awaited["name"], &awaited["kind"], &awaited["state"]),
            (&"awaited".into(), &"ring".into(), &"waiting".into())
        );
        assert!(awaited["owner"].is_null());
        assert_eq!(awaited["receivers"][0]["pid"], waiting.pid());
        assert_eq!(
            (&x["name"], &x["kind"], &x["state"], &x["wanted"]),
            (&"x".into(), &"ring".into(), &"waiting".into(), &2.into())
        );
        assert_eq!(x["owner"]["pid"], sender.pid());
        assert!(x["owner"]["command"].as_str().unwrap().contains("send x"), "{x}");
        assert!(x["memory_bytes"].as_u64() >= Some(640 << 10), "{x}");
        assert_eq!(x["receivers"][0]["pid"], recv.pid());
        let second = start(&mut sandbox.script("exec \"$SHELL_BIN\" recv x > lagging"));
        sandbox.until_joined("x", 2);
        signal(second.pid(), Signal::STOP);
        sender.stdin().write_all(&noise(20_000, 1)).unwrap();
        until(SOON, "the list shows the lag", || {
            let x = &sandbox.ls()[1];
            let peers = x["receivers"].as_array().unwrap();
            let behind = |pid: i32| {
                peers.iter().find(|peer| peer["pid"] == pid).map(|peer| peer["lag_bytes"].as_u64())
            };
            x["state"] == "live" && x["sent_bytes"] == 20_000 && behind(recv.pid()) == Some(Some(0))
                // The bytes in a socket's buffer count as taken. A ring also holds headers.
                && (transport == "--socket" || behind(second.pid()).flatten().is_some_and(|lag| (20_000..20_200).contains(&lag)))
        });
        let text = run(&mut sandbox.words("ls"));
        assert!(text.stdout.lines().any(|line| line.starts_with("x\tring\tlive\tpid ")), "{text:?}");
        assert!(text.stdout.contains(&format!("  stopped\tpid {}", second.pid())), "{text:?}");
        signal(second.pid(), Signal::CONT);
        sender.close_stdin();
        for process in [sender, recv, second] {
            process.end(LIMIT).silent_success();
        }
        signal(waiting.pid(), Signal::TERM);
        waiting.end(SOON);
        sandbox.nothing_left();
    }
}

#[test]
fn what_the_dead_left_is_stale_and_goes_with_rm_dead_alone() {
    let sandbox = Sandbox::new();
    let (sender, waiting) = (sandbox.start_fed("send x"), sandbox.start("recv y"));
    let living = sandbox.start("recv z");
    sandbox.until_owned("x");
    sandbox.until_awaited("y", 1);
    sandbox.until_awaited("z", 1);
    for process in [&sender, &waiting] {
        signal(process.pid(), Signal::KILL);
    }
    let pid = waiting.pid();
    drop((sender, waiting));
    let states: Vec<_> =
        sandbox.ls().iter().map(|found| (found["name"].clone(), found["state"].clone())).collect();
    assert_eq!(
        states,
        [("x".into(), "stale".into()), ("y".into(), "stale".into()), ("z".into(), "waiting".into())]
    );
    let removed = run(&mut sandbox.words("rm --dead"));
    removed.silent_success();
    let lines: Vec<_> = removed.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{removed:?}");
    assert!(lines[0].starts_with("x: removed") || lines[1].starts_with("x: removed"));
    assert!(removed.stdout.contains(&format!("y: removed what pid {pid} left")));
    assert_eq!(sandbox.left(), [format!("z.{}.wait", living.pid())]);
    assert_eq!(run(&mut sandbox.words("rm --dead")).silent_success().stdout, "");
    run(&mut sandbox.words("rm x")).refusal(3, &["rm: x", "no such channel"]);
    // A waiting process ends when it gets the signal.
    let removed = run(&mut sandbox.words("rm z"));
    removed.silent_success();
    living.end(SOON).has_code(1).one_line(&["recv: z", "asked to end by 'shell rm'"]);
    sandbox.nothing_left();
}

#[test]
fn a_mailbox_servers_socket_without_its_lock_file_goes_with_rm_dead_too() {
    let server = Server::start(&["1", "1", "0", "1"]);
    let sandbox = &server.sandbox;
    let directory = RuntimeDir::open_at(&sandbox.at("run/whorl")).unwrap();
    leave_stale(&directory, "dipc-1.sock");
    // A live server has just lost its lock file.
    let lock_file = sandbox.at(format!("run/whorl/dipc-{}.info", server.port));
    std::fs::remove_file(&lock_file).unwrap();
    let stale = sandbox.ls().into_iter().find(|found| found["name"] == "dipc-1").unwrap();
    assert_eq!(stale["state"], "stale");
    let removed = run(&mut sandbox.words("rm --dead"));
    assert_eq!(removed.silent_success().stdout, "dipc-1: removed, its owner is dead\n");
    assert!(sandbox.socket(&format!("dipc-{}", server.port)).exists());
    until(LIMIT, "the lock file is back", || lock_file.exists());
    server.remove(&[]).silent_success();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

#[test]
fn the_living_are_asked_to_end_and_what_is_in_use_is_refused() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let alone = sandbox.start_fed(&format!("send alone {transport}"));
        let mut busy = sandbox.start_fed(&format!("send busy {transport}"));
        let recv = sandbox.start("recv busy out");
        sandbox.until_owned("alone");
        busy.stdin().write_all(b"some").unwrap();
        sandbox.until_joined("busy", 1);
        let ended = run(&mut sandbox.words("rm busy missing alone"));
        ended.has_code(1);
        assert!(ended.stderr.contains("busy: in use by 1 process;"), "{ended:?}");
        assert!(ended.stderr.contains("missing: no such channel"), "{ended:?}");
        assert_eq!(ended.stdout, format!("alone: its owner (pid {}) ended\n", alone.pid()));
        alone.end(SOON).has_code(1).one_line(&["asked to end by 'shell rm'"]);
        assert!(busy.is_running());
        run(&mut sandbox.words("rm --force busy")).silent_success();
        busy.end(SOON).has_code(1).one_line(&["asked to end by 'shell rm'"]);
        recv.end(SOON).has_code(4);
        sandbox.nothing_left();
    }
}

#[test]
fn an_owner_that_does_not_answer_keeps_its_name_unless_forced() {
    let sandbox = Sandbox::new();
    let mut sender = sandbox.start_fed("send x");
    // Not while it starts, when it holds the directory's lock.
    until(SOON, "it answers", || sandbox.ls().first().is_some_and(|found| found["state"] == "waiting"));
    stop(sender.pid());
    let listed = run(&mut sandbox.words("ls --json"));
    listed.has_code(0).one_line(&["x", "does not answer"]);
    assert_eq!(listed.json()["channels"][0]["state"], "live");
    assert_eq!(listed.json()["channels"][0]["owner"]["pid"], sender.pid());
    run(&mut sandbox.words("rm --dead")).silent_success();
    run(&mut sandbox.words("rm x")).refusal(1, &["does not answer", "--force"]);
    assert_eq!(sandbox.left(), ["x.sock"]);
    run(&mut sandbox.words("rm --force x")).silent_success();
    assert!(sandbox.left().is_empty() && is_alive(sender.pid()));
    // Another sender takes the name. The former owner leaves it alone when it ends.
    let mut successor = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    signal(sender.pid(), Signal::CONT);
    sender.close_stdin();
    signal(sender.pid(), Signal::TERM);
    sender.end(SOON);
    assert_eq!(sandbox.left(), ["x.sock"]);
    successor.close_stdin();
    run(&mut sandbox.words("recv x")).silent_success();
    successor.end(SOON).silent_success();
    sandbox.nothing_left();
}

#[test]
fn mailbox_servers_are_listed_with_the_rest_and_look_after_their_own() {
    let sandbox = Sandbox::new();
    let mut server = sandbox.start("dipc 2 4 0 4 --foreground");
    let mut name = String::new();
    until(SOON, "it is listed", || {
        let listed = sandbox.ls();
        let found = listed.first();
        name = found.map_or(String::new(), |found| found["name"].as_str().unwrap().to_owned());
        found.is_some_and(|found| found["kind"] == "mailboxes" && found["state"] == "live")
    });
    let port = name.strip_prefix("dipc-").unwrap();
    run(&mut sandbox.words(&format!("rm --force {name}")))
        .refusal(1, &["mailbox server", &format!("dipcrm {port}")]);
    run(&mut sandbox.words("rm --dead")).silent_success();
    assert!(server.is_running());
    run(&mut sandbox.words(&format!("send {name}"))).refusal(1, &["belong to mailbox servers"]);
    signal(server.pid(), Signal::KILL);
    drop(server);
    until(SOON, "it is dead", || sandbox.ls()[0]["state"] == "stale");
    assert!(
        run(&mut sandbox.words("rm --dead")).silent_success().stdout.starts_with(&format!("{name}: removed"))
    );
    assert_eq!(sandbox.ls(), Vec::<serde_json::Value>::new());
}

#[test]
fn using_them_wrongly_is_one_line() {
    let sandbox = Sandbox::new();
    run(&mut sandbox.words("rm")).refusal(2, &["required"]);
    run(&mut sandbox.words("rm --dead x")).refusal(2, &["--dead"]);
    run(&mut sandbox.words("rm --dead --force")).refusal(2, &["--force"]);
    run(&mut sandbox.shell(["rm", "../x"])).refusal(2, &["letters"]);
    run(&mut sandbox.words("ls x")).refusal(2, &["x"]);
}

#[test]
fn system_v_segments_are_listed() {
    let sandbox = Sandbox::new();
    let Ok(made) = std::process::Command::new("ipcmk").args(["-M", "4096"]).output() else {
        return crate::kit::skip("ls --sysv", "there is no ipcmk");
    };
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    let id = text.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    let listed = run(&mut sandbox.words("ls --sysv --json"));
    let plain = run(&mut sandbox.words("ls --sysv"));
    let removed = std::process::Command::new("ipcrm").args(["-m", &id]).status().unwrap();
    assert!(removed.success());
    let json = listed.json();
    let found =
        json["sysv"].as_array().unwrap().iter().find(|segment| segment["id"].as_u64() == id.parse().ok());
    assert_eq!(found.expect("it is listed")["memory_bytes"], 4096);
    assert!(plain.stdout.contains(&format!("id {id}")), "{plain:?}");
    assert!(run(&mut sandbox.words("ls --json")).json().get("sysv").is_none());
}

#[test]
fn eight_that_remove_the_dead_never_remove_the_living() {
    // Each round takes the name, lets a receiver join, and releases the name.
    let rounds = short_or_long(400, 2000);
    let sandbox = Sandbox::new();
    sandbox.make_runtime_directory();
    let parent = sandbox.at("run");
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    // Two of them run the real command, again and again. The other six call the same functions.
    let loops: Vec<_> = (0..2)
        .map(|_| start(sandbox.script("while :; do shell rm --dead || exit 9; done").stdin(Stdio::null())))
        .collect();
    let stale = std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let directory = RuntimeDir::open_in(&parent, "whorl").unwrap();
                while !over.load(Ordering::Relaxed) {
                    let (_, failed) = remove_dead(&directory).unwrap();
                    assert!(failed.is_empty(), "{failed:?}");
                    std::thread::sleep(Duration::from_micros(500));
                }
            });
        }
        let stale = (0..rounds).map(|round| live_round(&parent, round)).sum::<u32>();
        over.store(true, Ordering::Relaxed);
        stale
    });
    eprintln!("{rounds} rounds, {stale} stale sockets replaced or removed, in {:?}", begun.elapsed());
    for mut each in loops {
        assert!(each.is_running(), "{}", each.stderr());
    }
    run(&mut sandbox.words("rm --dead")).has_code(0);
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// Takes the name while others remove dead names, and lets a receiver join by it. In every fourth round a dead owner's
/// socket is there first. Returns how many such rounds there were.
fn live_round(parent: &Path, round: u32) -> u32 {
    let open = || RuntimeDir::open_in(parent, "whorl").unwrap();
    let name: Name = "contested".parse().unwrap();
    let stale = round.is_multiple_of(4);
    if stale {
        leave_stale(&open(), "contested.sock");
    }
    let small = Sender::options().ring(2048).seats(2);
    let mut sender = small.runtime_dir(parent.join("whorl")).create(&name).unwrap();
    let file = parent.join("whorl/contested.sock");
    assert!(file.symlink_metadata().is_ok(), "a live name was removed in round {round}");
    let options = Receiver::options().timeout(LIMIT).runtime_dir(parent.join("whorl"));
    let mut receiver = options.join(&name).unwrap_or_else(|error| panic!("{error}, in round {round}"));
    sender.send(&round.to_le_bytes()).unwrap();
    let mut bytes = [0; 512];
    assert_eq!(receiver.recv(&mut bytes), Ok(Received::Bytes(4)));
    assert_eq!(bytes[..4], round.to_le_bytes());
    assert!(file.symlink_metadata().is_ok(), "a live name was removed in round {round}");
    if round.is_multiple_of(64) {
        let listed = list(&open()).unwrap();
        assert!(
            listed.iter().any(|found| found.state != State::Stale && found.waiting.is_empty()),
            "{listed:?}"
        );
    }
    u32::from(stale)
}

fn leave_stale(directory: &RuntimeDir, file: &str) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
    let locked = directory.lock().unwrap();
    let address = SocketAddrUnix::new(directory.path_of(file)).unwrap();
    let made = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    bind(&made, &address).unwrap();
    drop(locked);
    std::thread::sleep(Duration::from_micros(200));
}
