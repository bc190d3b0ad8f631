//! Programs at a server's control socket, and programs that were attached through it and died: neither delay other
//! programs.

use crate::kit::mailbox_server::{Server, expect};
use crate::kit::{LIMIT, lacks_strace, until};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::process::{Command, Stdio};
use whorl::Mailboxes;
use whorl::error::Refusal;
use whorl::internal::registry::protocol::{ControlMessage, RECORD, Record};

fn call(server: &Server) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(server.control()).unwrap()).unwrap();
    let patience = Some(std::time::Duration::from_secs(30));
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, patience).unwrap();
    socket
}

fn answer(socket: &OwnedFd) -> ControlMessage {
    let mut bytes = [0; RECORD];
    let (count, _) = rustix::net::recv(socket, &mut bytes[..], RecvFlags::empty()).unwrap();
    Record::decode(&bytes[..count]).unwrap().message
}

#[test]
fn however_many_callers_ask_nothing_one_that_asks_is_answered() {
    let server = Server::start(&["2", "1", "0", "1"]);
    let mut attached = Mailboxes::attach(server.control().as_path()).unwrap();
    let silent: Vec<OwnedFd> = (0..400).map(|_| call(&server)).collect();
    // The oldest makes room, and gets the reason.
    assert_eq!(answer(&silent[0]), ControlMessage::Refused(Refusal::Silent));
    let mut other = Mailboxes::attach(server.control().as_path()).unwrap();
    assert_eq!(other.write(0, b"x").unwrap(), 1);
    // Attached programs are not silent callers.
    assert_eq!(attached.write(0, b"y").unwrap(), 2);
    assert!(server.remove(&[]).status.success());
}

/// A reclamation takes a minute here, because each lock that it tries takes a part of a second.
#[test]
fn clients_are_accepted_while_dead_processes_are_reclaimed() {
    if lacks_strace("a slow burial") {
        return;
    }
    let server = Server::start(&["2", "1", "0", "1", "--workers", "1"]);
    let mut attached: Vec<Mailboxes> =
        (0..100).map(|_| Mailboxes::attach(server.control().as_path()).unwrap()).collect();
    let pid = server.pid();
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fcntl", "-e", "inject=fcntl:delay_enter=500ms"])
        .args(["-p", &pid.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until(LIMIT, "every thread is traced", || {
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(|thread| {
            let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        })
    });
    // One leaves, and the server checks all the others.
    drop(attached.pop());
    for _ in 0..5 {
        expect(&mut server.connect(), "r 0\n", "data 0 0 0\n\n");
    }
    let strace_pid = rustix::process::Pid::from_child(&strace);
    rustix::process::kill_process(strace_pid, rustix::process::Signal::TERM).unwrap();
    strace.wait().unwrap();
}
