//! What one client of a mailbox server, or one kernel without some call, may cost the others: a bounded part.

mod dipc_harness;
mod dipc_support;
#[path = "common/filter.rs"]
mod filter;

use dipc_harness::{Plain, Stage, rules};
use dipc_support::{Place, Server, expect, rest, text};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use whorl::dipc::budget::Budget;
use whorl::dipc::replies::Replies;
use whorl::dipc::session::{Need, Session, Turn};

/// Starts a server for which the kernel refuses a call.
fn filtered(call: libc::c_long, error: i32, args: &[&str]) -> Server {
    let place = Place::new();
    let mut command = place.shell(&[&["dipc"], args].concat());
    filter::refuse(&mut command, &[call], error);
    let output = command.output().expect("it starts");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let port = said.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
    Server { place, port: port.expect("a port") }
}

/// Any client may ask for it, and the older call for waiting takes less.
#[test]
fn a_far_deadline_ends_no_server_where_the_kernel_lacks_a_call() {
    for error in [libc::ENOSYS, libc::EPERM] {
        let server = filtered(libc::SYS_epoll_pwait2, error, &["8", "1", "0", "1", "--workers", "1"]);
        let mut patient = server.connect();
        patient.write_all(b"r 0 0 9999999999\n").unwrap();
        let mut other = server.connect();
        for round in 1..=3 {
            // The one worker has seen the far deadline once it has answered the other.
            expect(&mut other, "r 1 0 20\n", "same 1 0\n");
            expect(&mut other, "w 2 1\nx\n", &format!("ok 2 {round}\n"));
        }
        expect(&mut other, "w 0 2\nhi\n", "ok 0 1\n");
        expect(&mut patient, "", "data 0 1 2\nhi\n");
    }
}

const TOKEN: &str = "0123456789abcdef";

/// Starts a server that asks for [`TOKEN`].
fn with_token(args: &[&str]) -> Server {
    let place = Place::new();
    let file = place.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = file.to_str().unwrap().to_owned();
    Server::start_in(place, &[args, &["--token-file", &file]].concat())
}

fn holder(server: &Server) -> TcpStream {
    let mut stream = server.connect();
    expect(&mut stream, &format!("a {TOKEN}\n"), "ok auth\n");
    // With the second answer it has surely left those who have not sent the token.
    expect(&mut stream, "r 1\n", "data 1 0 0\n\n");
    stream
}

fn has_heard_nothing(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let heard = (&mut &*stream).read(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Who waits for the other end's last line waits for an event, not for time.
#[test]
fn silent_clients_without_the_token_make_room_for_those_who_have_it() {
    let server = with_token(&["2", "1", "0", "1", "--max-connections", "8", "--workers", "3"]);
    let busy = "bye busy 8 connections\n";
    let mut silent = std::collections::VecDeque::new();
    for number in 0..40 {
        let mut stream = server.connect();
        if number % 3 == 1 {
            stream.write_all(b"a 0123").unwrap(); // half a line is no line
        }
        silent.push_back(stream);
        if silent.len() > 4 {
            // Half of the places: the oldest makes room.
            assert_eq!(rest(silent.pop_front().unwrap()), busy);
            assert!(silent.iter().all(has_heard_nothing));
        }
    }
    // Who has the token comes in the same way, and leaves that half once it has sent it.
    let mut holders = vec![holder(&server)];
    assert_eq!(rest(silent.pop_front().unwrap()), busy);
    holders.extend((0..4).map(|_| holder(&server)));
    assert!(silent.iter().all(has_heard_nothing), "there was room for all of these");
    // All eight places are taken: each who has the token takes a silent one's.
    for stream in silent.drain(..) {
        holders.push(holder(&server));
        assert_eq!(rest(stream), busy);
    }
    assert_eq!(rest(server.connect()), busy, "all places are taken by those who have the token");
    for stream in &mut holders {
        expect(stream, "r 0\n", "data 0 0 0\n\n");
    }
}

/// Who sends a wrong token is kept for a moment, but keeps nobody out.
#[test]
fn wrong_tokens_take_no_places() {
    let server = with_token(&["2", "1", "0", "1", "--max-connections", "8"]);
    let wrong: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = server.connect();
            // It may have been sent away already by those behind it.
            let _ = stream.write_all(b"a wrong\n");
            stream
        })
        .collect();
    let mut stream = holder(&server);
    expect(&mut stream, "r 0\n", "data 0 0 0\n\n");
    drop(wrong);
}

#[test]
fn the_line_with_the_token_has_ten_seconds_and_a_kibibyte_whatever_comes_before_it() {
    let rules = rules(1, 1024, 1024, Some(TOKEN.as_bytes()));
    let mut boxes = Plain(vec![(0, Vec::new())]);
    let mut session = Session::new(false, Budget::new(1 << 20).account(0, None), 100);
    assert_eq!(session.deadline(&rules), Some(10_100), "from the start, not from the first byte");
    let mut say = |session: &mut Session, now, input: &[u8]| {
        let mut out = Replies::default();
        let mut turn = Turn {
            now,
            rules: &rules,
            boxes: &mut boxes,
            out: &mut out,
            room: usize::MAX,
            is_clogged: false,
        };
        let (used, need) = session.advance(input, false, 1 << 20, &mut turn);
        (used, need, text(&out))
    };
    let nothing = |used| (used, Need::Input, String::new());
    assert_eq!(say(&mut session, 5_000, b"\n\n"), nothing(2));
    assert_eq!(session.deadline(&rules), Some(10_100), "empty lines do not move it");
    assert_eq!(say(&mut session, 6_000, &[b'\n'; 1022]), nothing(1022));
    let mut late = Session::new(false, Budget::new(1 << 20).account(0, None), 0);
    assert_eq!(say(&mut late, 0, &[b'\n'; 1000]), nothing(1000));
    let (used, need, said) = say(&mut late, 0, &[b'\n'; 1000]);
    assert_eq!((used, need), (1000, Need::Nothing));
    assert!(said.starts_with("bye auth"), "{said}");
    let right = format!("a {TOKEN}\n");
    assert_eq!(say(&mut session, 7_000, right.as_bytes()), (19, Need::Input, "ok auth\n".into()));
    assert_eq!(session.deadline(&rules), None, "who is known may be idle");
    for _ in 0..5 {
        assert_eq!(say(&mut session, 8_000, &[b'\n'; 1000]), nothing(1000));
    }
    // The others hear why they are sent away.
    let mut session = Session::new(false, Budget::new(1 << 20).account(0, None), 0);
    let mut out = Replies::default();
    session.expire(10_000, &mut out);
    assert_eq!(text(&out), "bye idle\n");
}

/// What has arrived and is not read yet.
fn arrived(stream: &mut UnixStream) -> String {
    let mut bytes = [0; 256];
    stream.set_nonblocking(true).unwrap();
    let count = match stream.read(&mut bytes) {
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    };
    stream.set_nonblocking(false).unwrap();
    text(&bytes[..count])
}

/// Clients that wait for mailbox 0, and another that is served beside them.
struct Crowd {
    stage: Stage,
    waiters: Vec<UnixStream>,
    other: UnixStream,
}

const CROWD: usize = 600;

impl Crowd {
    /// Every one of them has sent `request`, and the worker has seen it.
    fn new(request: &str) -> Self {
        whorl::process::raise_descriptor_limit();
        let stage = Stage::new(4, 1024, 1024, 1 << 20);
        let waiters = (0..CROWD).map(|_| {
            let mut stream = stage.connect();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        });
        let waiters = waiters.collect();
        let mut other = stage.connect();
        other.write_all(b"r 1\n").unwrap();
        let mut crowd = Self { stage, waiters, other };
        // In the order in which they came: the other is the last to be seen.
        while arrived(&mut crowd.other).is_empty() {
            crowd.stage.turn();
        }
        crowd
    }

    /// The other asks, and the worker goes on until it has its answer: after so many turns.
    fn ask(&mut self, request: &str, reply: &str) -> usize {
        self.other.write_all(request.as_bytes()).unwrap();
        let mut got = String::new();
        for turns in 1.. {
            self.stage.turn();
            got += &arrived(&mut self.other);
            if got == reply {
                return turns;
            }
            // Each turn takes in a few hundred who have asked before it did.
            assert!(got.is_empty() && turns < 10, "{got:?} after {turns} turns");
        }
        unreachable!()
    }

    /// One turn of the worker, in which the other is served. Who else got something, and what.
    fn turn(&mut self) -> Vec<(usize, String)> {
        assert_eq!(self.ask("r 1\n", "data 1 0 0\n\n"), 1, "the other has a part in every turn");
        self.replies()
    }

    /// Who has got something since the last time, and what.
    fn replies(&mut self) -> Vec<(usize, String)> {
        let all = self.waiters.iter_mut().enumerate().map(|(number, stream)| (number, arrived(stream)));
        all.filter(|(_, reply)| !reply.is_empty()).collect()
    }

    fn store(&mut self, version: u64) -> Vec<(usize, String)> {
        self.ask("w 0 1\nx\n", &format!("ok 0 {version}\n"));
        self.replies()
    }
}

/// The most that one turn may do for those who wait.
const PART: usize = CROWD / 4;

#[test]
fn thousands_who_wait_for_one_mailbox_leave_the_others_their_turns() {
    let mut crowd = Crowd::new("r 0 0\n");
    let mut told = crowd.store(1);
    let mut turns = 0;
    while told.len() < CROWD {
        turns += 1;
        let now = crowd.turn();
        assert!(!now.is_empty() && now.len() <= PART, "{} in one turn", now.len());
        told.extend(now);
    }
    assert!(turns >= CROWD / PART - 1, "{turns} turns");
    let order: Vec<usize> = told.iter().map(|(number, _)| *number).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), CROWD, "each of them once");
    assert!(told.iter().all(|(_, reply)| reply == "data 0 1 1\nx\n"));
}

/// Who is told late is told of the newest; who waits again at once comes after those who were not told yet.
#[test]
fn nobody_who_waits_is_forgotten_whatever_is_stored_meanwhile() {
    let mut crowd = Crowd::new("r 0 0\n");
    let mut heard = vec![0u64; CROWD];
    let mut version = 0;
    let mut hear = |crowd: &mut Crowd, replies: Vec<(usize, String)>, again: bool| {
        for (number, reply) in replies {
            let at: u64 = reply.split(' ').nth(2).unwrap().parse().unwrap();
            assert!(at > heard[number], "{reply} after {}", heard[number]);
            heard[number] = at;
            if again {
                crowd.waiters[number].write_all(format!("r 0 {at}\n").as_bytes()).unwrap();
            }
        }
        heard.iter().filter(|at| **at == 0).count()
    };
    // Faster than they can be told.
    let mut untold = CROWD;
    while untold > 0 {
        version += 1;
        let replies = crowd.store(version);
        assert!(version < 100, "{untold} starve");
        untold = hear(&mut crowd, replies, true);
    }
    // And in the end everybody knows the last one.
    version += 1;
    let mut replies = crowd.store(version);
    for _ in 0..40 {
        hear(&mut crowd, replies, true);
        crowd.ask("r 1\n", "data 1 0 0\n\n");
        replies = crowd.replies();
    }
    assert!(replies.is_empty());
    assert!(heard.iter().all(|at| *at == version), "{heard:?}");
}

#[test]
fn thousands_whose_time_is_up_leave_the_others_their_turns() {
    let mut crowd = Crowd::new("r 0 0 500\n");
    let mut told = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(502) {
        std::thread::sleep(Duration::from_millis(10));
    }
    // On a slow machine some have had their time while the others came.
    told.extend(crowd.replies());
    while told.len() < CROWD {
        let now = crowd.turn();
        assert!(now.len() <= PART, "{} in one turn", now.len());
        told.extend(now);
    }
    assert!(told.iter().all(|(_, reply)| reply == "same 0 0\n"));
}

#[test]
fn thousands_of_requests_at_once_leave_the_others_their_turns() {
    let mut stage = Stage::new(4, 1 << 20, 1 << 20, 1 << 30);
    let (mut greedy, mut other) = (stage.connect(), stage.connect());
    const ALL: usize = 30_000;
    // Requests that cost the client four bytes, and lines that are not even answered.
    other.write_all(b"r 1\n").unwrap();
    while arrived(&mut other).is_empty() {
        stage.turn();
    }
    greedy.write_all(b"i\n\n\n".repeat(ALL).as_slice()).unwrap();
    let mut answered = 0;
    while answered < ALL {
        other.write_all(b"r 1\n").unwrap();
        stage.turn();
        let mut now = 0;
        loop {
            let lines = arrived(&mut greedy);
            now += lines.matches('\n').count();
            if lines.is_empty() {
                break;
            }
        }
        assert!(now <= ALL / 4, "{now} in one turn");
        answered += now;
        assert_eq!(arrived(&mut other), "data 1 0 0\n\n", "the other has a part in every turn");
    }
}
