//! The addresses that a mailbox server listens at, and how users write them.

use crate::kit::mailbox_server::{Foreground, Server, converse, port_of};
use crate::kit::{Ended, SHELL, Sandbox, lacks_root, run, seccomp, skip, users};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

const SIZES: [&str; 4] = ["2", "1", "0", "1"];

/// Whether this machine has `::1`. If not, prints that the test is skipped.
fn has_ipv6(test: &str) -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        skip(test, "this machine has no IPv6");
    }
    has
}

fn refused(output: &Ended, code: i32, words: &[&str]) {
    let said = &output.stderr;
    assert_eq!(
        (output.status.code(), said.lines().count()),
        (Some(code), if code == 2 { 3 } else { 1 }),
        "{output:?}"
    );
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

#[test]
fn a_server_is_found_on_both_loopbacks() {
    if !has_ipv6("a_server_is_found_on_both_loopbacks") {
        return;
    }
    let server = Server::start(&SIZES);
    let six = TcpStream::connect((Ipv6Addr::LOCALHOST, server.port)).unwrap();
    assert_eq!(converse(six, b"w 0 2\nhi\n"), "ok 0 1\nbye quit\n");
    assert_eq!(converse(server.connect(), b"r 0\n"), "data 0 1 2\nhi\nbye quit\n");
    // The check applies to both.
    if !lacks_root("another user over ::1") {
        let other = users::connect(users::OTHER, (Ipv6Addr::LOCALHOST, server.port).into());
        assert!(converse(other, b"").starts_with("bye user this server serves user root;"));
    }
    // A given address is the only one.
    for (bind, other) in [("127.0.0.1", "::1"), ("[::1]", "127.0.0.1"), ("::1", "127.0.0.1")] {
        let server = Server::start(&[&SIZES[..], &["--bind", bind]].concat());
        let own = TcpStream::connect((bind.trim_matches(['[', ']']), server.port)).unwrap();
        assert_eq!(converse(own, b"r 0\n"), "data 0 0 0\n\nbye quit\n");
        assert!(TcpStream::connect((other, server.port)).is_err(), "{bind}");
    }
}

#[test]
fn a_port_that_is_taken_on_either_loopback_is_in_use() {
    if !has_ipv6("a_port_that_is_taken_on_either_loopback_is_in_use") {
        return;
    }
    for (host, other) in [("::1", "127.0.0.1"), ("127.0.0.1", "::1")] {
        // A port that is taken at one address and free at the other.
        let (_taken, port) = loop {
            let taken = TcpListener::bind((host, 0)).unwrap();
            let port = taken.local_addr().unwrap().port();
            if TcpListener::bind((other, port)).is_ok() {
                break (taken, port);
            }
        };
        let sandbox = Sandbox::new();
        let output = sandbox.run(["dipc", "2", "1", &port.to_string(), "1"]);
        refused(&output, 1, &["in use", host, &port.to_string()]);
        assert!(TcpStream::connect((other, port)).is_err(), "nothing is left at {other}");
        assert_eq!(sandbox.left(), Vec::<String>::new());
    }
}

#[test]
fn without_ipv6_it_listens_on_ipv4_alone_and_says_nothing() {
    let no_ipv6 = || seccomp::refuse_family(libc::AF_INET6, libc::EAFNOSUPPORT);
    let sandbox = Sandbox::new();
    let mut command = sandbox.shell([&["dipc"], &SIZES[..]].concat());
    // SAFETY: it makes system calls, and nothing else.
    let output = run(unsafe { command.pre_exec(no_ipv6) });
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let port = port_of(&output.stdout);
    let server = Server { sandbox, port };
    assert_eq!(converse(server.connect(), b"r 0\n"), "data 0 0 0\n\nbye quit\n");
}

#[test]
fn a_picked_port_is_free_on_both_loopbacks() {
    let test = "a_picked_port_is_free_on_both_loopbacks";
    // A network namespace with four ports. First three of them are taken at ::1, then all.
    let script = "ip link set lo up && echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range || exit 77
        for port in 40000 40001 40003; do \"$0\" dipc 1 1 $port 1 --bind ::1 > /dev/null || exit 77; done
        \"$0\" dipc 1 1 0 1; \"$0\" dipcrm 40002 > /dev/null; \"$0\" dipc 1 1 40002 1 --bind ::1 > /dev/null
        \"$0\" dipc 1 1 0 1; echo $?
        for port in 40000 40001 40002 40003; do \"$0\" dipcrm $port > /dev/null; done";
    let sandbox = Sandbox::new();
    let mut command = sandbox.program("unshare");
    let output = run(command.args(["-n", "sh", "-c", script, SHELL]));
    if output.stdout.len() <= 1 {
        return skip(test, "no network namespace with IPv6 can be made");
    }
    assert_eq!(output.stdout, "listening on 127.0.0.1:40002\n1\n", "{output:?}");
    assert!(output.stderr.contains("free at 127.0.0.1 and at ::1"), "{output:?}");
}

#[test]
fn an_address_is_understood_as_a_server_prints_it() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.shell([&["dipc"], &SIZES[..], &["--foreground"]].concat());
    let server = Foreground::start(command.stderr(Stdio::null()));
    let port = server.port.to_string();
    let mail = |args: &[&str]| sandbox.run([&["mail", "read", "0"], args].concat());
    let (four, six) = (format!("127.0.0.1:{port}"), format!("[::1]:{port}"));
    let mut understood = vec![vec!["--host", &*four], vec!["--host", "127.0.0.1", "--port", &*port]];
    understood.push(vec!["--host", &*four, "--port", &*port]);
    if has_ipv6("an_address_is_understood_as_a_server_prints_it") {
        understood.push(vec!["--host", &*six]);
        for host in ["[::1]", "::1", "[::ffff:127.0.0.1]"] {
            understood.push(vec!["--host", host, "--port", &*port]);
        }
    }
    for args in understood {
        let output = mail(&args);
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    }
    refused(&mail(&["--host", &four, "--port", "1"]), 2, &[&port, "names 1;"]);
    for host in ["", "[::1", "[localhost]", "localhost:", "[::1]:0", ":1"] {
        refused(&mail(&["--host", host]), 2, &["--host"]);
    }
    // Without a server at that address, the error writes the address as a server would.
    let output = mail(&["--host", "[::1]:1"]);
    assert!(!output.status.success() && output.stderr.contains("mail: [::1]:1: "), "{output:?}");
    for bind in ["[::1]:9000", "[127.0.0.1]", "localhost"] {
        refused(
            &sandbox.run([&["dipc"], &SIZES[..], &["--bind", bind]].concat()),
            2,
            &["--bind", "IP address"],
        );
    }
}
