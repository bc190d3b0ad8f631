//! Every system call of every command: the process is killed there, or the call fails. No process hangs, exit codes are
//! right, nothing is left, and every failure prints an error.
//!
//! 10 kills and 10 failures of each scene, evenly spread. `WHORL_FAULTS=N` makes it N of each, `WHORL_FAULTS_LONG=1`
//! all.
//!
//! Also, every command without each of its calls, as on an old kernel or under a filter: 2 of each scene. With
//! `WHORL_FAULTS_SHOW=1` the test prints each command's output.

mod calls;
mod missing;
mod names;
mod quick;

use crate::kit::{Ended, Running, SOON, Sandbox, TRANSPORTS, lacks_strace, noise, run, signal, start, until};
use calls::{Fault, Reach, Scene, Verdict};
use calls::{end, ends_properly, ensure, never_began, nothing_left, play, sweep};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const LENGTH: usize = 300_007;

fn bytes() -> Vec<u8> {
    noise(LENGTH, 5)
}

/// Whether a file exists. If it does, asserts that it is whole.
fn whole(sandbox: &Sandbox, name: &str) -> Result<bool, String> {
    match fs::read(sandbox.at(name)) {
        Ok(found) if found == bytes() => Ok(true),
        Ok(found) => Err(format!("{name} has {} bytes of something", found.len())),
        Err(_) => Ok(false),
    }
}

/// The command with the fault in it.
fn faulty(sandbox: &Sandbox, fault: &Fault, words: &str) -> Running {
    start(&mut fault.shell(sandbox, words))
}

fn copy(sandbox: &Sandbox, fault: &Fault, transport: &str) -> Verdict {
    sandbox.file("source", &bytes());
    let words = format!("copy {transport} -n 2 --verify --fsync --json source");
    let copy = end(faulty(sandbox, fault, &words), "copy")?;
    ends_properly(&copy, fault)?;
    for peer in ["received-files/peer-01_source", "received-files/peer-02_source"] {
        let there = whole(sandbox, peer)?;
        ensure(there || copy.code() != Some(0), || format!("{peer} is missing: {copy:?}"))?;
    }
    nothing_left(sandbox, fault, 3)
}

fn copy_shm(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    copy(sandbox, fault, "--shm")
}

fn copy_socket(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    copy(sandbox, fault, "--socket")
}

/// Checks the ends of a `send` and a `recv`, one of which has the fault.
fn both_truthful(sandbox: &Sandbox, fault: &Fault, send: &Ended, recv: &Ended) -> Verdict {
    if [send, recv].into_iter().any(|ended| never_began(ended, fault)) {
        return Ok(());
    }
    let there = whole(sandbox, "taken")?;
    let both = || format!("taken: {there}; {send:?}; {recv:?}");
    ensure(recv.code() != Some(0) || there, both)?;
    ensure(send.code() != Some(0) || there, both)?;
    ensure(!send.stderr.contains("panicked") && !recv.stderr.contains("panicked"), both)
}

fn send(sandbox: &Sandbox, fault: &Fault, transport: &str) -> Verdict {
    sandbox.file("source", &bytes());
    let recv = sandbox.start("recv x taken --timeout 8s");
    let send = faulty(sandbox, fault, &format!("send x source {transport} --peers 1 --timeout 8s"));
    let send = end(send, "send")?;
    ends_properly(&send, fault)?;
    if send.code() != Some(0) {
        // A receiver that waits for a name continues to wait, so this one waits long enough.
        std::thread::sleep(Duration::from_millis(20));
        signal(recv.pid(), Signal::TERM);
    }
    let recv = end(recv, "recv")?;
    both_truthful(sandbox, fault, &send, &recv)?;
    nothing_left(sandbox, fault, 1)
}

fn send_shm(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    send(sandbox, fault, "--shm")
}

fn send_socket(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    send(sandbox, fault, "--socket")
}

fn recv(sandbox: &Sandbox, fault: &Fault, transport: &str) -> Verdict {
    sandbox.file("source", &bytes());
    let send = sandbox.start(&format!("send x source {transport} --peers 1 --timeout 8s"));
    let recv = faulty(sandbox, fault, "recv x taken --timeout 8s");
    let recv = end(recv, "recv")?;
    ends_properly(&recv, fault)?;
    if recv.code() != Some(0) {
        std::thread::sleep(Duration::from_millis(20));
        signal(send.pid(), Signal::TERM);
    }
    let send = end(send, "send")?;
    both_truthful(sandbox, fault, &send, &recv)?;
    nothing_left(sandbox, fault, 1)
}

fn recv_shm(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    recv(sandbox, fault, "--shm")
}

fn recv_socket(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    recv(sandbox, fault, "--socket")
}

/// Sends a few requests, and returns the replies that arrive.
fn converse(port: &str, requests: &str) -> String {
    let Ok(port) = port.parse::<u16>() else { return String::new() };
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.write_all(requests.as_bytes());
    let mut replies = Vec::new();
    let _ = stream.read_to_end(&mut replies);
    String::from_utf8_lossy(&replies).into_owned()
}

/// The port in the line that a server prints when it starts.
fn port_of(started: &Ended) -> String {
    started.stdout.trim_end().rsplit(':').next().unwrap_or_default().to_owned()
}

/// A mailbox server without a fault.
fn server(sandbox: &Sandbox) -> Result<String, String> {
    let started = run(&mut sandbox.words("dipc 2 1 0 1"));
    ensure(started.code() == Some(0), || format!("no server: {started:?}"))?;
    Ok(port_of(&started))
}

/// Ends a server, if it is there.
fn stop(sandbox: &Sandbox, port: &str) -> Verdict {
    let removed = run(&mut sandbox.words(&format!("dipcrm {port}")));
    ensure(matches!(removed.code(), Some(0 | 3)), || format!("dipcrm: {removed:?}"))
}

fn dipc(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let started = end(faulty(sandbox, fault, "dipc 2 1 0 1"), "dipc")?;
    ends_properly(&started, fault)?;
    if started.code() == Some(0) {
        let port = port_of(&started);
        let replies = converse(&port, "w 0 5\nhello\nr 0\nq\n");
        if replies.contains("data 0") {
            ensure(replies.contains("data 0 1 5\nhello"), || format!("replies: {replies:?}"))?;
        }
        if *fault == Fault::Nothing {
            ensure(replies.contains("data 0 1 5\nhello"), || format!("replies: {replies:?}"))?;
        }
        stop(sandbox, &port)?;
    }
    nothing_left(sandbox, fault, 2)
}

/// A client asks for a deadline months away. Without the newest call for waiting, other clients are still served.
fn dipc_far_deadline(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let started = end(faulty(sandbox, fault, "dipc 2 1 0 1"), "dipc")?;
    ends_properly(&started, fault)?;
    if started.code() == Some(0) {
        let port = port_of(&started);
        let patient = TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap_or_default()));
        let asked = patient.map(|mut patient| patient.write_all(b"r 1 0 9999999999\n").map(|()| patient));
        let replies = converse(&port, "r 0 0 20\nw 0 5\nhello\nr 0\nq\n");
        let again = converse(&port, "r 0\nq\n");
        let lacks =
            matches!(fault, Fault::Fail { call, error: "ENOSYS" | "EPERM", .. } if call == "epoll_pwait2");
        if lacks || *fault == Fault::Nothing {
            let whole = "data 0 1 5\nhello\nbye quit\n";
            ensure(replies.ends_with(whole) && again == whole, || {
                format!("replies: {replies:?}, {again:?}")
            })?;
        }
        drop(asked);
        stop(sandbox, &port)?;
    }
    nothing_left(sandbox, fault, 2)
}

fn dipcrm(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let port = server(sandbox)?;
    let removed = end(faulty(sandbox, fault, &format!("dipcrm {port}")), "dipcrm")?;
    ends_properly(&removed, fault)?;
    if removed.code() == Some(0) {
        ensure(converse(&port, "q\n").is_empty(), || {
            format!("it says it is gone, but it answers: {removed:?}")
        })?;
    } else {
        stop(sandbox, &port)?;
    }
    nothing_left(sandbox, fault, 1)
}

fn mail_write(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let port = server(sandbox)?;
    run(&mut sandbox.words(&format!("mail -p {port} write 0 before"))).has_code(0);
    let wrote = end(faulty(sandbox, fault, &format!("mail -p {port} write 0 after")), "mail write")?;
    ends_properly(&wrote, fault)?;
    let read = run(&mut sandbox.words(&format!("mail -p {port} read 0")));
    ensure(read.stdout == "after" || (wrote.code() != Some(0) && read.stdout == "before"), || {
        format!("{wrote:?}, then {read:?}")
    })?;
    stop(sandbox, &port)?;
    nothing_left(sandbox, fault, 1)
}

fn mail_read(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let port = server(sandbox)?;
    run(&mut sandbox.words(&format!("mail -p {port} write 0 before"))).has_code(0);
    let read = end(faulty(sandbox, fault, &format!("mail -p {port} read 0")), "mail read")?;
    ends_properly(&read, fault)?;
    ensure(read.code() != Some(0) || read.stdout == "before", || format!("{read:?}"))?;
    stop(sandbox, &port)?;
    nothing_left(sandbox, fault, 1)
}

fn announced(sandbox: &Sandbox) -> bool {
    whorl::internal::discovery::Information::read(&sandbox.at("servers/one.server")).is_ok()
}

const SERVE: &str = "serve one --dir servers --socket-message by-socket --shm-message by-memory --clients 1";

fn serve(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    fs::create_dir(sandbox.at("servers")).map_err(|error| error.to_string())?;
    let mut serve = faulty(sandbox, fault, SERVE);
    until(SOON, "it is announced, or has ended", || announced(sandbox) || !serve.is_running());
    if announced(sandbox) {
        let asked = run(&mut sandbox.words("servers --dir servers --json --timeout 1s"));
        asked.has_code(0);
    }
    for _ in 0..20 {
        if !serve.is_running() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // A lost client does not count, so the server waits for the next one.
    signal(serve.pid(), Signal::TERM);
    let serve = end(serve, "serve")?;
    if serve.signal() != Some(Signal::TERM.as_raw()) {
        ends_properly(&serve, fault)?;
    }
    let left = sandbox.names("servers");
    let may_leave = fault.is_kill() || is_unlink(fault) || is_stat(fault) || never_began(&serve, fault);
    ensure(left.len() <= usize::from(may_leave), || format!("left: {left:?}; {serve:?}"))?;
    nothing_left(sandbox, fault, 1)?;
    // A dead server's files do not block the next server.
    let mut again = sandbox.start(SERVE);
    until(SOON, "it is announced again", || announced(sandbox) || !again.is_running());
    let here = again.is_running();
    signal(again.pid(), Signal::TERM);
    let again = end(again, "serve")?;
    ensure(here, || format!("no server can replace it: {again:?}"))
}

/// Whether the fault is in the removal itself.
fn is_unlink(fault: &Fault) -> bool {
    fault.failing().is_some_and(|call| call.starts_with("unlink"))
}

/// Whether the fault is in the check of a file's owner. Then the file stays.
fn is_stat(fault: &Fault) -> bool {
    fault.failing().is_some_and(|call| call.ends_with("stat") || call.ends_with("statat"))
}

fn servers(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    fs::create_dir(sandbox.at("servers")).map_err(|error| error.to_string())?;
    let mut serve = sandbox.start(SERVE);
    until(SOON, "it is announced", || announced(sandbox) || !serve.is_running());
    let asked = end(faulty(sandbox, fault, "servers --dir servers --json --timeout 1s"), "servers")?;
    if asked.code() != Some(0) {
        ends_properly(&asked, fault)?;
    } else {
        let said = asked.json();
        let one = &said["servers"][0];
        let right = one["socket_message"] == "by-socket" || one["socket_message"].is_null();
        let right = right && (one["shm_message"] == "by-memory" || one["shm_message"].is_null());
        let has_kind = one["kind"] == "host" || !one["error"].is_null();
        ensure(said["total"] == 1 && right && has_kind, || format!("{asked:?}"))?;
    }
    signal(serve.pid(), Signal::TERM);
    let serve = end(serve, "serve")?;
    ensure(!serve.stderr.contains("panicked"), || format!("{serve:?}"))?;
    nothing_left(sandbox, fault, 1)
}

const SCENES: [Scene; 17] = [
    Scene { name: "copy --shm", play: copy_shm },
    Scene { name: "copy --socket", play: copy_socket },
    Scene { name: "send --shm", play: send_shm },
    Scene { name: "send --socket", play: send_socket },
    Scene { name: "recv --shm", play: recv_shm },
    Scene { name: "recv --socket", play: recv_socket },
    Scene { name: "dipc", play: dipc },
    Scene { name: "dipc with a far deadline", play: dipc_far_deadline },
    Scene { name: "dipcrm", play: dipcrm },
    Scene { name: "mail write", play: mail_write },
    Scene { name: "mail read", play: mail_read },
    Scene { name: "serve", play: serve },
    Scene { name: "servers", play: servers },
    Scene { name: "ls", play: names::ls },
    Scene { name: "rm NAME", play: names::rm },
    Scene { name: "rm --dead", play: names::rm_dead },
    Scene { name: "recv without a sender", play: names::recv_alone },
];

#[test]
fn what_the_sweep_has_found() {
    if lacks_strace("calls that once failed badly") {
        return;
    }
    let fail = |call: &str, nth, error| Fault::Fail { call: call.into(), nth, error };
    type Play = fn(&Sandbox, &Fault) -> Verdict;
    let found: [(Play, Fault); 9] = [
        // A server took its directory for replaced, bound a second socket, and did not remove it.
        (dipc, fail("fstat", 40, "EIO")),
        // A list of threads that could not be read counted as two threads.
        (copy_socket, fail("getdents64", 3, "EACCES")),
        (copy_socket, fail("getdents64", 4, "EACCES")),
        (copy_shm, fail("getdents64", 4, "EACCES")),
        // Without a thread to query with, the list panicked.
        (names::ls, fail("clone3", 1, "EAGAIN")),
        (names::ls, fail("mprotect", 8, "ENOMEM")),
        // A name that could not be checked was left without a message, and the command reported success.
        (names::rm_dead, fail("socket", 1, "EMFILE")),
        // Any client could end a server on a kernel before 5.11, or under a filter.
        (dipc_far_deadline, fail("epoll_pwait2", 1, "ENOSYS")),
        (dipc_far_deadline, fail("epoll_pwait2", 1, "EPERM")),
    ];
    for (scene, fault) in found {
        assert_eq!(play(&Scene { name: "found", play: scene }, &fault), Ok(()), "{fault}");
    }
}

#[test]
fn what_missing_calls_have_found() {
    if missing::no_filters() {
        return crate::kit::skip("calls that were once missed badly", "no seccomp filter can be installed");
    }
    type Play = fn(&Sandbox, &Fault) -> Verdict;
    let found: [(Play, &str, libc::c_long); 8] = [
        // A loop spun if its waits failed, and all processes waited for it.
        (copy_shm, "epoll_pwait", libc::SYS_epoll_pwait),
        (copy_socket, "epoll_pwait", libc::SYS_epoll_pwait),
        (send_shm, "epoll_pwait", libc::SYS_epoll_pwait),
        (serve, "ppoll", libc::SYS_ppoll),
        (names::recv_alone, "ppoll", libc::SYS_ppoll),
        // A limit that could not be queried caused a panic.
        (copy_shm, "prlimit64", libc::SYS_prlimit64),
        (quick::doctor, "prlimit64", libc::SYS_prlimit64),
        (copy_socket, "sendfile", libc::SYS_sendfile),
    ];
    for (scene, call, number) in found {
        for answer in missing::ANSWERS {
            let fault = Fault::Missing { call: call.into(), number: number as u32, answer };
            assert_eq!(play(&Scene { name: "found", play: scene }, &fault), Ok(()), "{fault}");
        }
    }
}

#[test]
fn what_can_be_done_in_another_way_is() {
    if missing::no_filters() {
        return crate::kit::skip("calls that have a substitute", "no seccomp filter can be installed");
    }
    let calls = [
        ("sendfile", libc::SYS_sendfile),
        ("lseek", libc::SYS_lseek),
        ("getrandom", libc::SYS_getrandom),
        ("prlimit64", libc::SYS_prlimit64),
    ];
    for (call, number) in calls {
        for answer in missing::ANSWERS {
            let sandbox = Sandbox::new();
            sandbox.file("source", &bytes());
            let fault = Fault::Missing { call: call.into(), number: number as u32, answer };
            for transport in TRANSPORTS {
                run(&mut fault.shell(&sandbox, &format!("copy {transport} -n 2 --verify source")))
                    .silent_success();
                assert_eq!(whole(&sandbox, "received-files/peer-02_source"), Ok(true), "{fault}");
            }
        }
    }
}

#[test]
fn every_call_may_be_missing() {
    if lacks_strace("commands without each of their system calls") {
        return;
    }
    if missing::no_filters() {
        return crate::kit::skip(
            "commands without each of their system calls",
            "no seccomp filter can be installed",
        );
    }
    sweep_all(SCENES.iter().chain(&quick::SCENES), |scene| {
        calls::sweep_missing(scene, crate::kit::effort::asked().unwrap_or(2))
    });
}

#[test]
fn every_call_of_copy_may_kill_or_fail() {
    every_call_may_kill_or_fail(&["copy "]);
}

#[test]
fn every_call_of_send_may_kill_or_fail() {
    every_call_may_kill_or_fail(&["send "]);
}

#[test]
fn every_call_of_recv_may_kill_or_fail() {
    every_call_may_kill_or_fail(&["recv "]);
}

#[test]
fn every_call_of_the_mailbox_commands_may_kill_or_fail() {
    every_call_may_kill_or_fail(&["dipc", "mail "]);
}

#[test]
fn every_call_of_the_other_commands_may_kill_or_fail() {
    every_call_may_kill_or_fail(&["serve", "ls", "rm "]);
}

/// Sweeps the scenes whose names begin so.
#[track_caller]
fn every_call_may_kill_or_fail(begins: &[&str]) {
    if lacks_strace("killing and failing at every system call") {
        return;
    }
    let reach = Reach { nth: 60, most: crate::kit::effort::asked().unwrap_or(10) };
    let scenes = SCENES.iter().filter(|scene| begins.iter().any(|begin| scene.name.starts_with(begin)));
    sweep_all(scenes, |scene| sweep(scene, reach));
}

/// Sweeps scenes, those whose names contain `WHORL_FAULTS_ONLY`, and prints the results.
#[track_caller]
fn sweep_all<'s>(scenes: impl Iterator<Item = &'s Scene>, sweep: impl Fn(&Scene) -> calls::Count) {
    let only = std::env::var("WHORL_FAULTS_ONLY").unwrap_or_default();
    let mut all = calls::Count::default();
    for scene in scenes.filter(|scene| scene.name.contains(&only)) {
        let count = sweep(scene);
        let (kills, failures) = (count.kills, count.failures);
        eprintln!("  {}: {kills} kills, {failures} failures, of {} possible", scene.name, count.possible);
        for wrong in &count.wrong {
            eprintln!("    WRONG: {wrong}");
        }
        all.kills += kills;
        all.failures += failures;
        all.possible += count.possible;
        all.wrong.extend(count.wrong);
    }
    let (kills, failures, wrong) = (all.kills, all.failures, all.wrong.len());
    eprintln!("{kills} kills and {failures} failing calls of {} possible, {wrong} wrong", all.possible);
    assert_eq!(all.wrong, Vec::<String>::new());
}
