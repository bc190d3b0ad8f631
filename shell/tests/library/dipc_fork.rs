//! A program that is attached to mailboxes forks. The child's handles return an error, the parent keeps its seat, and
//! when the parent is killed the child does not count as its owner.

use crate::kit::command::spawn_until_said;
use crate::kit::machine::Lateness;
use crate::kit::mailbox_server::Server;
use crate::kit::{own_test, ran_alone};
use std::path::Path;
use std::time::{Duration, Instant};
use whorl::{MailboxError, Mailboxes};

/// Forks. The child runs `body` and ends with its result, without running anything else of the test's.
fn fork(body: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child calls the library, which takes no lock that another thread could hold, and ends at once.
    match unsafe { libc::fork() } {
        0 => {
            let code = i32::from(!body());
            // SAFETY: ends the child without the test harness's destructors.
            unsafe { libc::_exit(code) }
        }
        pid => pid,
    }
}

#[test]
fn handles_in_a_child_say_that_it_was_forked() {
    if ran_alone(module_path!(), "handles_in_a_child_say_that_it_was_forked") {
        return;
    }
    let server = Server::start(&["2", "4", "0", "4"]);
    let mut mailboxes = Mailboxes::attach(server.control().as_path()).unwrap();
    assert_eq!(mailboxes.write(0, b"before").unwrap(), 1);
    let child = fork(|| {
        let write = mailboxes.write(0, b"child");
        let read = mailboxes.read_with(0, None, |_, _| ());
        let both = matches!((write, read), (Err(MailboxError::Forked), Err(MailboxError::Forked)));
        // SAFETY: not used again in this process, which ends without destructors.
        drop(unsafe { std::ptr::read(&mailboxes) });
        both
    });
    let mut status = 0;
    // SAFETY: `status` is writable; the child is ours.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    // The parent still has its seat, although the child's copy was dropped.
    assert_eq!(mailboxes.write(0, b"after").unwrap(), 2);
    assert_eq!(mailboxes.read(0).unwrap().bytes, b"after");
}

/// Not a test of its own: attaches, forks a child that outlives it, and works without a pause.
#[test]
fn parent_to_be_killed() {
    let Some(control) = std::env::var_os("WHORL_TEST_CONTROL") else { return };
    let mut mailboxes = Mailboxes::attach(Path::new(&control)).unwrap();
    let child = fork(|| {
        std::thread::sleep(Duration::from_secs(3));
        true
    });
    println!("child {child} attached");
    let long = vec![7; 256 << 10];
    loop {
        mailboxes.write(0, &long).unwrap();
    }
}

#[test]
fn a_child_that_lives_on_does_not_keep_its_killed_parents_lock() {
    let server = Server::start(&["1", "256", "0", "64"]);
    let mut survivor = Mailboxes::attach(server.control().as_path()).unwrap();
    let noise = Lateness::measure();
    for _ in 0..20 {
        let mut command = own_test(module_path!(), "parent_to_be_killed");
        let mut parent = spawn_until_said(command.env("WHORL_TEST_CONTROL", server.control()), "attached");
        std::thread::sleep(Duration::from_millis(5));
        parent.kill().unwrap();
        parent.wait().unwrap();
        let before = Instant::now();
        survivor.write(0, b"short").unwrap();
        let waited = before.elapsed();
        assert!(waited < Duration::from_millis(250) + 3 * noise.worst(), "{waited:?}");
    }
}
