//! Many clients that wait, or send requests, at the same time. A worker does a part of their work in each turn, so that
//! each turn serves the other clients, too. The tests count replies between two replies to another client, never time.

use super::test_worker::TestWorker;
use crate::kit::mailbox_server::text;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

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

/// Clients that wait for mailbox 0, and another client that is served beside them.
struct ManyWaiters {
    worker: TestWorker,
    waiters: Vec<UnixStream>,
    other: UnixStream,
}

const COUNT: usize = 600;

impl ManyWaiters {
    /// Connects the clients. Each has sent `request`, and the worker has read it.
    fn new(request: &str) -> Self {
        whorl::internal::os::limits::raise_descriptor_limit();
        let worker = TestWorker::new(4, 1024, 1024, 1 << 20);
        let waiters = (0..COUNT).map(|_| {
            let mut stream = worker.connect();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        });
        let waiters = waiters.collect();
        let mut other = worker.connect();
        other.write_all(b"r 1\n").unwrap();
        let mut waiters = Self { worker, waiters, other };
        // The worker reads in the order of connecting, so it reads the other client's request last.
        while arrived(&mut waiters.other).is_empty() {
            waiters.worker.turn();
        }
        waiters
    }

    /// Sends a request of the other client, and runs turns until it has its reply. Returns the number of turns.
    fn turns_until(&mut self, request: &str, reply: &str) -> usize {
        self.other.write_all(request.as_bytes()).unwrap();
        let mut got = String::new();
        for turns in 1.. {
            self.worker.turn();
            got += &arrived(&mut self.other);
            if got == reply {
                return turns;
            }
            // Each turn reads from a few hundred clients that sent their requests before.
            assert!(got.is_empty() && turns < 10, "{got:?} after {turns} turns");
        }
        unreachable!()
    }

    /// Runs one turn of the worker, in which the other client is served. Returns the replies to the waiting clients.
    fn turn(&mut self) -> Vec<(usize, String)> {
        assert_eq!(self.turns_until("r 1\n", "data 1 0 0\n\n"), 1, "the other has a part in every turn");
        self.replies()
    }

    /// The replies that have arrived since the last call, each with its client.
    fn replies(&mut self) -> Vec<(usize, String)> {
        let all = self.waiters.iter_mut().enumerate().map(|(number, stream)| (number, arrived(stream)));
        all.filter(|(_, reply)| !reply.is_empty()).collect()
    }

    fn store(&mut self, version: u64) -> Vec<(usize, String)> {
        self.turns_until("w 0 1\nx\n", &format!("ok 0 {version}\n"));
        self.replies()
    }
}

/// The most replies to waiting clients in one turn.
const PART: usize = COUNT / 4;

#[test]
fn many_waiters_of_one_mailbox_do_not_delay_other_clients() {
    let mut waiters = ManyWaiters::new("r 0 0\n");
    let mut replies = waiters.store(1);
    let mut turns = 0;
    while replies.len() < COUNT {
        turns += 1;
        let now = waiters.turn();
        assert!(!now.is_empty() && now.len() <= PART, "{} in one turn", now.len());
        replies.extend(now);
    }
    assert!(turns >= COUNT / PART - 1, "{turns} turns");
    let order: Vec<usize> = replies.iter().map(|(number, _)| *number).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), COUNT, "each of them once");
    assert!(replies.iter().all(|(_, reply)| reply == "data 0 1 1\nx\n"));
}

/// A client that is notified late gets the newest message. A client that waits again at once comes after those not
/// notified yet.
#[test]
fn each_waiter_is_notified_however_often_the_mailbox_changes() {
    let mut waiters = ManyWaiters::new("r 0 0\n");
    let mut versions = vec![0u64; COUNT];
    let mut version = 0;
    let mut take_in = |waiters: &mut ManyWaiters, replies: Vec<(usize, String)>, again: bool| {
        for (number, reply) in replies {
            let at: u64 = reply.split(' ').nth(2).unwrap().parse().unwrap();
            assert!(at > versions[number], "{reply} after {}", versions[number]);
            versions[number] = at;
            if again {
                waiters.waiters[number].write_all(format!("r 0 {at}\n").as_bytes()).unwrap();
            }
        }
        versions.iter().filter(|at| **at == 0).count()
    };
    // Stores faster than the clients can be notified.
    let mut starving = COUNT;
    while starving > 0 {
        version += 1;
        let replies = waiters.store(version);
        assert!(version < 100, "{starving} starve");
        starving = take_in(&mut waiters, replies, true);
    }
    // At the end each client has the last message.
    version += 1;
    let mut replies = waiters.store(version);
    for _ in 0..40 {
        take_in(&mut waiters, replies, true);
        waiters.turns_until("r 1\n", "data 1 0 0\n\n");
        replies = waiters.replies();
    }
    assert!(replies.is_empty());
    assert!(versions.iter().all(|at| *at == version), "{versions:?}");
}

#[test]
fn many_timeouts_do_not_delay_other_clients() {
    let mut waiters = ManyWaiters::new("r 0 0 500\n");
    let mut replies = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(502) {
        std::thread::sleep(Duration::from_millis(10));
    }
    // On a slow machine some timeouts have passed while the others connected.
    replies.extend(waiters.replies());
    while replies.len() < COUNT {
        let now = waiters.turn();
        assert!(now.len() <= PART, "{} in one turn", now.len());
        replies.extend(now);
    }
    assert!(replies.iter().all(|(_, reply)| reply == "same 0 0\n"));
}

#[test]
fn many_requests_at_once_do_not_delay_other_clients() {
    let mut worker = TestWorker::new(4, 1 << 20, 1 << 20, 1 << 30);
    let (mut greedy, mut other) = (worker.connect(), worker.connect());
    const ALL: usize = 30_000;
    // Requests that cost the client four bytes, and lines that get no reply.
    other.write_all(b"r 1\n").unwrap();
    while arrived(&mut other).is_empty() {
        worker.turn();
    }
    greedy.write_all(b"i\n\n\n".repeat(ALL).as_slice()).unwrap();
    let mut answered = 0;
    while answered < ALL {
        other.write_all(b"r 1\n").unwrap();
        worker.turn();
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
