//! Which local users a mailbox server serves over loopback, and to which user a socket belongs.

use crate::kit::mailbox_server::{Foreground, Server, converse, expect, text};
use crate::kit::seccomp::refuse_netlink;
use crate::kit::users::{NOBODY, OTHER, as_user, connect, connect_from, own_loopback, reset};
use crate::kit::{LIMIT, SHELL, Sandbox, lacks_root, lacks_unshare, run, signal, until};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

const SIZES: [&str; 4] = ["2", "1", "0", "1"];
const REFUSED: &str = "bye user this server serves user root; start it with --any-user to serve others\n";

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Returns everything that a client reads after it has tried to write into mailbox 0, line by line as a shell does. On a
/// busy machine the server may have closed the connection by then; the client still reads the line.
fn tamper(mut stream: TcpStream) -> String {
    stream.set_nodelay(true).unwrap();
    for line in ["w 0 8\n", "tampered\n", "r 0\n"] {
        let _ = stream.write_all(line.as_bytes());
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    text(&said)
}

/// Asserts that the owner is served, and that mailbox 0 is as it was.
#[track_caller]
fn untouched(port: u16) {
    let mut own = TcpStream::connect(local(port)).unwrap();
    own.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    expect(&mut own, "r 0\n", "data 0 0 0\n\n");
}

#[test]
fn another_user_is_refused_and_nothing_is_executed() {
    if lacks_root("another_user_is_refused_and_nothing_is_executed") {
        return;
    }
    let server = Server::start(&SIZES);
    let address = local(server.port);
    assert_eq!(tamper(connect(NOBODY, address)), REFUSED);
    assert_eq!(tamper(connect(OTHER, address)), REFUSED);
    // IPv4 through a socket of IPv6 is the same connection.
    let mapped = SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), server.port);
    assert_eq!(tamper(connect(OTHER, mapped)), REFUSED);
    // So is one that comes from another address of this machine.
    let elsewhere = connect_from(OTHER, own_loopback(), address);
    assert_eq!(tamper(elsewhere), REFUSED);
    untouched(server.port);
    // Many clients of another user do not delay the owner.
    let clients: Vec<_> = (0..200).map(|_| connect(OTHER, address)).collect();
    untouched(server.port);
    drop(clients);
    // The server serves its owner over each kind of socket. A client may close its half of the connection.
    assert_eq!(converse(server.connect(), b"w 0 2\nhi\n"), "ok 0 1\nbye quit\n");
    let own = TcpStream::connect(mapped).unwrap();
    assert_eq!(converse(own, b"r 0\n"), "data 0 1 2\nhi\nbye quit\n");
}

#[test]
fn a_socket_that_is_closed_before_the_check_is_refused() {
    if lacks_root("a_socket_that_is_closed_before_the_check_is_refused") {
        return;
    }
    let sandbox = Sandbox::new();
    let log = sandbox.at("log");
    let mut command = sandbox.shell([&["dipc"], &SIZES[..], &["--foreground", "--log-file"]].concat());
    let server = Foreground::start(command.arg(&log).env("WHORL_LOG", "debug"));
    let address = local(server.port);
    let write = |mut stream: TcpStream| {
        stream.write_all(b"w 0 2\nhi\n").unwrap();
        stream
    };
    signal(server.pid(), Signal::STOP);
    // After an orderly close the kernel reports the socket as root's.
    close_until_roots(write(connect(OTHER, address)));
    // After a reset the socket is gone, and the kernel finds any other socket that has its address and port.
    let listened = write(connect_from(OTHER, own_loopback(), address));
    let port = listened.local_addr().unwrap();
    reset(listened);
    let _listener = TcpListener::bind(port).unwrap();
    let reused = write(connect_from(OTHER, own_loopback(), address));
    let port = reused.local_addr().unwrap();
    reset(reused);
    let own = connect_from(0, port, address);
    signal(server.pid(), Signal::CONT);
    first_are_refused(&log, 3);
    untouched(server.port);
    assert_eq!(converse(own, b"r 0\n"), "data 0 0 0\n\nbye quit\n");
}

/// Closes a socket, and waits until the kernel reports it as root's.
fn close_until_roots(stream: TcpStream) {
    let end = format!(":{:04X}", stream.local_addr().unwrap().port());
    drop(stream);
    until(LIMIT, "what is left of the socket is root's", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.any(|fields| fields[1].ends_with(&end) && (fields[7], fields[9]) == ("0", "0"))
    });
}

/// Waits until a server has checked this number of clients, and asserts that it served none of them.
#[track_caller]
fn first_are_refused(log: &std::path::Path, clients: usize) {
    let lines = || std::fs::read_to_string(log).unwrap();
    until(LIMIT, "all are looked at", || lines().matches("connection from ").count() >= clients);
    let all = lines();
    let first: Vec<_> = all.lines().filter(|line| line.contains("connection from ")).take(clients).collect();
    assert!(first.iter().all(|line| line.contains(" refused: ")), "{all}");
}

#[test]
fn any_user_a_token_and_insecure_open_the_server() {
    if lacks_root("any_user_a_token_and_insecure_open_the_server") {
        return;
    }
    let sandbox = Sandbox::new();
    let token = sandbox.at("token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).unwrap();
    let token = token.to_str().unwrap();
    for (more, hello, welcome) in [
        (&["--any-user"][..], "", ""),
        (&["--insecure"], "", ""),
        (&["--token-file", token], "a 0123456789abcdef\n", "ok auth\n"),
    ] {
        let server = Server::start(&[&SIZES[..], more].concat());
        let mut stream = connect(OTHER, local(server.port));
        expect(&mut stream, &format!("{hello}w 0 2\nhi\n"), &format!("{welcome}ok 0 1\n"));
    }
}

/// A server of another user, with a runtime directory of its own.
fn of_user(user: u32, sandbox: &Sandbox) -> Foreground {
    let shell = sandbox.copy_of_shell();
    let run = sandbox.runtime();
    std::os::unix::fs::chown(&run, Some(user), Some(user)).unwrap();
    std::fs::set_permissions(sandbox.root(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = sandbox.program(shell);
    command.arg("dipc").args(SIZES).arg("--foreground");
    Foreground::start(command.uid(user).gid(user))
}

#[test]
fn a_users_server_serves_that_user_and_root() {
    if lacks_root("a_users_server_serves_that_user_and_root") {
        return;
    }
    let sandbox = Sandbox::new();
    let server = of_user(OTHER, &sandbox);
    let address = local(server.port);
    assert_eq!(converse(connect(OTHER, address), b"w 0 2\nhi\n"), "ok 0 1\nbye quit\n");
    assert_eq!(converse(connect(0, address), b"r 0\n"), "data 0 1 2\nhi\nbye quit\n");
    let refused = tamper(connect(NOBODY, address));
    assert!(
        refused.starts_with("bye user this server serves user 54321; start it with --any-user"),
        "{refused}"
    );
    assert_eq!(converse(connect(0, address), b"r 0\n"), "data 0 1 2\nhi\nbye quit\n");
}

#[test]
fn the_overflow_user_never_matches() {
    if lacks_root("the_overflow_user_never_matches") {
        return;
    }
    let sandbox = Sandbox::new();
    let server = of_user(NOBODY, &sandbox);
    let refused = tamper(connect(NOBODY, local(server.port)));
    assert!(refused.starts_with("bye user this server serves user nobody; "), "{refused}");
    assert!(refused.ends_with("(user number 65534 also stands for unknown users)\n"), "{refused}");
    untouched(server.port);
}

#[test]
fn where_netlink_is_refused_the_tables_of_proc_tell() {
    if lacks_root("where_netlink_is_refused_the_tables_of_proc_tell") {
        return;
    }
    let sandbox = Sandbox::new();
    let log = sandbox.at("log");
    let mut command = sandbox.shell([&["dipc"], &SIZES[..], &["--foreground", "--log-file"]].concat());
    command.arg(&log).env("WHORL_LOG", "debug");
    // SAFETY: it makes system calls, and nothing else.
    unsafe { command.pre_exec(refuse_netlink) };
    let server = Foreground::start(&mut command);
    let address = local(server.port);
    assert_eq!(tamper(connect(OTHER, address)), REFUSED);
    signal(server.pid(), Signal::STOP);
    for close in [close_until_roots, reset] {
        let mut stream = connect(OTHER, address);
        stream.write_all(b"w 0 2\nhi\n").unwrap();
        close(stream);
    }
    signal(server.pid(), Signal::CONT);
    first_are_refused(&log, 3);
    untouched(server.port);
    let mut doctor = sandbox.shell(["doctor"]);
    // SAFETY: as above.
    unsafe { doctor.pre_exec(refuse_netlink) };
    let said = run(&mut doctor).stdout;
    assert!(said.contains("warn\tsock_diag\tforbidden, "), "{said}");
}

#[test]
fn a_client_in_another_network_namespace_is_refused_with_the_reason() {
    let test = "a_client_in_another_network_namespace_is_refused_with_the_reason";
    if lacks_unshare(&["-n"], test) {
        return;
    }
    // A supervisor opens the socket here, and starts the server in a namespace without a network.
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec unshare -n \"$0\" dipc 2 1 0 1 --foreground";
    let mut command = sandbox.program("sh");
    command.args(["-c", script, SHELL]);
    let high = rustix::io::fcntl_dupfd_cloexec(&listener, 10).unwrap();
    let hand_over = move || {
        // SAFETY: a plain system call.
        let done = unsafe { libc::dup2(high.as_raw_fd(), 3) };
        if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: async-signal-safe.
    unsafe { command.pre_exec(hand_over) };
    let server = Foreground::start(&mut command);
    let refused = tamper(TcpStream::connect(local(server.port)).unwrap());
    assert!(refused.starts_with("bye user this server serves user "), "{refused}");
    assert!(
        refused.ends_with("(your socket is closed already, or in another network namespace)\n"),
        "{refused}"
    );
}

#[test]
fn a_unix_socket_is_the_owners_as_before() {
    if lacks_root("a_unix_socket_is_the_owners_as_before") {
        return;
    }
    use std::os::unix::net::UnixStream;
    let sandbox = Sandbox::new();
    std::fs::set_permissions(sandbox.root(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = sandbox.at("mail.sock");
    let unix = path.to_str().unwrap().to_owned();
    let server = Server::start_in(sandbox, &[&SIZES[..], &["--unix", &unix]].concat());
    let refused = as_user(OTHER, || UnixStream::connect(&path).map_err(|error| error.kind()));
    assert_eq!(refused.unwrap_err(), std::io::ErrorKind::PermissionDenied);
    let mut stream = UnixStream::connect(&path).unwrap();
    expect(&mut stream, "w 0 2\nhi\nr 0\n", "ok 0 1\ndata 0 1 2\nhi\n");
    // Over a unix socket the server executes the requests of a client that has closed its socket.
    UnixStream::connect(&path).unwrap().write_all(b"w 1 4\ngone\n").unwrap();
    until(LIMIT, "what it sent was stored", || {
        converse(server.connect(), b"r 1\n") == "data 1 1 4\ngone\nbye quit\n"
    });
}
