//! Memory for data in flight. Greedy clients have all of it, and the others live on their reserves.

use super::test_worker::TestWorker;
use crate::kit::mailbox_server::{expect, read_line};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use whorl::internal::mailbox_server::worker::Shared;
use whorl::internal::mailbox_server::worker_queue::{WorkerMessage, WorkerQueue};
use whorl::internal::os::close_on_fork::CloseOnForkFd;

/// A running worker with so little memory for data in flight that greedy clients have all of it.
struct Scarce {
    queue: Arc<WorkerQueue>,
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
    _greedy: Vec<UnixStream>,
}

const PACKET: usize = 64 << 10;
const QUARTER: usize = 4 * PACKET;

impl Scarce {
    fn new() -> Self {
        let test_worker = TestWorker::new(4, QUARTER, PACKET, 4 * QUARTER);
        let TestWorker { worker, queue, shared, .. } = test_worker;
        let worker = std::thread::spawn(move || worker.run().unwrap());
        let mut scarce = Self { queue, shared, worker: Some(worker), _greedy: Vec::new() };
        // Each client stages a message without an end, until it is refused with one line, and stays connected.
        let mut refused = 0;
        while refused < 2 {
            let mut stream = scarce.connect();
            let mut staged = 0;
            loop {
                stream.write_all(&packet(0, PACKET, true)).unwrap();
                let reply = read_line(&mut stream);
                if reply != format!("more 0 {}", staged + PACKET) {
                    let full = format!("err full {} exceeds the mailbox, {QUARTER}", staged + PACKET);
                    let fault = "err fault no memory for these data now, try again";
                    assert!(reply == fault || reply == full && staged == QUARTER, "{reply} after {staged}");
                    refused += usize::from(reply == fault);
                    break;
                }
                staged += PACKET;
            }
            expect(&mut stream, "i\n", "info 1 4 262144 65536\n");
            // Then it takes all the memory that it can get.
            for _ in 0..staged / PACKET {
                stream.write_all(&packet(0, PACKET, true)).unwrap();
                read_line(&mut stream);
            }
            scarce._greedy.push(stream);
        }
        assert!(scarce.shared.budget.left() < PACKET, "{} are left", scarce.shared.budget.left());
        scarce
    }

    fn connect(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        self.queue.send(WorkerMessage::Serve {
            socket: CloseOnForkFd::of(theirs.into()).expect("a descriptor"),
            ticket: None,
            share: None,
        });
        ours
    }
}

impl Drop for Scarce {
    fn drop(&mut self) {
        self.queue.send(WorkerMessage::End);
        let _ = self.worker.take().unwrap().join();
        if !std::thread::panicking() {
            assert_eq!(self.shared.budget.left(), 4 * QUARTER, "all memory is given back");
        }
    }
}

fn packet(mailbox: u32, size: usize, more: bool) -> Vec<u8> {
    let mut bytes = format!("w {mailbox} {size}{}\n", if more { "+" } else { "" }).into_bytes();
    bytes.resize(bytes.len() + size, b'x');
    bytes.push(b'\n');
    bytes
}

#[test]
fn where_others_have_all_the_memory_a_packet_comes_and_goes() {
    let scarce = Scarce::new();
    let mut stream = scarce.connect();
    for round in 1..=3 {
        // In two pieces, so that the server must keep the first one.
        let bytes = packet(1, PACKET, false);
        stream.write_all(&bytes[..PACKET / 2]).unwrap();
        expect(&mut scarce.connect(), "r 2\n", "data 2 0 0\n\n");
        stream.write_all(&bytes[PACKET / 2..]).unwrap();
        assert_eq!(read_line(&mut stream), format!("ok 1 {round}"));
        expect(&mut stream, "r 1\n", &format!("data 1 {round} 65536\n{}\n", "x".repeat(PACKET)));
    }
    // More than that is refused, and the client is still served.
    stream.write_all(&packet(1, PACKET, true)).unwrap();
    stream.write_all(&packet(1, PACKET, false)).unwrap();
    assert_eq!(read_line(&mut stream), "more 1 65536");
    assert_eq!(read_line(&mut stream), "err fault no memory for these data now, try again");
    expect(&mut stream, "r 2\n", "data 2 0 0\n\n");
}

#[test]
fn where_others_have_all_the_memory_no_client_is_closed() {
    const REQUESTS: usize = 100;
    let scarce = Scarce::new();
    let mut writer = scarce.connect();
    writer.write_all(&packet(1, PACKET, false)).unwrap();
    assert_eq!(read_line(&mut writer), "ok 1 1");
    let reply = format!("data 1 1 65536\n{}\n", "x".repeat(PACKET));
    // One client does not read its replies for a while. One sends much behind a request that waits.
    let mut slow = scarce.connect();
    slow.write_all(&b"r 1\n".repeat(REQUESTS)).unwrap();
    let mut early = scarce.connect();
    let mut mouth = early.try_clone().unwrap();
    let talking = std::thread::spawn(move || {
        mouth.write_all(b"r 3 0\n").unwrap();
        mouth.write_all(&b"r 2\n".repeat(REQUESTS * 1000)).unwrap();
    });
    for _ in 0..20 {
        expect(&mut writer, "r 2\n", "data 2 0 0\n\n");
    }
    for _ in 0..REQUESTS {
        expect(&mut slow, "", &reply);
    }
    expect(&mut writer, "w 3 1\nx\n", "ok 3 1\n");
    expect(&mut early, "", "data 3 1 1\nx\n");
    for _ in 0..REQUESTS * 1000 {
        expect(&mut early, "", "data 2 0 0\n\n");
    }
    talking.join().unwrap();
}
