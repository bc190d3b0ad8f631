//! Many clients, servers and starts: ten thousand idle connections, a thousand slow ones, sixty-four servers that want
//! one port, rounds of starting and stopping. `WHORL_FAULTS_LONG` raises these counts.

use crate::kit::mailbox_server::{Server, expect, text};
use crate::kit::{LIMIT, Sandbox, short_or_long, start, until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Keeps `count` clients busy until `end`, and counts the rounds that are answered. Each round begins `pause` after the
/// one before it. Returns their times, sorted.
fn busy(
    server: &Server,
    count: usize,
    pause: Duration,
    end: &AtomicBool,
    answered: &AtomicU64,
) -> Vec<Duration> {
    let times = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut streams: Vec<_> = (0..count / 4).map(|_| server.connect()).collect();
                let mut mine = Vec::new();
                while !end.load(Relaxed) {
                    for stream in &mut streams {
                        let before = Instant::now();
                        expect(stream, "w 1 4\nbusy\nr 2\n", "ok 1 ");
                        let mut tail = Vec::new();
                        while !tail.ends_with(b"\ndata 2 0 0\n\n") {
                            let mut byte = [0; 32];
                            let count = stream.read(&mut byte).unwrap();
                            assert!(count > 0);
                            tail.extend(&byte[..count]);
                        }
                        mine.push(before.elapsed());
                        answered.fetch_add(1, Relaxed);
                        std::thread::sleep(pause);
                    }
                }
                times.lock().unwrap().extend(mine);
            });
        }
    });
    let mut times = times.into_inner().unwrap();
    times.sort_unstable();
    times
}

fn percentile(times: &[Duration], per_thousand: usize) -> Duration {
    times[(times.len() - 1) * per_thousand / 1000]
}

#[test]
fn ten_thousand_idle_connections_and_two_hundred_busy_ones() {
    let _alone = crate::alone();
    let server = Server::start(&["4", "64", "0", "4"]);
    let allowed = whorl::internal::os::limits::raise_descriptor_limit() as usize;
    let active = short_or_long(200, 500);
    let idle = 10_000.min(allowed.saturating_sub(2 * active));
    if idle < 10_000 {
        eprintln!("only {idle} idle connections: no more descriptors are allowed");
    }
    let before = server.memory();
    let mut streams: Vec<TcpStream> = (0..idle)
        .map(|number| {
            let mut stream = server.connect();
            if number % 10 == 0 {
                expect(&mut stream, "r 0\n", "data 0 0 0\n\n"); // some have been busy once
            }
            stream
        })
        .collect();
    until(LIMIT, "all are taken in", || {
        let mut probe = server.connect();
        expect(&mut probe, "r 0\n", "data 0 0 0\n\n");
        true
    });
    let each = (server.memory() - before) * 1024 / idle as u64;
    let (end, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let times = std::thread::scope(|scope| {
        let times = scope.spawn(|| busy(&server, active, Duration::ZERO, &end, &answered));
        until(LIMIT, "2000 rounds are answered", || answered.load(Relaxed) > 2000);
        end.store(true, Relaxed);
        times.join().unwrap()
    });
    println!(
        "{idle} idle connections: {each} bytes each; {} rounds by {active} busy ones: median {:?}, p99 {:?}",
        times.len(),
        percentile(&times, 500),
        percentile(&times, 990)
    );
    assert!(each < 4096, "{each} bytes for an idle connection");
    // The idle ones are still served.
    for stream in streams.iter_mut().step_by(7) {
        expect(stream, "r 3\n", "data 3 0 0\n\n");
    }
}

#[test]
fn a_thousand_clients_that_send_a_byte_a_second_delay_no_other() {
    let server = Server::start(&["4", "64", "0", "4"]);
    let memory = server.memory();
    // What each kind sends at once, and what it sends a byte of each second.
    let drops: [(&[u8], &[u8]); 4] = [
        (b"", b"r            "),
        (b"w 0", b" 4000\ndripping"),
        (b"w 3\n", b"typed by hand"),
        (b"w 0 -\n", b"a pipe drips "),
    ];
    whorl::internal::os::limits::raise_descriptor_limit();
    let clients = short_or_long(1000, 5000);
    let slow: Vec<TcpStream> = (0..clients).map(|_| server.connect()).collect();
    for (mut stream, kind) in slow.iter().zip((0..4).cycle()) {
        stream.write_all(drops[kind].0).unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    let mut gone = [0; 4];
    let (end, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let grown = AtomicU64::new(0);
    let times = std::thread::scope(|scope| {
        let times = scope.spawn(|| busy(&server, 4, Duration::from_millis(5), &end, &answered));
        for second in 0..13 {
            let started = Instant::now();
            for (mut stream, kind) in slow.iter().zip((0..4).cycle()) {
                let _ = stream.write_all(&drops[kind].1[second..=second]); // the server has closed some by now
                let mut line = [0; 16];
                if let Ok(count @ 1..) = stream.read(&mut line) {
                    assert_eq!(text(&line[..count]), "bye idle\n");
                    gone[kind] += 1;
                }
            }
            grown.fetch_max(server.memory() - memory, Relaxed);
            std::thread::sleep(Duration::from_secs(1).saturating_sub(started.elapsed()));
        }
        end.store(true, Relaxed);
        times.join().unwrap()
    });
    let grown = grown.load(Relaxed);
    let median = percentile(&times, 500);
    println!(
        "{clients} drip; closed: {gone:?}; {grown} KiB for them; {} rounds of others: median {median:?}, p99 {:?}",
        times.len(),
        percentile(&times, 990)
    );
    // Half a line has 10 s. So has a packet, which began after five.
    assert_eq!(gone, [clients / 4, 0, 0, 0]);
    // A worker that waited for a slow client would wait a second for its next byte. A busy machine is faster than that.
    assert!(median < Duration::from_millis(500), "{median:?}");
    assert!(grown < 32 * clients as u64, "{grown} KiB");
}

#[test]
fn sixty_four_servers_want_one_port() {
    let _alone = crate::alone();
    for round in 0..short_or_long(4, 200) {
        let sandbox = Sandbox::new();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let argument = port.to_string();
        let spawn = |_| start(&mut sandbox.shell(["dipc", "2", "64", &argument, "4"]));
        let starters: Vec<_> = (0..64).map(spawn).collect();
        let mut won = 0;
        for starter in starters {
            let output = starter.end(LIMIT);
            match output.status.code() {
                Some(0) => won += 1,
                Some(1) => {
                    let said = &output.stderr;
                    assert!(said.lines().count() == 1 && said.contains(&argument), "{said}");
                }
                other => panic!("{other:?}: {output:?}"),
            }
        }
        assert_eq!(won, 1, "round {round}");
        let server = Server { sandbox, port };
        expect(&mut server.connect(), "r 1\n", "data 1 0 0\n\n");
        // Sixteen processes remove the server. A process that comes too late finds none.
        let remove = |_| server.sandbox.start(&format!("dipcrm {argument}"));
        let removers: Vec<_> = (0..16).map(remove).collect();
        let codes: Vec<_> = removers.into_iter().map(|remover| remover.end(LIMIT).code()).collect();
        assert!(
            codes.contains(&Some(0)) && codes.iter().all(|code| matches!(code, Some(0 | 3))),
            "{codes:?}"
        );
        assert_eq!(server.sandbox.left(), Vec::<String>::new());
    }
}

#[test]
fn rounds_of_starting_connecting_and_stopping() {
    let mut sandbox = Sandbox::new();
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let argument = port.to_string();
    let started = Instant::now();
    let rounds = short_or_long(200, 1000);
    for round in 0..rounds {
        let output = sandbox.run(["dipc", "1", "1", &argument, "1"]);
        assert!(output.status.success(), "round {round}: {output:?}");
        let server = Server { sandbox, port };
        let mut stream = server.connect();
        expect(&mut stream, "w 0 2\nhi\n", "ok 0 1\n");
        if round % 2 == 0 {
            drop(stream);
        }
        let output = server.remove(&[]);
        assert!(output.status.success(), "round {round}: {output:?}");
        assert_eq!(server.sandbox.left(), Vec::<String>::new(), "round {round}");
        sandbox = server.into_sandbox();
    }
    println!("{rounds} rounds in {:?}", started.elapsed());
}
