//! A mailbox server's life: how it starts, what keeps it running, and how it ends.

use crate::kit::mailbox_server::{Server, converse, expect, port_of, read_line, rest, text};
use crate::kit::{LIMIT, SHELL, Sandbox, is_alive, proc_status, run, signal, until};
use rustix::process::Signal;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn going_down_lets_requests_finish_and_says_goodbye() {
    let server = Server::start(&["2", "1", "0", "1"]);
    let mut idle = server.connect();
    let mut waiting = server.connect();
    let mut half = server.connect();
    let mut staged = server.connect();
    expect(&mut idle, "r 0\n", "data 0 0 0\n\n");
    waiting.write_all(b"r 0 0\n").unwrap();
    half.write_all(b"w 0 5\nhe").unwrap();
    expect(&mut staged, "w 1 2+\nhi\n", "more 1 2\n");
    std::thread::sleep(Duration::from_millis(50));
    let stopping = server.sandbox.start(&format!("dipcrm {}", server.port));
    assert_eq!(rest(idle), "bye stop\n");
    assert_eq!(rest(waiting), "bye stop\n");
    half.write_all(b"llo\n").unwrap();
    assert_eq!(rest(half), "ok 0 1\nbye stop\n");
    // A new client gets this line at once. A client in the middle of a request is cut off.
    assert_eq!(rest(server.connect()), "bye stop\n");
    assert_eq!(rest(staged), "bye stop\n");
    let output = stopping.end(LIMIT);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(server.sandbox.left(), Vec::<String>::new());
    assert!(TcpStream::connect(("127.0.0.1", server.port)).is_err());
    let again = server.remove(&[]);
    assert_eq!(again.status.code(), Some(3), "{again:?}");
}

#[test]
fn the_daemon_has_left_its_terminal_directory_and_parent() {
    let server = Server::start(&["2", "1", "0", "1"]);
    let proc = |what: &str| std::fs::read_link(format!("/proc/{}/{what}", server.pid())).unwrap();
    assert_eq!(proc("cwd"), std::path::Path::new("/"));
    assert_eq!(proc("fd/0"), std::path::Path::new("/dev/null"));
    assert_eq!(proc("fd/1"), std::path::Path::new("/dev/null"));
    assert!(proc("fd/2").starts_with(server.sandbox.root()), "the log");
    assert_eq!(proc_status(server.pid(), "Umask").as_deref(), Some("0077"));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<i32> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .take(4)
        .map(|f| f.parse().unwrap())
        .collect();
    let [parent, _group, session, terminal] = fields[..] else { panic!("{stat}") };
    assert_ne!(parent, std::process::id() as i32);
    assert!(
        session != server.pid() && terminal == 0,
        "of a session that it does not lead, without a terminal"
    );
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let sandbox = Sandbox::new();
    let lines = [
        "0 1 0 1",
        "-1 1 0 1",
        "x 1 0 1",
        "1 0 0 1",
        "1 1 65536 1",
        "1 1 -1 1",
        "1 1 x 1",
        "1 1 0 0",
        "1 1 0",
        "1 1 0 1 1",
        "1.5 1 0 1",
        "+1 1 0 1",
        "1e3 1 0 1",
        "99999999999999999999 1 0 1",
        "1 18014398509481984 0 1",
        "4294967296 4294967296 0 1",
        "1048576 2097152 0 1",
        "2000000 1 0 1",
        "1 1 0 1 --idle 0",
        "1 1 0 1 --idle soon",
        "1 1 0 1 --workers 0",
        "1 1 0 1 --max-connections 0",
        "1 1 0 1 --max-connections 1000000",
        "1 1 0 1 --bind 0.0.0.0",
        "1 1 0 1 --bind ::",
        "1 1 0 1 --bind nowhere",
        "1 1 0 1 --token-file /nonexistent",
        "1 1 0 1 --token-file /etc/passwd",
    ];
    for line in lines {
        let args: Vec<&str> = ["dipc"].into_iter().chain(line.split(' ')).collect();
        let output = sandbox.run(&args);
        let said = output.stderr;
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 3), "{line}: {said}");
    }
    for line in ["", "0", "x", "65536", "-1", "9000 9001"] {
        let args: Vec<&str> =
            ["dipcrm"].into_iter().chain(line.split(' ').filter(|f| !f.is_empty())).collect();
        assert_eq!(sandbox.run(&args).status.code(), Some(2), "{line}");
    }
    assert_eq!(sandbox.run(["dipcrm", "9"]).status.code(), Some(3));
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

#[test]
fn a_port_in_use_is_named() {
    let server = Server::start(&["1", "1", "0", "1"]);
    let port = server.port.to_string();
    for sandbox in [&server.sandbox, &Sandbox::new()] {
        let output = sandbox.run(["dipc", "1", "1", &port, "1"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = &output.stderr;
        assert!(said.contains(&port) && said.contains("in use") && said.lines().count() == 1, "{said}");
    }
    // At another address the port is free, but the name is taken.
    let output = server.sandbox.run(["dipc", "1", "1", &port, "1", "--bind", "127.0.0.2"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("another mailbox server owned by you"));
}

#[test]
fn after_a_crash_everything_is_cleared_away() {
    let server = Server::start(&["1", "1", "0", "1"]);
    let port = server.port.to_string();
    signal(server.pid(), Signal::KILL);
    until(LIMIT, "it is dead", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
    assert!(!server.sandbox.left().is_empty());
    let output = server.remove(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(server.remove(&[]).status.code(), Some(3));
    // Or it is replaced.
    let output = server.sandbox.run(["dipc", "1", "1", &port, "1"]);
    assert!(output.status.success(), "{output:?}");
    let stale = server.pid();
    signal(stale, Signal::KILL);
    until(LIMIT, "it is dead", || !std::path::Path::new(&format!("/proc/{stale}")).exists());
    let output = server.sandbox.run(["dipc", "1", "1", &port, "1"]);
    assert!(output.status.success(), "{output:?}");
    expect(&mut server.connect(), "r 0\n", "data 0 0 0\n\n");
}

/// The kernel refuses a connection to a regular file as it does to a socket without a listener.
#[test]
fn a_file_that_is_no_socket_keeps_its_place() {
    let sandbox = Sandbox::new();
    let (file, link) = (sandbox.at("file"), sandbox.at("link"));
    std::fs::write(&file, "text").unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    for path in [&file, &link] {
        let output = sandbox.run(["dipc", "1", "1", "0", "1", "--unix", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stderr.contains("exists and is not a socket owned by you"), "{output:?}");
    }
    assert_eq!(sandbox.left(), Vec::<String>::new());
    // Nor is it removed because of a leftover's contents.
    assert!(sandbox.run(["rm", "--dead"]).status.success()); // makes the directory
    let left = sandbox.runtime().join("whorl/dipc-9.info");
    std::fs::write(
        &left,
        format!("whorl mailboxes 1\npid=1\naddress=::1\nport=9\nunix={}\n", file.display()),
    )
    .unwrap();
    assert_eq!(sandbox.run(["dipcrm", "9"]).status.code(), Some(0));
    assert!(!left.exists() && link.is_symlink());
    assert_eq!(std::fs::read(&file).unwrap(), b"text");
}

#[test]
fn a_stopped_server_is_not_killed_without_force() {
    let server = Server::start(&["1", "1", "0", "1"]);
    signal(server.pid(), Signal::STOP);
    let output = server.remove(&[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("--force"));
    // It has been asked to end, and does so when it continues.
    let pid = server.pid();
    signal(pid, Signal::CONT);
    until(LIMIT, "the server has ended", || !is_alive(pid));
    assert_eq!(server.sandbox.left(), Vec::<String>::new());
}

#[test]
fn a_stopped_server_is_killed_by_force() {
    let server = Server::start(&["1", "1", "0", "1"]);
    signal(server.pid(), Signal::STOP);
    let output = server.remove(&["--force"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(server.sandbox.left(), Vec::<String>::new());
}

#[test]
fn in_the_foreground_it_ends_well_on_sigterm_and_tells_a_supervisor() {
    let sandbox = Sandbox::new();
    let notified = sandbox.at("notify");
    let socket = UnixDatagram::bind(&notified).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = sandbox.shell(["dipc", "1", "1", "0", "1", "--foreground"]);
    let mut child = command.env("NOTIFY_SOCKET", &notified).stdout(Stdio::piped()).spawn().unwrap();
    let mut news = [0; 500];
    let count = socket.recv(&mut news).unwrap();
    assert!(text(&news[..count]).starts_with("READY=1\n"), "{}", text(&news[..count]));
    let port = port_of(&read_line(child.stdout.as_mut().unwrap()));
    expect(&mut TcpStream::connect(("127.0.0.1", port)).unwrap(), "r 0\n", "data 0 0 0\n\n");
    signal(child.id() as i32, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

#[test]
fn links_called_dipc_and_dipcrm_behave_so() {
    let sandbox = Sandbox::new();
    for name in ["dipc", "dipcrm"] {
        std::os::unix::fs::symlink(SHELL, sandbox.at(name)).unwrap();
    }
    let linked = |name: &str, args: &[&str]| run(sandbox.program(sandbox.at(name)).args(args));
    for name in ["dipc", "dipcrm"] {
        let help = linked(name, &["--help"]);
        assert!(help.stdout.contains(&format!("Usage: shell {name} [OPTIONS]")), "{help:?}");
    }
    let output = linked("dipc", &["8", "64", "0", "4"]);
    assert!(output.status.success(), "{output:?}");
    let port = port_of(&output.stdout).to_string();
    assert!(linked("dipcrm", &[&port]).status.success());
    assert_eq!(linked("dipcrm", &[&port]).status.code(), Some(3));
}

#[test]
fn a_supervisor_may_bring_the_socket() {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let sandbox = Sandbox::new();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // A client that connects before the server starts is also served.
    let early = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let start = |port: &str| {
        let script = format!("LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" dipc 1 1 {port} 1");
        let mut command = sandbox.program("sh");
        command.args(["-c", &script, SHELL]);
        // Not 3 already, because then it would keep its close-on-exec flag.
        let high = rustix::io::fcntl_dupfd_cloexec(&listener, 10).unwrap();
        let hand_over = move || {
            // SAFETY: a plain system call.
            let done = unsafe { libc::dup2(high.as_raw_fd(), 3) };
            if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: async-signal-safe.
        unsafe { command.pre_exec(hand_over) };
        run(&mut command)
    };
    let output = start("9");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = start("0");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(converse(early, b"r 0\n"), "data 0 0 0\n\nbye quit\n");
    let stopped = sandbox.run(["dipcrm", &port.to_string()]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(sandbox.left(), Vec::<String>::new());
}
