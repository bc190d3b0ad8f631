//! Forks under hard conditions: no descriptor is free, there is no file system, there are very many descriptors, the
//! program has closed some behind the library's back, a signal handler forks.

use crate::kit::{SOON, Sandbox, skip, until};
use crate::victim::{Grandchild, Victim, lives, victim};
use rustix::fd::{AsFd, AsRawFd, IntoRawFd};
use std::fs::File;
use std::os::unix::fs::chroot;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use whorl::internal::os::close_on_fork::CloseOnForkFd;
use whorl::internal::os::limits::raise_descriptor_limit;
use whorl::internal::registry::{Client, Listener, RuntimeDir};
use whorl::internal::shm::ring::Segment;
use whorl_core::layout::Geometry;

/// More descriptors than a fixed table would hold.
const MANY: u32 = 5000;

/// What the victims have open.
struct Opened {
    _listener: Listener,
    client: Client,
    _locks: Vec<whorl::internal::os::ofd_lock::ByteLocks>,
}

fn open(name: &str, locks: u32) -> Opened {
    let name = name.parse().expect("a name");
    let directory = || RuntimeDir::open().expect("a directory");
    let (segment, _ring) = Segment::create(Geometry::new(256, 8).expect("a shape")).expect("memory");
    let lock = |number: u32| {
        let locks = segment.byte_locks().expect("a description");
        assert_eq!(locks.try_lock(number), Ok(true));
        locks
    };
    Opened {
        _listener: Listener::bind(directory(), &name).expect("a name"),
        client: Client::connect(&directory(), &name).expect("a client"),
        _locks: (0..locks).map(lock).collect(),
    }
}

fn limit(descriptors: u64) {
    let limit = libc::rlimit { rlim_cur: descriptors, rlim_max: descriptors };
    // SAFETY: `limit` lives through the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

static CHILD: AtomicI32 = AtomicI32::new(0);

extern "C" fn fork_in_handler(_signal: i32) {
    // SAFETY: the child only sleeps.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: no memory is involved.
            unsafe { libc::pause() };
        },
        child => CHILD.store(child, Ordering::Relaxed),
    }
}

/// Not a test of its own: brings itself into the state that the tester asks for.
#[test]
fn prepared() {
    let Ok(scene) = std::env::var("WHORL_TEST_SCENE") else { return };
    victim(|say| {
        let mut number = 0;
        let opened = open("x", if scene == "many" { MANY } else { 2 });
        match &*scene {
            "full" => {
                let highest = std::fs::read_dir("/proc/self/fd").expect("it").count() as u64;
                limit(highest + 4);
                while rustix::io::dup(std::io::stdin()).map(IntoRawFd::into_raw_fd).is_ok() {}
            }
            "lowered" => limit(4),
            "rootless" => {
                let empty = Path::new(&std::env::var_os("XDG_RUNTIME_DIR").expect("set")).join("empty");
                std::fs::create_dir(&empty).expect("a directory");
                chroot(empty).expect("we are root");
            }
            "many" => {}
            "reused" => {
                let file =
                    File::create(Path::new(&std::env::var_os("XDG_RUNTIME_DIR").expect("set")).join("mine"))
                        .expect("a file");
                number = opened.client.as_fd().as_raw_fd();
                // SAFETY: the client is never used or dropped again.
                assert_eq!(unsafe { libc::dup3(file.as_raw_fd(), number, libc::O_CLOEXEC) }, number);
            }
            "handler" => {
                // SAFETY: the handler forks, and its child only sleeps.
                unsafe { libc::signal(libc::SIGUSR1, fork_in_handler as extern "C" fn(i32) as usize) };
                let interrupted = CloseOnForkFd::open(|| {
                    // SAFETY: a plain system call: the signal comes while the library opens something.
                    unsafe { libc::raise(libc::SIGUSR1) };
                    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)
                });
                drop(interrupted);
                number = CHILD.load(Ordering::Relaxed);
            }
            "child" => {
                // SAFETY: the child uses the library, as the child of a program with threads, and is then killed.
                match unsafe { libc::fork() } {
                    0 => {
                        let _own = open("y", 2);
                        // SAFETY: the child only sleeps.
                        match unsafe { libc::fork() } {
                            0 => {}
                            grandchild => say("grandchild", grandchild),
                        }
                        hold()
                    }
                    child => number = child,
                }
            }
            other => panic!("no scene {other}"),
        }
        say("opened", number);
        hold()
    });
}

fn hold() -> ! {
    loop {
        std::thread::park();
    }
}

/// A victim in a state, and the number that it prints there.
fn victim_in(scene: &str, sandbox: &Sandbox) -> (Victim, i32) {
    let run = sandbox.at("run");
    let variables = [("WHORL_TEST_SCENE", scene.as_ref()), ("XDG_RUNTIME_DIR", run.as_os_str())];
    let mut victim = Victim::start("hard::prepared", &variables);
    victim.run_on();
    let number = victim.wait_for("opened");
    assert_ne!(lives(victim.pid()), Vec::<String>::new(), "it holds something");
    (victim, number)
}

#[track_caller]
fn holds_nothing(child: i32) {
    until(SOON, "the child holds nothing", || {
        let found = lives(child);
        if !found.is_empty() {
            eprintln!("{found:?}");
        }
        found.is_empty()
    });
}

fn forked_in(scene: &str) -> (Sandbox, Victim, Grandchild, i32) {
    let sandbox = Sandbox::new();
    let (mut victim, number) = victim_in(scene, &sandbox);
    victim.fork();
    let child = Grandchild(victim.wait_for("forked"));
    holds_nothing(child.0);
    (sandbox, victim, child, number)
}

#[test]
fn without_a_free_descriptor_a_child_gets_nothing() {
    forked_in("full");
}

#[test]
fn below_a_lowered_limit_a_child_gets_nothing() {
    forked_in("lowered");
}

#[test]
fn without_a_file_system_a_child_gets_nothing() {
    if !rustix::process::geteuid().is_root() {
        return skip("a fork without a file system", "changing the root needs privileges");
    }
    forked_in("rootless");
}

#[test]
fn of_very_many_descriptors_a_child_gets_none() {
    if raise_descriptor_limit() < u64::from(MANY) + 100 {
        return skip("a fork with very many descriptors", "the limit of descriptors is too low");
    }
    forked_in("many");
}

#[test]
fn a_child_keeps_what_has_the_number_of_something_closed() {
    let (_home, _victim, child, number) = forked_in("reused");
    let there = std::fs::read_link(format!("/proc/{}/fd/{number}", child.0)).expect("it is open");
    assert!(there.ends_with("mine"), "{there:?}");
}

#[test]
fn a_signal_handler_may_fork_while_something_is_opened() {
    let sandbox = Sandbox::new();
    let (_victim, child) = victim_in("handler", &sandbox);
    holds_nothing(Grandchild(child).0);
}

#[test]
fn a_child_has_its_own_and_its_child_does_not() {
    let sandbox = Sandbox::new();
    let (mut victim, child) = victim_in("child", &sandbox);
    let grandchild = Grandchild(victim.wait_for("grandchild"));
    let child = Grandchild(child);
    holds_nothing(grandchild.0);
    assert_eq!(lives(child.0).len(), 2 + 2, "its own listener, client and locks: {:?}", lives(child.0));
}
