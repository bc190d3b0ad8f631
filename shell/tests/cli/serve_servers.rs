//! `shell serve` and `shell servers`: servers that announce themselves, and a query to all of them.

use crate::kit::{
    LIMIT, Running, SOON, Sandbox, lacks_root, lacks_unshare, run, signal, skip, start, until, users,
};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use whorl::internal::discovery::Information;
use whorl::internal::os::ofd_lock::ByteLocks;
use whorl::internal::registry::lock_file::OWNER;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.at("servers")).unwrap();
    sandbox
}

fn file(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.at(format!("servers/{name}.server"))
}

/// A server that sends `NAME-socket` and `NAME-shm`, once it is announced.
fn serve(sandbox: &Sandbox, name: &str, more: &str) -> Running {
    let words =
        format!("serve {name} --dir servers --socket-message {name}-socket --shm-message {name}-shm {more}");
    let server = sandbox.start(&words);
    until(SOON, "it is announced", || Information::read(&file(sandbox, name)).is_ok());
    server
}

fn servers(sandbox: &Sandbox) -> crate::kit::Ended {
    run(&mut sandbox.words("servers --dir servers"))
}

#[test]
fn every_server_is_counted_where_it_runs_and_says_its_messages_in_order() {
    let sandbox = sandbox();
    let none = servers(&sandbox);
    none.silent_success();
    assert_eq!(none.stdout, "Total Servers: 0\nHost: 0\nContainer: 0\nVM: 0\nMessages: \n");
    let b = serve(&sandbox, "b", "");
    let a = serve(&sandbox, "a", "");
    // Another runtime directory, as in a container that shares only the network and this directory.
    std::fs::create_dir(sandbox.at("elsewhere")).unwrap();
    let mut contained = sandbox.words("serve c --dir servers --socket-message c-socket --shm-message c-shm");
    let c = start(contained.env("XDG_RUNTIME_DIR", sandbox.at("elsewhere")));
    until(SOON, "it is announced", || Information::read(&file(&sandbox, "c")).is_ok());
    // A port without a server.
    let d = serve(&sandbox, "d", "");
    signal(d.pid(), Signal::KILL);
    drop(d);
    let asked = servers(&sandbox);
    asked.has_code(0).one_line(&["servers/d.server", "stale"]);
    assert_eq!(
        asked.stdout,
        "Total Servers: 4\nHost: 2\nContainer: 1\nVM: 1\nMessages: a-socket a-shm b-socket b-shm c-socket\n"
    );
    let json = run(&mut sandbox.words("servers --dir servers --json")).json();
    assert_eq!(
        (&json["total"], &json["host"], &json["container"], &json["vm"]),
        (&4.into(), &2.into(), &1.into(), &1.into())
    );
    let kinds: Vec<_> =
        json["servers"].as_array().unwrap().iter().map(|server| server["kind"].clone()).collect();
    assert_eq!(kinds, ["host", "host", "container", "vm"]);
    assert_eq!(json["servers"][0]["file"], "servers/a.server");
    assert_eq!(json["servers"][1]["shm_message"], "b-shm");
    assert!(json["servers"][2]["shm_message"].is_null() && json["servers"][2]["error"].is_string());
    assert!(json["servers"][0]["error"].is_null());
    let listed = sandbox.ls();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["kind"], &listed[0]["state"]),
        (&"a".into(), &"server".into(), &"live".into())
    );
    assert_eq!(listed.iter().filter(|found| found["state"] == "stale").count(), 1);
    for server in [a, b, c] {
        signal(server.pid(), Signal::TERM);
        assert_eq!(server.end(SOON).status.signal(), Some(15));
    }
    assert_eq!(sandbox.names("servers"), ["d.server"]);
    run(&mut sandbox.words("rm --dead")).has_code(0);
    sandbox.nothing_left();
}

#[test]
fn a_server_ends_when_enough_clients_came_or_its_time_is_over() {
    let sandbox = sandbox();
    let server = serve(&sandbox, "x", "--clients 2");
    let mut second = None;
    for client in 0..2 {
        let asked = servers(&sandbox);
        asked.silent_success();
        // A run that takes both messages is one client. So the second run still gets both.
        assert!(
            asked.stdout.contains("Host: 1\n") && asked.stdout.contains("x-socket x-shm"),
            "{client}: {asked:?}"
        );
        second = Some(client);
    }
    assert_eq!(second, Some(1));
    server.end(SOON).silent_success();
    let begun = Instant::now();
    let server = serve(&sandbox, "x", "--for 700ms");
    server.end(SOON).silent_success();
    assert!(begun.elapsed() >= Duration::from_millis(600));
    assert!(sandbox.names("servers").is_empty());
    sandbox.nothing_left();
}

#[test]
fn a_client_that_only_one_way_works_for_counts_as_one() {
    let sandbox = sandbox();
    std::fs::create_dir(sandbox.at("elsewhere")).unwrap();
    let server = serve(&sandbox, "x", "--clients 1");
    let asked = run(sandbox.words("servers --dir servers").env("XDG_RUNTIME_DIR", sandbox.at("elsewhere")));
    assert!(asked.stdout.contains("Container: 1\n"), "{asked:?}");
    server.end(SOON).silent_success();
    sandbox.nothing_left();
}

#[test]
fn the_file_is_private_whole_and_one_servers_alone() {
    let sandbox = sandbox();
    let server = start(&mut sandbox.script("umask 0; exec \"$SHELL_BIN\" serve x --dir servers"));
    until(SOON, "it is announced", || Information::read(&file(&sandbox, "x")).is_ok());
    assert_eq!(file(&sandbox, "x").metadata().unwrap().permissions().mode() & 0o7777, 0o1600);
    let text = std::fs::read_to_string(file(&sandbox, "x")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines[0], lines[2]), ("127.0.0.1", "x"));
    assert!(lines[1].parse::<u16>().unwrap() > 0 && lines[3].len() == 16 && lines[4].contains('='), "{text}");
    run(&mut sandbox.words("serve x --dir servers")).refusal(1, &["serve: x", "in use"]);
    // The same file, although the channel's name is free in the other directory.
    std::fs::create_dir(sandbox.at("elsewhere")).unwrap();
    let ended = run(sandbox.words("serve x --dir servers").env("XDG_RUNTIME_DIR", sandbox.at("elsewhere")));
    ended.refusal(1, &["servers/x.server", "in use by another server"]);
    assert!(sandbox.names("elsewhere/whorl").is_empty());
    signal(server.pid(), Signal::KILL);
    drop(server);
    let successor = serve(&sandbox, "x", "--clients 1");
    assert!(servers(&sandbox).stdout.contains("Host: 1\n"));
    successor.end(SOON).silent_success();
    run(&mut sandbox.words("rm --dead")).has_code(0);
    sandbox.nothing_left();
}

#[test]
fn sixteen_that_want_one_file_leave_one_winner_and_no_litter() {
    let sandbox = sandbox();
    let stale = serve(&sandbox, "x", "");
    signal(stale.pid(), Signal::KILL);
    drop(stale);
    let all: Vec<_> = (0..16)
        .map(|number| {
            // Each with a runtime directory of its own, so that only the file decides.
            let run = sandbox.at(format!("run-{number}"));
            std::fs::create_dir(&run).unwrap();
            start(sandbox.words("serve x --dir servers --for 3s").env("XDG_RUNTIME_DIR", run))
        })
        .collect();
    let codes: Vec<_> = all.into_iter().map(|server| server.end(LIMIT).code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert!(sandbox.names("servers").is_empty());
}

#[test]
fn broken_hostile_or_silent_files_are_a_line_each_and_delay_no_other() {
    let sandbox = sandbox();
    let good = serve(&sandbox, "good", "");
    // Servers that do not answer, send single bytes, close the connection, or send malformed answers. Their files are
    // locked as if they lived.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for (socket, number) in listener.incoming().flatten().zip(0..) {
            let mut socket = socket;
            let _ = socket.read(&mut [0; 24]);
            match number % 5 {
                4 => drop(socket.write_all(b"bye user this server serves user \x1b[31mroot\n")),
                0 => kept.push(socket),
                1 => drop(socket),
                2 => drop(socket.write_all(&[0xff; 4096])),
                _ => drop(std::thread::spawn(move || {
                    while socket.write_all(b"W").is_ok() {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                })),
            }
        }
    });
    let alive = format!("127.0.0.1\n{port}\nx\n0000000000000001\n");
    let mut locked = Vec::new();
    for number in 0..40 {
        let path = file(&sandbox, &format!("hostile-{number}"));
        std::fs::write(&path, &alive).unwrap();
        let held = ByteLocks::open(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(held.try_lock(OWNER), Ok(true));
        locked.push(held);
    }
    std::fs::write(file(&sandbox, "empty"), "").unwrap();
    std::fs::write(file(&sandbox, "huge"), vec![b'x'; 1 << 20]).unwrap();
    std::fs::write(file(&sandbox, "\u{1b}[31mred"), "x").unwrap();
    std::fs::create_dir(file(&sandbox, "directory")).unwrap();
    symlink("good.server", file(&sandbox, "link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, file(&sandbox, "fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let begun = Instant::now();
    let asked = run(&mut sandbox.words("servers --dir servers --timeout 700ms"));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    asked.has_code(0);
    assert!(asked.stdout.starts_with("Total Servers: 47\nHost: 1\nContainer: 0\nVM: 46\n"), "{asked:?}");
    assert!(asked.stdout.ends_with("Messages: good-socket good-shm\n"), "{asked:?}");
    assert_eq!(asked.stderr.lines().count(), 46, "{asked:?}");
    assert!(!asked.stderr.contains('\u{1b}'), "{asked:?}");
    for what in [
        "it refused: bye user this server serves user \\u{1b}[31mroot;",
        "empty.server",
        "huge.server",
        "link.server: it exists and is not a regular file",
        "fifo.server: it exists and is not a regular",
    ] {
        assert!(asked.stderr.contains(what), "{what}: {asked:?}");
    }
    signal(good.pid(), Signal::INT);
    assert_eq!(good.end(SOON).status.signal(), Some(2));
    run(&mut sandbox.words("servers --dir nowhere")).refusal(1, &["nowhere", "no such file"]);
}

#[test]
fn without_a_default_route_an_interfaces_address_is_announced_or_a_warning_printed() {
    let what = "servers without a default route";
    let tried = Command::new("unshare").args(["-n", "ip", "link", "set", "lo", "up"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        return skip(what, "no network namespace can be made");
    }
    let lan = "ip link add v0 type veth peer name v1; ip link set v1 up; ip link set v0 up;";
    let none = "this machine has no address that other machines can reach, so its file names 127.0.0.1";
    for (network, bind, announced) in [
        ("", "--bind", Err(none)),
        ("", "--bind=::", Err(none)),
        ("ip addr add 10.9.8.7/24 dev v0;", "--bind", Ok("10.9.8.7")),
        ("ip addr add 10.9.8.7/24 dev v0;", "--bind=::", Ok("10.9.8.7")),
        ("ip addr add 10.9.8.7/24 dev v0; ip link set v0 down;", "--bind", Err(none)),
        ("ip addr add 2001:db8::7/64 dev v0 nodad;", "--bind=::", Ok("2001:db8::7")),
        ("ip addr add 2001:db8::7/64 dev v0 nodad;", "--bind", Err(none)),
        (
            "ip addr add 10.9.8.7/24 dev v0; ip addr add 10.1.1.1/24 dev v1; ip route add default via 10.1.1.2;",
            "--bind",
            Ok("10.1.1.1"),
        ),
    ] {
        let sandbox = sandbox();
        // The server ends after one client, which the script starts once the file exists.
        let script = format!(
            "ip link set lo up; {lan} {network}
            shell serve x --dir servers {bind} --clients 1 --for 20s &
            until [ -s servers/x.server ]; do kill -0 $! || exit 1; sleep 0.01; done
            head -n 1 servers/x.server; shell servers --dir servers | grep -c 'Host: 1'; wait $!"
        );
        let inner = sandbox.at("inner.sh");
        std::fs::write(&inner, format!("shell() {{ \"$SHELL_BIN\" \"$@\"; }}\n{script}")).unwrap();
        let ended = run(&mut sandbox.script("unshare -n sh inner.sh"));
        ended.has_code(0);
        assert_eq!(
            ended.stdout,
            format!("{}\n1\n", announced.unwrap_or("127.0.0.1")),
            "{network} {bind}: {ended:?}"
        );
        match announced {
            Ok(_) => assert_eq!(ended.stderr, "", "{network} {bind}"),
            Err(why) => assert!(ended.stderr.lines().count() == 1 && ended.stderr.contains(why), "{ended:?}"),
        }
    }
}

/// Sends the head of a client, and returns all that it gets.
fn visit(mut client: std::net::TcpStream) -> Vec<u8> {
    let _ = client.write_all(b"WHSV\x01\0\0\x000123456789abcdef");
    let _ = client.shutdown(std::net::Shutdown::Write);
    let mut got = Vec::new();
    let _ = client.read_to_end(&mut got);
    got
}

#[test]
fn another_user_is_refused_and_does_not_count_as_a_client() {
    if lacks_root("another_user_is_refused_and_does_not_count_as_a_client") {
        return;
    }
    let sandbox = sandbox();
    let mut server = serve(&sandbox, "x", "--clients 1");
    let address = |name| {
        let information = Information::read(&file(&sandbox, name)).unwrap();
        std::net::SocketAddr::new(information.address, information.port)
    };
    for _ in 0..3 {
        let got = visit(users::connect(users::OTHER, address("x")));
        let line = "bye user this server serves user root; start it with --any-user to serve others\n";
        assert_eq!(String::from_utf8_lossy(&got), line);
    }
    assert!(server.is_running());
    servers(&sandbox).has_code(0);
    server.end(LIMIT).silent_success();
    let server = serve(&sandbox, "y", "--clients 1 --any-user");
    assert!(visit(users::connect(users::OTHER, address("y"))).ends_with(b"y-socket"));
    server.end(LIMIT).silent_success();
}

#[test]
fn messages_of_any_bytes_come_through_and_reach_no_terminal_as_commands() {
    let sandbox = sandbox();
    let long = "x".repeat(100_000);
    let server = start(&mut sandbox.shell([
        "serve",
        "x",
        "--dir",
        "servers",
        "--socket-message",
        &long,
        "--shm-message",
        "a\u{1b}[2Jb\n\u{e4}",
    ]));
    until(SOON, "it is announced", || Information::read(&file(&sandbox, "x")).is_ok());
    let asked = servers(&sandbox);
    assert!(
        asked.stdout.ends_with(&format!("Messages: {long} a\\u{{1b}}[2Jb\\n\u{e4}\n")),
        "{}",
        asked.stdout.len()
    );
    let json = run(&mut sandbox.words("servers --dir servers --json")).json();
    assert_eq!(json["servers"][0]["shm_message"], "a\u{1b}[2Jb\n\u{e4}");
    signal(server.pid(), Signal::TERM);
    server.end(SOON);
    sandbox.nothing_left();
}

#[test]
fn a_server_in_a_network_of_its_own_counts_as_another_machine() {
    let what = "a server in a network of its own";
    if lacks_root(what) || lacks_unshare(&["-n"], what) {
        return;
    }
    let sandbox = sandbox();
    std::fs::create_dir(sandbox.at("elsewhere")).unwrap();
    let script = "exec unshare -n \"$SHELL_BIN\" serve x --dir servers --socket-message s --shm-message m";
    let server = start(sandbox.script(script).env("XDG_RUNTIME_DIR", sandbox.at("elsewhere")));
    until(SOON, "it is announced", || Information::read(&file(&sandbox, "x")).is_ok());
    let asked = servers(&sandbox);
    assert!(asked.stdout.contains("VM: 1\n"), "{asked:?}");
    asked.one_line(&["x.server", "socket: ", "shared memory: "]);
    drop(server);
}

#[test]
fn a_server_that_binds_beyond_this_machine_names_an_address_to_reach_it() {
    let sandbox = sandbox();
    for (bind, expected) in [("--bind", None), ("--bind=127.0.0.2", Some("127.0.0.2"))] {
        let server = serve(&sandbox, "x", &format!("{bind} --clients 1"));
        let text = std::fs::read_to_string(file(&sandbox, "x")).unwrap();
        let address = text.lines().next().unwrap();
        assert!(address != "0.0.0.0" && expected.is_none_or(|expected| expected == address), "{text}");
        assert!(servers(&sandbox).stdout.contains("Host: 1\n"));
        server.end(SOON).silent_success();
    }
    run(&mut sandbox.words("serve x --dir servers --bind=nowhere")).refusal(2, &["--bind", "nowhere"]);
    run(&mut sandbox.words("serve x --dir servers --bind=192.0.2.7")).refusal(1, &["192.0.2.7"]);
    run(&mut sandbox.words("serve x --dir servers --clients 0")).refusal(2, &["--clients", "0"]);
    sandbox.nothing_left();
}

#[test]
fn the_directory_is_made_for_this_user_alone_and_what_is_in_the_way_is_refused() {
    let sandbox = Sandbox::new();
    let server = start(&mut sandbox.words("serve x --dir new/servers --shm-message m --clients 1"));
    let file = sandbox.at("new/servers/x.server");
    until(SOON, "it is announced", || Information::read(&file).is_ok());
    for directory in ["new", "new/servers"] {
        let mode = sandbox.at(directory).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{directory}");
    }
    run(&mut sandbox.words("servers --dir new/servers")).silent_success();
    server.end(SOON).silent_success();
    assert!(sandbox.names("new/servers").is_empty(), "the file is gone, its directory stays");
    // A refused server removes the directory that it made.
    let other = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    run(&mut sandbox.words("serve x --dir newer/still")).refusal(1, &["serve: x", "in use"]);
    assert!(!sandbox.at("newer").exists());
    drop(other);
    sandbox.file("file", b"text");
    symlink("nowhere", sandbox.at("dangling")).unwrap();
    for (directory, why) in
        [("file", "not a directory"), ("file/below", "not a directory"), ("dangling", "exists")]
    {
        run(&mut sandbox.words(&format!("serve y --dir {directory}")))
            .refusal(1, &["serve: y", directory, why]);
    }
    assert!(!sandbox.at("nowhere").exists());
    // A file planted under the server's name is refused, and stays untouched.
    symlink("../../file", sandbox.at("new/servers/y.server")).unwrap();
    run(&mut sandbox.words("serve y --dir new/servers"))
        .refusal(1, &["y.server", "not a regular file owned by you"]);
    assert_eq!(std::fs::read(sandbox.at("file")).unwrap(), b"text");
    run(&mut sandbox.words("rm --dead")).has_code(0);
    sandbox.nothing_left();
}

/// More clients than may be served at a time. Each new one takes the place of the oldest silent one.
#[test]
fn however_many_clients_say_nothing_one_that_asks_is_served() {
    let sandbox = sandbox();
    let server = serve(&sandbox, "a", "");
    let port = Information::read(&file(&sandbox, "a")).unwrap().port;
    whorl::internal::os::limits::raise_descriptor_limit();
    let silent: Vec<TcpStream> = (0..600).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    silent[0].set_read_timeout(Some(SOON)).unwrap();
    assert_eq!((&silent[0]).read(&mut [0]).unwrap(), 0, "the oldest was sent away");
    let asked = run(&mut sandbox.words("servers --dir servers --timeout 5s"));
    asked.silent_success();
    assert!(asked.stdout.ends_with("Messages: a-socket a-shm\n"), "{asked:?}");
    signal(server.pid(), Signal::TERM);
    server.end(LIMIT);
}
