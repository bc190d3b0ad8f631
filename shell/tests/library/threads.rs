//! The library's threads take no signals, because signals are for the program.

use crate::kit::{Sandbox, ran_alone};
use std::fs;
use std::path::Path;
use std::time::Duration;
use whorl::internal::mailbox_server::reply::Limits;
use whorl::internal::mailbox_server::server::{Options, Server as Mailboxes};
use whorl::{Sender, Server};

/// The signals that a thread must take, because it caused them itself or because the C library needs them.
const TAKEN: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// The signals that a thread of this process blocks, one bit each; `None` if it has ended.
fn blocked(thread: &Path) -> Option<u64> {
    let status = fs::read_to_string(thread.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn threads() -> Vec<(String, u64)> {
    let tasks = fs::read_dir("/proc/self/task").expect("it").flatten();
    let named = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((name.trim().to_owned(), blocked(&task.path())?))
    };
    tasks.filter_map(named).collect()
}

/// A program that reads its signals from a signalfd blocks them in its own threads. The kernel gives a signal to any
/// thread that does not block it, and its default action then ends the program.
#[test]
fn threads_of_the_library_block_every_signal_but_the_synchronous_ones() {
    if ran_alone(module_path!(), "threads_of_the_library_block_every_signal_but_the_synchronous_ones") {
        return;
    }
    let sandbox = Sandbox::new();
    // SAFETY: this test is alone in its process, and the process has no other thread yet.
    unsafe { std::env::set_var("XDG_RUNTIME_DIR", sandbox.runtime()) };
    let directory = sandbox.runtime().join("whorl");
    let sender = Sender::options().runtime_dir(&directory).create(&"x".parse().expect("a name"));
    let options = Server::options(sandbox.at("servers")).runtime_dir(&directory);
    let announced = options.start(&"y".parse().expect("a name")).expect("a server");
    let options = Options {
        limits: Limits { boxes: 1, capacity: 16, packet: 16 },
        address: None,
        port: 0,
        unix: None,
        token: None,
        any_user: false,
        idle: None,
        max_connections: Some(4),
        workers: Some(2),
    };
    let server = Mailboxes::open(options, None).expect("a mailbox server");
    let port = server.address().port();
    let serving = std::thread::spawn(move || server.start()?.serve());
    let ours =
        |(name, _): &(String, u64)| ["control", "counter"].contains(&&**name) || name.starts_with("dipc ");
    // Two control threads, a counter, two workers and a waker. A thread gets its name a moment after it starts.
    while threads().iter().filter(|thread| ours(thread)).count() < 6 {
        std::thread::sleep(Duration::from_millis(1));
    }
    for (name, blocked) in threads().into_iter().filter(ours) {
        for signal in 1..=64 {
            let is_blocked = blocked >> (signal - 1) & 1 == 1;
            // No thread can block these two, and the C library keeps the first real-time signals for itself.
            let is_ours = ![libc::SIGKILL, libc::SIGSTOP].contains(&signal) && !(32..=34).contains(&signal);
            if is_ours {
                assert_eq!(is_blocked, !TAKEN.contains(&signal), "{name}: signal {signal}");
            }
        }
    }
    whorl::internal::mailbox_server::remove::remove(port, false).expect("it ends");
    serving.join().expect("a thread").expect("a good end");
    drop((sender, announced));
}
