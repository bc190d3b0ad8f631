//! Peers that flood, lie, stop half-way or leave at the wrong moment, on either side of the control protocol.

use crate::kit::{LIMIT, Running, SOON, Sandbox, TRANSPORTS, is_readable, run, signal, start, until};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use whorl::error::Refusal;
use whorl::internal::registry::RuntimeDir;
use whorl::internal::registry::protocol::{ControlMessage, RECORD, Record};
use whorl::internal::shm::ring::Segment;
use whorl::{Name, ReceiveError, Received, Receiver, SendError, Sender, Start};
use whorl_core::layout::Geometry;

fn runtime(sandbox: &Sandbox) -> RuntimeDir {
    RuntimeDir::open_in(&sandbox.at("run"), "whorl").unwrap()
}

fn name() -> Name {
    "x".parse().unwrap()
}

fn socket() -> OwnedFd {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

fn address(directory: &RuntimeDir) -> SocketAddrUnix {
    SocketAddrUnix::new(directory.path_of("x.sock")).unwrap()
}

/// A connection to the owner of `x`, over which a test may send anything.
fn connection(directory: &RuntimeDir) -> OwnedFd {
    let client = socket();
    // The owner binds its socket a moment before it listens.
    until(SOON, "the owner listens", || rustix::net::connect(&client, &address(directory)).is_ok());
    client
}

fn say(client: &OwnedFd, message: ControlMessage) {
    rustix::io::write(client, &Record::plain(message).encode()).unwrap();
}

/// Owns `x` without being a sender. Returns the listener, and the connection of a receiver that has just asked to join.
fn received_by_impostor(sandbox: &Sandbox, directory: &RuntimeDir) -> (Running, OwnedFd, OwnedFd) {
    let listener = socket();
    rustix::net::bind(&listener, &address(directory)).unwrap();
    rustix::net::listen(&listener, 4).unwrap();
    let recv = sandbox.start("recv x out");
    let client = rustix::net::accept(&listener).unwrap();
    assert_eq!(rustix::io::read(&client, &mut [0; RECORD]), Ok(RECORD));
    (recv, listener, client)
}

#[test]
fn a_client_that_never_stops_asking_delays_no_other() {
    let sandbox = Sandbox::new();
    let mut sender = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    let directory = runtime(&sandbox);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = connection(&directory);
        for _ in 0..4 {
            let (client, over) = (client.try_clone().unwrap(), &over);
            scope.spawn(move || {
                let record = Record::plain(ControlMessage::Status).encode();
                while !over.load(Ordering::Relaxed) && rustix::io::write(&client, &record).is_ok() {}
            });
        }
        std::thread::sleep(Duration::from_millis(100));
        let recv = sandbox.start("recv x out");
        sender.stdin().write_all(b"text").unwrap();
        sender.close_stdin();
        until(LIMIT, "the receiver has everything", || sandbox.at("out").exists());
        recv.end(LIMIT).silent_success();
        over.store(true, Ordering::Relaxed);
        sender.end(LIMIT).silent_success();
    });
}

#[test]
fn a_client_that_claims_another_ones_seat_does_not_silence_it_by_leaving() {
    let sandbox = Sandbox::new();
    let small = Sender::options().ring(128).seats(4);
    run(&mut sandbox.words("ls")).silent_success();
    let mut sender = small.runtime_dir(runtime(&sandbox).path()).create(&name()).unwrap();
    let liar = connection(&runtime(&sandbox));
    say(&liar, ControlMessage::Join(Start::First));
    assert!(is_readable(&liar, SOON));
    // The owner tells the next receiver to try seat 1 first.
    say(&liar, ControlMessage::Seated(1));
    let options = Receiver::options().timeout(LIMIT);
    let mut receiver = options.clone().runtime_dir(runtime(&sandbox).path()).join(&name()).unwrap();
    let mut buffer = [0; 16];
    while receiver.arm().unwrap() && is_readable(&receiver, Duration::from_millis(100)) {
        assert_eq!(receiver.try_recv(&mut buffer), Err(ReceiveError::Empty));
    }
    drop(liar);
    std::thread::sleep(Duration::from_millis(300));
    sender.send(b"news").unwrap();
    assert!(is_readable(&receiver, SOON), "it was armed, and is not notified");
    assert_eq!(receiver.try_recv(&mut buffer), Ok(Received::Bytes(4)));
}

#[test]
fn an_owner_that_goes_before_one_has_sat_down_is_not_the_end_of_waiting() {
    let sandbox = Sandbox::new();
    run(&mut sandbox.words("ls")).silent_success();
    let directory = runtime(&sandbox);
    let (recv, listener, client) = received_by_impostor(&sandbox, &directory);
    // Grants the ring, and ends.
    let (segment, _ring) = Segment::create(Geometry::new(1024, 4).unwrap()).unwrap();
    let record = Record::plain(ControlMessage::Ring(0)).encode();
    whorl::internal::os::socket::send_with_descriptors(&client, &record, &segment.objects()).unwrap();
    drop((client, listener));
    sandbox.until_awaited("x", 1);
    run(&mut sandbox.script("echo whole | shell send x")).silent_success();
    recv.end(LIMIT).silent_success();
    assert_eq!(std::fs::read(sandbox.at("out")).unwrap(), b"whole\n");
    sandbox.nothing_left();
}

/// The head of a frame, as `channel/transport/frame.rs` draws it.
fn head(length: u32, kind: u32, argument: u64) -> Vec<u8> {
    [&length.to_le_bytes()[..], &kind.to_le_bytes(), &argument.to_le_bytes()].concat()
}

#[test]
fn a_malformed_or_cut_stream_makes_no_file_and_has_its_exit_code() {
    let (three, sum) = ([head(3, 0, 0), b"abc".to_vec()].concat(), [&[1][..], &[7; 16]].concat());
    let none = [0; 17];
    let cases: [(Vec<u8>, i32, &str); 8] = [
        (Vec::new(), 4, "the sender died"),
        (vec![0xff; 64], 5, "invalid protocol message"),
        (head(0, 0, 0), 5, "invalid protocol message"),
        ([&head(3, 0, 0)[..], b"ab"].concat(), 4, "the sender died"),
        ([&three[..], &head(17, 2, 3)[..9]].concat(), 4, "the sender died"),
        ([&three[..], &head(17, 2, 4), &none].concat(), 5, "3 bytes arrived of 4"),
        ([&three[..], &head(17, 2, 3), &sum].concat(), 5, "another checksum"),
        ([&head(0, 1, u64::MAX)[..], &head(17, 2, u64::MAX), &none].concat(), 1, "cannot set the length"),
    ];
    for (bytes, code, words) in cases {
        let sandbox = Sandbox::new();
        run(&mut sandbox.words("ls")).silent_success();
        let directory = runtime(&sandbox);
        let (recv, _listener, client) = received_by_impostor(&sandbox, &directory);
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let record = Record::plain(ControlMessage::Stream).encode();
        whorl::internal::os::socket::send_with_descriptors(&client, &record, &[theirs.as_fd()]).unwrap();
        drop(theirs);
        ours.write_all(&bytes).unwrap();
        drop(ours);
        recv.end(LIMIT).refusal(code, &["recv: ", words]);
        assert!(!sandbox.at("out").exists(), "{words}");
        sandbox.only_names_left(SOON);
    }
}

#[test]
fn a_buffer_that_is_too_short_costs_no_byte_over_sockets_either() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut sender = sandbox.start_fed(&format!("send x {transport}"));
        let options = Receiver::options().timeout(LIMIT);
        sandbox.until_owned("x");
        let mut receiver = options.clone().runtime_dir(runtime(&sandbox).path()).join(&name()).unwrap();
        sender.stdin().write_all(b"ten bytes.").unwrap();
        let mut short = [0; 4];
        for _ in 0..2 {
            let deadline = std::time::Instant::now() + SOON;
            assert_eq!(
                receiver.recv_deadline(&mut short, deadline),
                Err(ReceiveError::TooLong { length: 10 })
            );
        }
        let mut buffer = vec![0; receiver.max_message_len()];
        assert_eq!(receiver.recv(&mut buffer), Ok(Received::Bytes(10)), "{transport}");
        assert_eq!(&buffer[..10], b"ten bytes.");
        sender.close_stdin();
        assert!(matches!(receiver.recv(&mut buffer), Ok(Received::End(end)) if end.total == 10));
        sender.end(LIMIT).silent_success();
    }
}

#[test]
fn nothing_follows_the_end() {
    let sandbox = Sandbox::new();
    run(&mut sandbox.words("ls")).silent_success();
    let mut sender = Sender::options().runtime_dir(runtime(&sandbox).path()).create(&name()).unwrap();
    sender.send(b"first").unwrap();
    sender.close().unwrap();
    assert_eq!(sender.send(b"second"), Err(SendError::Closed));
    let options = Receiver::options().timeout(LIMIT);
    let mut receiver = options.clone().runtime_dir(runtime(&sandbox).path()).join(&name()).unwrap();
    let mut buffer = vec![0; receiver.max_message_len()];
    assert_eq!(receiver.recv(&mut buffer), Ok(Received::Bytes(5)));
    assert!(matches!(receiver.recv(&mut buffer), Ok(Received::End(end)) if end.total == 5));
    assert_eq!(sender.finish().unwrap().done, 1);
}

/// A receiver may read everything between its admission and the moment at which the control thread records it.
#[test]
fn a_receiver_that_reads_everything_at_once_is_counted() {
    let sandbox = Sandbox::new();
    run(&mut sandbox.words("ls")).silent_success();
    for round in 0..1500 {
        let small = Sender::options().ring(64).seats(2);
        let mut sender = small.runtime_dir(runtime(&sandbox).path()).create(&name()).unwrap();
        sender.send(b"all").unwrap();
        sender.close().unwrap();
        let receiver = std::thread::spawn({
            let directory = runtime(&sandbox);
            move || {
                let options = Receiver::options().timeout(LIMIT);
                let mut receiver = options.clone().runtime_dir(directory.path()).join(&name()).unwrap();
                let mut buffer = [0; 16];
                while !matches!(receiver.recv(&mut buffer).unwrap(), Received::End(_)) {}
                receiver
            }
        });
        let _receiver = receiver.join().unwrap();
        assert_eq!(sender.finish_timeout(LIMIT).unwrap().done, 1, "{round}");
    }
}

#[test]
fn a_name_that_has_gone_to_another_meanwhile_is_not_taken_away() {
    let sandbox = Sandbox::new();
    let silent = sandbox.start_fed("send x");
    until(SOON, "it answers", || sandbox.ls().first().is_some_and(|found| found["state"] == "waiting"));
    signal(silent.pid(), Signal::STOP);
    // Each gives the silent owner two seconds, and one begins in the middle of the other's. The slower one finds the successor,
    // or no owner.
    let asking = || {
        let remover = sandbox.start("rm --force x");
        let descriptors = format!("/proc/{}/fd", remover.pid());
        until(LIMIT, "it asks the owner", || {
            let links = std::fs::read_dir(&descriptors).into_iter().flatten().flatten();
            let mut targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
            targets.any(|target| target.to_string_lossy().starts_with("socket:"))
        });
        remover
    };
    let first = asking();
    std::thread::sleep(Duration::from_secs(1));
    let second = asking();
    until(LIMIT, "one of them has removed the name", || !sandbox.socket("x").exists());
    let mut successor = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    let codes = [first, second].map(|remover| remover.end(LIMIT).code());
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(sandbox.socket("x").exists(), "the successor's name was taken away");
    assert!(successor.is_running());
    signal(silent.pid(), Signal::KILL);
}

/// A client that sends nothing, or joins and takes no seat, uses a descriptor of the owner. The oldest such client
/// makes room.
#[test]
fn silent_clients_make_room_for_clients_that_join() {
    let sandbox = Sandbox::new();
    // Fewer descriptors than silent clients, of which there are fewer than the limit allows.
    let mut command = sandbox.script("ulimit -n 100; exec \"$SHELL_BIN\" send x");
    command.stdin(std::process::Stdio::piped());
    let mut sender = start(&mut command);
    sandbox.until_owned("x");
    let directory = runtime(&sandbox);
    whorl::internal::os::limits::raise_descriptor_limit();
    let silent: Vec<OwnedFd> = (0..200).map(|_| connection(&directory)).collect();
    let mut record = [0; RECORD];
    assert!(is_readable(&silent[0], SOON));
    assert_eq!(rustix::io::read(&silent[0], &mut record), Ok(RECORD), "the oldest hears why it is to go");
    assert_eq!(Record::decode(&record).unwrap().message, ControlMessage::Refused(Refusal::Unable));
    let recv = sandbox.start("recv x out");
    sandbox.until_joined("x", 1);
    sender.stdin().write_all(b"text").unwrap();
    sender.close_stdin();
    recv.end(LIMIT).silent_success();
    sender.end(LIMIT).has_code(0);
    assert_eq!(std::fs::read(sandbox.at("out")).unwrap(), b"text");
    // And with descriptors for all of them.
    let sender = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    let silent: Vec<OwnedFd> = (0..300).map(|_| connection(&directory)).collect();
    assert!(is_readable(&silent[43], SOON));
    assert_eq!(rustix::io::read(&silent[43], &mut record), Ok(RECORD));
    assert!(!is_readable(&silent[44], Duration::ZERO), "there was room for this one");
    sandbox.ls();
    signal(sender.pid(), Signal::TERM);
    sender.end(LIMIT);
}
