//! H4: names that lead to another object between a look and a use, without any lock. Objects outside are not touched,
//! every call ends with success or one line, and the name of a live process stays.
//!
//! About a second of each by default; 100,000 swaps of each with `WHORL_FAULTS_LONG=1`.

use crate::kit::{LIMIT, Sandbox, assert_holds, noise, run, signal};
use crate::race::{Outside, PLANTS, Plant, outcome, race};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use whorl::internal::discovery::Information;
use whorl::internal::registry::{Client, Listener, RuntimeDir, WaitFile};
use whorl::internal::registry::{State, list, remove_dead, remove_name};
use whorl::{Name, Sender, Server};

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().expect("the name of a living one").ino()
}

#[test]
fn what_a_rendezvous_leads_to_may_change_at_any_moment() {
    let sandbox = Sandbox::new();
    let outside = Arc::new(Outside::new(&sandbox.at("")));
    let parent = sandbox.at("run");
    let open = move || RuntimeDir::open_in(&parent, "whorl").expect("a runtime directory");
    let small = Sender::options().ring(2048).seats(2);
    let _living = small.runtime_dir(open().path()).create(&name("y")).expect("a free name");
    let directory_too = open();
    let waiting = WaitFile::create(&directory_too, &name("z")).expect("a wait file");
    let pid = std::process::id();
    let (socket, wait) = (sandbox.socket("y"), sandbox.at(format!("run/whorl/z.{pid}.wait")));
    let before = (inode(&socket), inode(&wait));
    let files = ["x.sock".to_owned(), "x.1.wait".to_owned(), format!("x.{pid}.wait")];
    let names = files.map(|file| sandbox.at("run/whorl").join(file));
    let directory = open();
    let call = move |number: u64| match number % 7 {
        0 => outcome("bind", Listener::bind(open(), &name("x"))),
        1 => outcome("connect", Client::connect(&directory, &name("x"))),
        2 => outcome(
            "wait",
            WaitFile::create(&directory, &name("x")).map_err(whorl::internal::os::error::reason),
        ),
        3 => outcome("list", list(&directory).map_err(whorl::internal::os::error::reason)),
        4 => outcome("remove", remove_name(&directory, &name("x"), false)),
        5 => outcome("force", remove_name(&directory, &name("x"), true)),
        _ => {
            let (_, failed) = remove_dead(&directory).expect("a directory that can be read");
            outcome("dead", failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error)))
        }
    };
    race("rendezvous", &outside, &names, &PLANTS, call);
    assert_eq!((inode(&socket), inode(&wait)), before, "a living one's name was taken away");
    assert!(!waiting.is_removed());
    Client::connect(&directory_too, &name("y")).expect("it can still be reached");
    let listed = list(&directory_too).expect("a directory that can be read");
    let states: Vec<_> = listed.iter().map(|found| (found.name.as_str(), found.state)).collect();
    assert_eq!(states, [("y", State::Waiting), ("z", State::Waiting)]);
}

#[test]
fn what_the_runtime_directory_is_may_change_at_any_moment() {
    let sandbox = Sandbox::new();
    let outside = Arc::new(Outside::new(&sandbox.at("")));
    let parent = sandbox.at("run");
    let names = [parent.join("whorl")];
    // Mostly what can come between making a directory and setting its mode.
    let plants = PLANTS.into_iter().chain([Plant::Nothing; 8]).chain([Plant::LinkToDirectory; 8]);
    race("runtime directory", &outside, &names, &plants.collect::<Vec<_>>(), move |_| {
        outcome("open", RuntimeDir::open_in(&parent, "whorl"))
    });
}

#[test]
fn what_an_information_file_is_may_change_at_any_moment() {
    let sandbox = Sandbox::new();
    let outside = Arc::new(Outside::new(&sandbox.at("")));
    let servers = sandbox.at("servers");
    fs::create_dir(&servers).expect("a directory");
    let parent = sandbox.at("run");
    let options = Server::options(&servers).runtime_dir(parent.join("whorl"));
    let start = move |text: &str| options.start(&name(text));
    let _living = start("y").expect("a free name");
    let (file, other) = (servers.join("x.server"), servers.join("y.server"));
    let before = inode(&other);
    let names = [file.clone()];
    race("information", &outside, &names, &PLANTS, move |number| match number % 4 {
        0 => outcome("announce", start("x")),
        _ => outcome("read", Information::read(&file)),
    });
    assert_eq!(inode(&other), before, "a living one's file was taken away");
    Information::read(&other).expect("it still tells where its server is");
}

#[test]
fn what_the_output_of_a_copy_is_may_change_at_any_moment() {
    let sandbox = Arc::new(Sandbox::new());
    let outside = Arc::new(Outside::new(&sandbox.at("")));
    let bytes = noise(1000, 1);
    sandbox.file("source", &bytes);
    fs::create_dir(sandbox.at("received-files")).expect("a directory");
    let names: Vec<_> = (1..=8).map(|peer| sandbox.received(peer, "source")).collect();
    let (here, drain) = (sandbox.clone(), outside.clone());
    race("copy", &outside, &names, &PLANTS, move |number| {
        let more = if number.is_multiple_of(3) { " --no-clobber" } else { "" };
        let ended = run(&mut here.words(&format!("copy -q -n 8{more} source")));
        drain.drain();
        check_end(ended)
    });
    assert_eq!(sandbox.parts(), Vec::<std::path::PathBuf>::new());
    run(&mut sandbox.words("copy -q -n 8 source")).silent_success();
    names.iter().for_each(|name| assert_holds(name, &bytes));
}

#[test]
fn what_the_output_of_a_receiver_is_may_change_at_any_moment() {
    let sandbox = Arc::new(Sandbox::new());
    let outside = Arc::new(Outside::new(&sandbox.at("")));
    let bytes = noise(1000, 1);
    sandbox.file("source", &bytes);
    let names = [sandbox.at("out")];
    let plants: Vec<_> = PLANTS.into_iter().chain([Plant::Fifo; 4]).collect(); // the only one that is written in place
    let (here, drain) = (sandbox.clone(), outside.clone());
    race("recv", &outside, &names, &plants, move |_| {
        let recv = here.start("recv x out");
        let send = here.start("send x source --peers 1");
        let ended = recv.end(LIMIT);
        if ended.code() != Some(0) {
            signal(send.pid(), Signal::KILL); // it may wait for a process that is gone
        }
        send.end(LIMIT);
        drain.drain();
        check_end(ended)
    });
    run(&mut sandbox.script("shell recv x out & shell send x source --peers 1 && wait")).silent_success();
    assert_holds(&names[0], &bytes);
}

/// Checks a run's end: success without output, or failure with lines and without a signal.
fn check_end(ended: crate::kit::Ended) -> String {
    let code = ended.code().unwrap_or_else(|| panic!("no way to end: {ended:?}"));
    assert!([0, 1, 4].contains(&code), "{ended:?}"); // 4: a peer failed
    assert_eq!(ended.stderr.is_empty(), code == 0, "{ended:?}");
    for line in ended.stderr.lines() {
        assert!(line.starts_with("shell: ") && !line.contains("panicked"), "{ended:?}");
    }
    format!("exit {code}")
}
