//! Names that another program removes while their owner lives. Programs that clean up leave them alone, and an owner
//! puts back a name that was removed.

use crate::kit::mailbox_server::{Server, port_of};
use crate::kit::{
    LIMIT, Running, SOON, Sandbox, TRANSPORTS, all_at_once, ran_alone, run, signal, skip, start, until,
};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The inode that has a name, if any.
fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|file| file.ino())
}

/// Removes a name, and waits until it is back.
#[track_caller]
fn removed_and_back(path: &Path) {
    fs::remove_file(path).unwrap();
    until(SOON, "the name is back", || inode(path).is_some());
}

/// Removes the runtime directory in one step, because its owners may put their names back while it is emptied.
fn remove_directory(sandbox: &Sandbox) {
    let gone = sandbox.at("run/gone");
    fs::rename(sandbox.at("run/whorl"), &gone).unwrap();
    let _ = fs::remove_dir_all(&gone);
    until(SOON, "it is empty", || fs::remove_dir_all(&gone).is_ok() || !gone.exists());
}

#[test]
fn a_senders_name_comes_back_and_receivers_join() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut sender = sandbox.start_fed(&format!("send x {transport} --peers 2"));
        sandbox.until_owned("x");
        let first = sandbox.start("recv x first");
        sandbox.until_joined("x", 1);
        removed_and_back(&sandbox.socket("x"));
        let second = sandbox.start("recv x second");
        sender.stdin().write_all(b"whole").unwrap();
        sender.close_stdin();
        for process in [sender, first, second] {
            process.end(SOON).silent_success();
        }
        for file in ["first", "second"] {
            assert_eq!(fs::read(sandbox.at(file)).unwrap(), b"whole");
        }
        sandbox.nothing_left();
    }
}

#[test]
fn a_removed_directory_comes_back_with_its_names() {
    let sandbox = Sandbox::new();
    let mut sender = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    let mut recv = sandbox.words("recv y");
    let waiting = start(recv.stdout(Stdio::null()));
    sandbox.until_awaited("y", 1);
    remove_directory(&sandbox);
    sandbox.until_owned("x");
    sandbox.until_awaited("y", 1);
    sender.close_stdin();
    run(&mut sandbox.words("recv x")).silent_success();
    sender.end(SOON).silent_success();
    run(&mut sandbox.shell(["send", "y", "/dev/null"])).silent_success();
    waiting.end(SOON).silent_success();
    sandbox.nothing_left();
}

#[test]
fn one_that_waits_is_seen_again_and_ends_for_rm_alone() {
    let sandbox = Sandbox::new();
    let waiting = sandbox.start("recv x");
    sandbox.until_awaited("x", 1);
    removed_and_back(&sandbox.at(format!("run/whorl/x.{}.wait", waiting.pid())));
    sandbox.until_awaited("x", 1);
    run(&mut sandbox.words("rm x")).silent_success();
    waiting.end(SOON).has_code(1).one_line(&["recv: x", "asked to end by 'shell rm'"]);
    sandbox.nothing_left();
}

#[test]
fn a_mailbox_server_is_found_again() {
    all_at_once([&["sock"][..], &["info"], &["info", "sock"], &[]], |endings| {
        let server = Server::start(&["1", "1", "0", "1"]);
        let sandbox = &server.sandbox;
        let at = |ending: &str| sandbox.at(format!("run/whorl/dipc-{}.{ending}", server.port));
        if endings.is_empty() {
            remove_directory(sandbox);
        }
        endings.iter().for_each(|ending| fs::remove_file(at(ending)).unwrap());
        until(LIMIT, "the files are back", || ["info", "sock"].iter().all(|file| inode(&at(file)).is_some()));
        // With the file, the server makes a new socket, so the socket is missing for a moment.
        let mut mailboxes = None;
        until(LIMIT, "a program attaches", || {
            mailboxes = whorl::internal::shm::mailboxes::Mailboxes::attach(at("sock").as_path()).ok();
            mailboxes.is_some()
        });
        mailboxes.unwrap().write(0, b"text").unwrap();
        assert_eq!(sandbox.ls()[0]["state"], "live", "{endings:?}");
        server.remove(&[]).silent_success();
        assert_eq!(sandbox.left(), Vec::<String>::new());
    });
}

#[test]
fn an_announced_server_is_announced_again() {
    let sandbox = Sandbox::new();
    let server = sandbox.start("serve greeter --dir servers");
    let file = sandbox.at("servers/greeter.server");
    until(SOON, "it is announced", || file.exists());
    let before = fs::read(&file).unwrap();
    removed_and_back(&file);
    assert_eq!(fs::read(&file).unwrap(), before);
    signal(server.pid(), Signal::TERM);
    server.end(SOON);
    assert!(!file.exists());
    sandbox.nothing_left();
}

#[test]
fn a_program_that_moves_to_another_root_keeps_its_name() {
    if ran_alone(module_path!(), "a_program_that_moves_to_another_root_keeps_its_name") {
        return;
    }
    let sandbox = Sandbox::new();
    // In this namespace the same path leads to another directory.
    let below = sandbox.at("run").strip_prefix("/").unwrap().to_owned();
    fs::create_dir_all(sandbox.at("root").join(below)).unwrap();
    fs::create_dir(sandbox.at("root/proc")).unwrap();
    let (root, run) = (sandbox.at("root"), sandbox.at("run"));
    let there = std::ffi::CString::new(root.join("proc").into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: the child calls the library, which takes no lock that another thread could hold, and never returns.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let (none, private) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
        // SAFETY: a plain system call.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
        // SAFETY: the paths live through the call; the kernel ignores the other arguments.
        let alone = unshared && unsafe { libc::mount(none, c"/".as_ptr(), none, private, none.cast()) } == 0;
        // SAFETY: as above.
        let can = alone
            && unsafe { libc::mount(c"/proc".as_ptr(), there.as_ptr(), none, libc::MS_BIND, none.cast()) }
                == 0;
        let directory = whorl::internal::registry::RuntimeDir::open_in(&run, "whorl").unwrap();
        let _sender = whorl::Sender::options().runtime_dir(directory.path()).create(&"x".parse().unwrap());
        if !can || std::os::unix::fs::chroot(&root).is_err() {
            // SAFETY: ends the child without the test harness's destructors.
            unsafe { libc::_exit(77) };
        }
        fs::write("/moved", "").unwrap();
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1)); // until it is killed
        }
    }
    let mut status = 0;
    until(SOON, "the program has moved, or cannot", || {
        // SAFETY: `status` is writable; the child is ours.
        root.join("moved").exists()
            || unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child
    });
    if status != 0 {
        return skip("a_program_that_moves_to_another_root_keeps_its_name", "only root may change its root");
    }
    let before = inode(&sandbox.socket("x"));
    std::thread::sleep(std::time::Duration::from_millis(2500)); // silence is the assertion
    let after = (inode(&sandbox.socket("x")), sandbox.ls()[0]["state"].clone());
    signal(child, Signal::KILL);
    // SAFETY: `status` is writable; the child is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(after, (before, "waiting".into()));
}

#[test]
fn an_owner_that_lost_its_name_by_force_ends_when_it_wakes() {
    let sandbox = Sandbox::new();
    let sender = sandbox.start_fed("send x");
    until(SOON, "it answers", || sandbox.ls().first().is_some_and(|found| found["state"] == "waiting"));
    signal(sender.pid(), Signal::STOP);
    run(&mut sandbox.words("rm --force x")).silent_success();
    signal(sender.pid(), Signal::CONT);
    sender.end(SOON).has_code(1).one_line(&["asked to end by 'shell rm'"]);
    sandbox.nothing_left();
}

/// Everything that has a name in the runtime directory of a user without `XDG_RUNTIME_DIR`.
#[test]
fn programs_that_clean_up_leave_live_names_alone() {
    let test = "programs_that_clean_up_leave_live_names_alone";
    let sandbox = Sandbox::new();
    let tmp = sandbox.at("tmp");
    fs::DirBuilder::new().mode(0o700).create(&tmp).unwrap();
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).unwrap();
    let shell = |words: &str| -> Command {
        let mut command = sandbox.words(words);
        command.env_remove("XDG_RUNTIME_DIR").env("TMPDIR", &tmp);
        command
    };
    let names = tmp.join(format!("whorl-{}", rustix::process::geteuid().as_raw()));
    let mut living: Vec<Running> =
        vec![start(shell("send x").stdin(Stdio::piped())), start(&mut shell("recv y"))];
    let started = run(&mut shell("dipc 1 1 0 1"));
    let port = port_of(&started.silent_success().stdout).to_string();
    living.push(start(&mut shell(&format!("serve z --dir {}", tmp.display()))));
    let wait = format!("y.{}.wait", living[1].pid());
    let mine = [
        "x.sock",
        "z.sock",
        &wait,
        &format!("dipc-{port}.info"),
        &format!("dipc-{port}.sock"),
        &format!("dipc-{port}.log"),
    ];
    let files: Vec<PathBuf> =
        mine.iter().map(|name| names.join(name)).chain([tmp.join("z.server")]).collect();
    until(SOON, "everything is there", || files.iter().all(|file| inode(file).is_some()));
    // The kernel reports the path of a live socket as it was bound.
    let bound = fs::read_to_string("/proc/net/unix").unwrap();
    for socket in files.iter().filter(|file| file.extension() == Some(OsStr::new("sock"))) {
        assert!(bound.lines().any(|line| line.ends_with(&format!(" {}", socket.display()))), "{socket:?}");
    }
    let before: Vec<_> = files.iter().map(|file| inode(file)).collect();
    let aged = Command::new("find")
        .arg(&tmp)
        .args(["-exec", "touch", "-h", "-d", "11 days ago", "{}", "+"])
        .status();
    let rule = sandbox.at("rule.conf");
    fs::write(&rule, format!("q {} 1777 - - am:10d\n", tmp.display())).unwrap();
    let plain = tmp.join("plain");
    fs::write(&plain, "").unwrap();
    let _ = Command::new("touch").args(["-d", "11 days ago"]).arg(&plain).status();
    let cleaned = Command::new("systemd-tmpfiles").arg("--clean").arg(&rule).output();
    let works = aged.is_ok_and(|aged| aged.success()) && cleaned.is_ok() && !plain.exists();
    if works {
        let after: Vec<_> = files.iter().map(|file| inode(file)).collect();
        assert_eq!(after, before, "{files:?}");
    } else {
        skip(test, "there is no systemd-tmpfiles that can be used");
    }
    run(&mut shell(&format!("dipcrm {port}"))).silent_success();
    for process in &living {
        signal(process.pid(), Signal::TERM);
    }
    living.into_iter().for_each(|process| _ = process.end(SOON));
    assert_eq!(fs::read_dir(&names).unwrap().count(), 0);
}
