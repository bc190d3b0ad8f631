//! A live process is never reported dead, however often it forks and however busy the machine is. A dead process is.
//!
//! `WHORL_FAULTS_LONG=1` queries a million times, on a machine with eight times as much work as processors.

use crate::kit::machine::{Background, Busy};
use crate::kit::*;
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use whorl::internal::os::ofd_lock::ByteLocks;
use whorl::internal::shm::liveness::OWNER;
use whorl::internal::shm::ring::Segment;
use whorl_core::layout::Geometry;

fn queries() -> u64 {
    crate::kit::short_or_long(50_000, 1_000_000)
}

/// Forks all the time: children of this process, which end at once, and programs.
fn forks() -> [Background; 2] {
    let bare = || {
        // SAFETY: the child makes no call but the one that ends it.
        match unsafe { libc::fork() } {
            -1 => return 0,
            // SAFETY: ends the child without running anything of its parent's.
            0 => unsafe { libc::_exit(0) },
            // SAFETY: our own child; its status is not asked for.
            child => unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) },
        };
        1
    };
    let program = || u64::from(Command::new("true").status().is_ok());
    [Background::start(Duration::ZERO, bare), Background::start(Duration::from_millis(1), program)]
}

/// Locks of this process, which forks all the time. Its children inherit the file descriptions and end, and the bytes
/// stay locked.
#[test]
fn a_process_that_forks_all_the_time_is_not_reported_dead() {
    let _alone = crate::alone();
    let (segment, _ring) = Segment::create(Geometry::new(256, 8).unwrap()).unwrap();
    let held: Vec<_> = (0..8).map(|_| segment.byte_locks().unwrap()).collect();
    for (seat, locks) in (0..).zip(&held) {
        assert_eq!(locks.try_lock(seat), Ok(true));
    }
    let asking = segment.byte_locks().unwrap();
    let _busy = Busy::start(8);
    let forks = forks();
    let mut wrong = 0;
    let mut asked = 0u64;
    while asked < queries() || forks[0].done() < 50 {
        let seat = (asked % 8) as u32;
        // Both queries: looking at the byte, and trying to lock it as a joining receiver does.
        let dead =
            if asked.is_multiple_of(2) { !asking.is_held(seat) } else { asking.try_lock(seat) != Ok(false) };
        wrong += u64::from(dead);
        asked += 1;
    }
    eprintln!("{asked} questions during {} forks, {wrong} wrong answers", forks[0].done() + forks[1].done());
    assert_eq!(wrong, 0, "live seats were reported dead");
    drop(forks);
    drop(held);
    assert!((0..8).all(|seat| !asking.is_held(seat)), "and the dead are dead");
}

/// The /proc path of the control object of a sender.
fn control(pid: i32) -> PathBuf {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    let is_it =
        |fd: &PathBuf| fs::read_link(fd).is_ok_and(|at| at.to_string_lossy().contains("whorl-control"));
    descriptors.map(|entry| entry.path()).find(is_it).expect("its descriptor")
}

/// A sender and six receivers on a machine with eight times as much work as processors, two of the receivers stopped
/// again and again. No process is reported dead, and every receiver gets everything. Then one receiver is killed and is
/// reported dead.
#[test]
fn a_busy_machine_causes_no_false_death() {
    let _alone = crate::alone();
    let sandbox = Sandbox::new();
    let mut send = sandbox.start_fed("send x --peers 6 --seats 8 --verify");
    let mut receivers: Vec<_> = (0..6).map(|i| sandbox.start(&format!("recv x out{i}"))).collect();
    sandbox.until_joined("x", 6);
    let object =
        fs::File::options().read(true).write(true).open(control(send.pid())).expect("our own object");
    let asking = ByteLocks::open(&object).expect("a description of our own");
    let in_use: Vec<u32> = (0..8).filter(|seat| asking.is_held(*seat)).chain([OWNER]).collect();
    assert_eq!(in_use.len(), 7, "six seats and the owner: {in_use:?}");

    let _busy = Busy::start(8);
    let stopping: Vec<i32> = receivers[..2].iter().map(|recv| recv.pid()).collect();
    let stops = Background::start(Duration::from_millis(1), move || {
        for pid in &stopping {
            signal(*pid, Signal::STOP);
            std::thread::sleep(Duration::from_millis(2));
            signal(*pid, Signal::CONT);
        }
        2
    });
    let (wrong, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let bytes = noise(200_000, 9);
    let mut asked = 0;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for piece in bytes.chunks(1000) {
                send.stdin().write_all(piece).expect("it reads");
            }
            while !over.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        while asked < queries() {
            for seat in &in_use {
                wrong.fetch_add(u64::from(!asking.is_held(*seat)), Relaxed);
                asked += 1;
            }
        }
        over.store(true, Relaxed);
    });
    eprintln!("{asked} questions and {} stops, {} wrong answers", stops.done(), wrong.load(Relaxed));
    assert_eq!(wrong.load(Relaxed), 0, "live processes were reported dead");
    drop(stops);

    let killed = receivers.pop().expect("six");
    signal(killed.pid(), Signal::KILL);
    until(LIMIT, "the killed one's seat is free", || {
        in_use.iter().filter(|seat| asking.is_held(**seat)).count() == 6
    });
    send.close_stdin();
    let ended = send.end(LIMIT * 2);
    ended.has_code(4);
    let lost: Vec<_> = ended.stderr.lines().filter(|line| line.contains("was lost")).collect();
    assert!(lost.len() == 1 && lost[0].contains(&killed.pid().to_string()), "{ended:?}");
    for (i, recv) in receivers.into_iter().enumerate() {
        recv.end(LIMIT).silent_success();
        assert_holds(&sandbox.at(format!("out{i}")), &bytes);
    }
    drop(killed);
    sandbox.nothing_left();
}

/// H9: a process that gets a dead sender's process id is not taken for the sender.
#[test]
fn a_reused_process_id_does_not_make_a_dead_sender_alive() {
    let _alone = crate::alone();
    const WHY: &str = "there is no pid namespace in which the next process id can be chosen";
    let sandbox = Sandbox::new();
    let script = "
        \"$SHELL_BIN\" send x --peers 9 </dev/null 2>/dev/null & sender=$!
        while ! [ -S run/whorl/x.sock ]; do sleep 0.05; done
        kill -9 $sender
        wait $sender 2>/dev/null
        for attempt in 1 2 3 4 5 6 7 8 9 10; do
            { echo $((sender - 1)) >/proc/sys/kernel/ns_last_pid; } 2>/dev/null || exit 99
            sleep 1000 & [ $! = $sender ] && break
            kill $!
        done
        [ $! = $sender ] || exit 98
        kill -0 $sender || exit 97
        \"$SHELL_BIN\" ls --json || exit 96
        echo again | \"$SHELL_BIN\" send x --timeout 20s & \"$SHELL_BIN\" recv x || exit 95
        exit 0";
    let mut command = sandbox.program("unshare");
    command.args(["-p", "-f", "--mount-proc", "--kill-child", "sh", "-c", script]);
    let ended = start(command.stdin(Stdio::null())).end(LIMIT);
    if ended.code() == Some(99) || ended.code() == Some(1) {
        return skip("a process id that is given out again", WHY);
    }
    ended.has_code(0);
    let (listed, received) = ended.stdout.split_once('\n').expect("two lines");
    let listed: serde_json::Value = serde_json::from_str(listed).expect("an object");
    let channel = &listed["channels"][0];
    assert!(channel["owner"].is_null(), "taken for its owner: {listed}");
    assert_eq!(received, "again\n");
}
