//! The library's channels: waiting in event loops, forks, other versions, hostile peers, and the examples.

use crate::kit::{
    LIMIT, SOON, Sandbox, TRANSPORTS, is_readable, next, noise, own_test, ran_alone, run, signal, skip, until,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use rustix::time::Timespec;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use whorl::error::Refusal;
use whorl::internal::registry::RuntimeDir;
use whorl::internal::registry::protocol::{ControlMessage, RECORD, Record};
use whorl::{JoinError, Name, ReceiveError, Received, Receiver, SendError, Sender, SenderOptions, Start};

/// A runtime directory for channels of this process.
struct TestRegistry {
    parent: TempDir,
}

impl TestRegistry {
    fn new() -> Self {
        Self { parent: tempfile::tempdir().unwrap() }
    }

    fn directory(&self) -> RuntimeDir {
        RuntimeDir::open_in(self.parent.path(), "whorl").unwrap()
    }

    fn sender(&self, options: SenderOptions) -> Sender {
        options.runtime_dir(self.directory().path()).create(&name()).unwrap()
    }

    fn try_join(&self, from: Start) -> Result<Receiver, JoinError> {
        let options = Receiver::options().start(from).timeout(LIMIT);
        options.clone().runtime_dir(self.directory().path()).join(&name())
    }

    fn join(&self) -> Receiver {
        self.try_join(Start::First).unwrap()
    }
}

fn name() -> Name {
    "x".parse().unwrap()
}

fn small() -> SenderOptions {
    Sender::options().ring(128).seats(4)
}

/// Takes all messages, and arms until the receiver may sleep. Returns how many it took.
fn rest(receiver: &mut Receiver) -> u32 {
    let (mut taken, mut buffer) = (0, [0; 16]);
    loop {
        match receiver.try_recv(&mut buffer) {
            Ok(Received::Bytes(_)) => taken += 1,
            Err(ReceiveError::Empty) if receiver.arm().unwrap() => {
                // The answer to the first arming makes it readable once.
                if !is_readable(&*receiver, Duration::from_millis(50)) {
                    return taken;
                }
            }
            Err(ReceiveError::Empty) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_armed_receiver_is_notified_once_and_an_unarmed_one_is_not() {
    let here = TestRegistry::new();
    let mut sender = here.sender(small());
    let (mut armed, mut unarmed) = (here.join(), here.join());
    assert_eq!((rest(&mut armed), rest(&mut unarmed)), (0, 0));
    // Both were armed. The second takes its notification, and does not arm again.
    sender.send(b"1").unwrap();
    assert!(is_readable(&armed, SOON) && is_readable(&unarmed, SOON));
    let mut buffer = [0; 16];
    assert_eq!(unarmed.try_recv(&mut buffer), Ok(Received::Bytes(1)));
    assert_eq!(rest(&mut armed), 1);
    assert_eq!(unarmed.try_recv(&mut buffer), Err(ReceiveError::Empty));
    assert!(!is_readable(&unarmed, Duration::ZERO), "receiving drained the notification");
    sender.send(b"2").unwrap();
    assert!(is_readable(&armed, SOON));
    assert!(!is_readable(&unarmed, Duration::from_millis(50)), "an unarmed receiver was notified");
    assert_eq!(rest(&mut armed), 1);
    assert_eq!(unarmed.try_recv(&mut buffer), Ok(Received::Bytes(1)));
    // The end of the stream is a notification, too.
    sender.close().unwrap();
    assert!(is_readable(&armed, SOON));
    assert!(matches!(armed.try_recv(&mut buffer), Ok(Received::End(end)) if end.total == 2));
    assert_eq!(armed.arm(), Ok(false));
}

#[test]
fn no_news_is_lost_between_looking_and_sleeping() {
    const MESSAGES: u32 = 20_000;
    const SLEEPS: u32 = 10;
    let (slept, total) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(u32::MAX / 2)));
    let here = TestRegistry::new();
    let mut sender = here.sender(small());
    let mut receivers = [here.join(), here.join()];
    let (sleeps, all) = (slept.clone(), total.clone());
    let counting = std::thread::spawn(move || {
        let (mut counts, mut buffer) = ([0; 2], [0; 16]);
        while counts.iter().sum::<u32>() < 2 * all.load(SeqCst) {
            let mut may_sleep = true;
            for (receiver, count) in receivers.iter_mut().zip(&mut counts) {
                match receiver.try_recv(&mut buffer) {
                    Ok(Received::Bytes(_)) => (*count, may_sleep) = (*count + 1, false),
                    Err(ReceiveError::Empty) => may_sleep &= receiver.arm().unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            if may_sleep {
                sleeps.fetch_add(1, SeqCst);
                let mut ready = receivers.each_ref().map(|receiver| PollFd::new(receiver, PollFlags::IN));
                let time = Timespec { tv_sec: SOON.as_secs() as i64, tv_nsec: 0 };
                assert!(poll(&mut ready, Some(&time)).unwrap() > 0, "armed, and never notified: {counts:?}");
            }
        }
        receivers
    });
    // Sends until the receivers have slept often enough. The last message wakes them, so the total is set before it.
    let begun = Instant::now();
    for number in 1.. {
        let is_last = number >= MESSAGES && (slept.load(SeqCst) > SLEEPS || begun.elapsed() > LIMIT);
        if is_last {
            total.store(number, SeqCst);
        }
        sender.send(&number.to_le_bytes()).unwrap();
        if is_last {
            break;
        }
    }
    let receivers = counting.join().unwrap();
    let sleeps = slept.load(SeqCst);
    assert!(sleeps > SLEEPS, "it slept {sleeps} times, which tries nothing");
    drop(receivers);
}

#[test]
fn a_receiver_in_an_event_loop_learns_of_its_senders_death() {
    let sandbox = Sandbox::new();
    for transport in TRANSPORTS {
        let sender = sandbox.start_fed(&format!("send x {transport}"));
        let directory = RuntimeDir::open_in(&sandbox.at("run"), "whorl").unwrap();
        let options = Receiver::options().timeout(LIMIT);
        let mut receiver = options.clone().runtime_dir(directory.path()).join(&name()).unwrap();
        rest(&mut receiver);
        signal(sender.pid(), Signal::KILL);
        assert!(is_readable(&receiver, SOON));
        let mut buffer = vec![0; receiver.max_message_len()];
        let mut found = Ok(Received::Hole(0));
        until(SOON, "it prints that", || {
            found = receiver.try_recv(&mut buffer);
            found != Err(ReceiveError::Empty)
        });
        assert_eq!(found, Err(ReceiveError::SenderDied));
    }
}

#[test]
fn limits_are_errors_and_leave_things_as_they_were() {
    let here = TestRegistry::new();
    let mut sender = here.sender(small());
    let mut receiver = here.join();
    assert_eq!(sender.send(&[0; 57]), Err(SendError::TooLong { length: 57, most: 56 }));
    for number in 0..4_u8 {
        sender.try_send(&[number; 24]).unwrap();
    }
    assert_eq!(sender.try_send(b"x"), Err(SendError::Full));
    let soon = Instant::now() + Duration::from_millis(20);
    assert_eq!(sender.send_deadline(b"x", soon), Err(SendError::TimedOut));
    assert_eq!(receiver.try_recv(&mut [0; 23]), Err(ReceiveError::TooLong { length: 24 }));
    let mut buffer = [0; 24];
    assert_eq!(receiver.try_recv(&mut buffer), Ok(Received::Bytes(24)));
    assert_eq!(buffer, [0; 24]);
    // Four seats: the fifth is refused.
    let others: Vec<_> = (0..3).map(|_| here.try_join(Start::Now).unwrap()).collect();
    assert!(matches!(here.try_join(Start::Now), Err(JoinError::Refused(Refusal::Full))));
    drop(others);
    drop(here.try_join(Start::Now).unwrap());
    drop(sender);
    let mut ends = Vec::new();
    while ends.is_empty() {
        match receiver.recv(&mut buffer) {
            Ok(Received::Bytes(_)) => {}
            other => ends.push(other),
        }
    }
    assert_eq!(ends, [Err(ReceiveError::SenderDied)], "a sender that does not finish is no end");
}

#[test]
fn in_a_forked_child_handles_return_errors_and_change_nothing() {
    if ran_alone(module_path!(), "in_a_forked_child_handles_return_errors_and_change_nothing") {
        return;
    }
    let here = TestRegistry::new();
    let mut sender = here.sender(small());
    let mut receiver = here.join();
    let (mut has_dropped, dropped) = std::io::pipe().unwrap();
    let (may_end, end) = std::io::pipe().unwrap();
    // SAFETY: the child only calls what is tested, and ends at once.
    match unsafe { libc::fork() } {
        0 => {
            let sends = sender.send(b"x") == Err(SendError::Forked);
            let receives = receiver.try_recv(&mut [0; 16]) == Err(ReceiveError::Forked);
            drop((sender, receiver, end));
            let _ = rustix::io::write(&dropped, b".");
            // It outlives the parent's handles, and must not keep them alive.
            let _ = rustix::io::read(&may_end, &mut [0]);
            // SAFETY: as above.
            unsafe { libc::_exit(if sends && receives { 7 } else { 1 }) }
        }
        child => {
            has_dropped.read_exact(&mut [0]).unwrap();
            // The parent still has what the child dropped.
            sender.send(b"mine").unwrap();
            assert_eq!(receiver.recv(&mut [0; 16]), Ok(Received::Bytes(4)));
            assert_eq!(sender.receivers(), 1);
            // The parent's drop ends its part although the child still runs.
            drop(receiver);
            until(LIMIT, "the sender knows", || sender.receivers() == 0);
            drop(sender);
            drop(here.sender(small()));
            drop(end);
            let mut status = 0;
            // SAFETY: our own child.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(libc::WEXITSTATUS(status), 7, "{status}");
        }
    }
}

/// A process that owns the name `x` and answers as `speak` does.
fn impostor(
    directory: &RuntimeDir,
    speak: impl FnOnce(OwnedFd) + Send + 'static,
) -> std::thread::JoinHandle<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(directory.path_of("x.sock")).unwrap()).unwrap();
    rustix::net::listen(&socket, 4).unwrap();
    std::thread::spawn(move || speak(rustix::net::accept(&socket).unwrap()))
}

fn other_version() -> [u8; RECORD] {
    let mut record = Record::plain(ControlMessage::Status).encode();
    record[4] = 9;
    record
}

#[test]
fn another_version_is_one_line_that_names_both() {
    let sandbox = Sandbox::new();
    sandbox.make_runtime_directory();
    let directory = RuntimeDir::open_in(&sandbox.at("run"), "whorl").unwrap();
    let owner = impostor(&directory, |socket| {
        let _ = rustix::io::read(&socket, &mut [0; 64]);
        rustix::io::write(&socket, &other_version()).unwrap();
    });
    run(&mut sandbox.words("recv x")).refusal(1, &["recv: x", "version 9", "version 1"]);
    owner.join().unwrap();
    // The other way round: an old owner names its version to a newer client.
    let sender = sandbox.start_fed("send y");
    sandbox.until_owned("y");
    let flags = SocketFlags::CLOEXEC;
    let client = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let address = SocketAddrUnix::new(directory.path_of("y.sock")).unwrap();
    // A socket has its file a moment before it listens.
    until(SOON, "the sender listens", || rustix::net::connect(&client, &address).is_ok());
    rustix::io::write(&client, &other_version()).unwrap();
    let mut answer = [0; RECORD];
    assert_eq!(rustix::io::read(&client, &mut answer), Ok(RECORD));
    assert_eq!((&answer[..4], answer[4]), (&b"WHMT"[..], 1));
    assert_eq!(rustix::io::read(&client, &mut answer), Ok(0), "and hangs up");
    drop(sender);
}

#[test]
fn an_owner_that_sends_malformed_answers_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.make_runtime_directory();
    let directory = RuntimeDir::open_in(&sandbox.at("run"), "whorl").unwrap();
    let file = sandbox.file("plain", &vec![0; 1 << 20]);
    type Hand = fn(&std::path::Path) -> Vec<OwnedFd>;
    let ordinary: Hand = |file| (0..2).map(|_| std::fs::File::open(file).unwrap().into()).collect();
    let empty: Hand = |_| {
        let object = || rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        vec![object(), object()]
    };
    let one: Hand = |file| vec![std::fs::File::open(file).unwrap().into()];
    for (hand, words) in [(ordinary, "seals"), (empty, "not sealed"), (one, "does not speak")] {
        let objects = hand(&file);
        let owner = impostor(&directory, move |socket| {
            let _ = rustix::io::read(&socket, &mut [0; 64]);
            let objects: Vec<_> = objects.iter().map(AsFd::as_fd).collect();
            let record = Record::plain(ControlMessage::Ring(0)).encode();
            whorl::internal::os::socket::send_with_descriptors(&socket, &record, &objects).unwrap();
            let _ = rustix::io::read(&socket, &mut [0; 64]);
        });
        run(&mut sandbox.words("recv x")).refusal(1, &["recv: x", words]);
        owner.join().unwrap();
        std::fs::remove_file(sandbox.socket("x")).unwrap();
    }
}

#[test]
fn clients_that_send_malformed_messages_or_nothing_do_no_harm() {
    let sandbox = Sandbox::new();
    let mut sender = sandbox.start_fed("send x");
    sandbox.until_owned("x");
    let directory = RuntimeDir::open_in(&sandbox.at("run"), "whorl").unwrap();
    let mut state = 7;
    let mut silent = Vec::new();
    for round in 0..300 {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let client =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        if rustix::net::connect(&client, &SocketAddrUnix::new(directory.path_of("x.sock")).unwrap()).is_err()
        {
            continue;
        }
        let messages = [
            ControlMessage::Join(Start::First),
            ControlMessage::Seated(next(&mut state) as u32),
            ControlMessage::Armed,
        ];
        for message in messages.into_iter().take(round % 4) {
            let _ = rustix::io::write(&client, &Record::plain(message).encode());
        }
        if round % 3 == 0 {
            let _ = rustix::io::write(&client, &noise(round % 80, round as u64));
        }
        if round % 7 == 0 {
            silent.push(client);
        }
    }
    // None of them took a seat, so the sender waits for none of them.
    let recv = sandbox.start("recv x out");
    sandbox.until_joined("x", 1);
    drop(silent);
    sender.stdin().write_all(b"text").unwrap();
    sender.close_stdin();
    recv.end(LIMIT).silent_success();
    let sent = sender.end(LIMIT);
    assert!(!sent.stderr.contains("panicked"), "{sent:?}");
    assert_eq!(std::fs::read(sandbox.at("out")).unwrap(), b"text");
}

#[test]
fn the_examples_do_what_they_say() {
    let examples = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples");
    for example in ["fan_out", "late_joiner", "epoll", "tokio", "announce"] {
        let program = examples.join(example);
        if !program.exists() {
            skip(&format!("example {example}"), "it was not built with this test");
            continue;
        }
        let sandbox = Sandbox::new();
        let mut command = sandbox.program(program.to_str().unwrap());
        run(&mut command).silent_success();
        sandbox.nothing_left();
    }
}

#[test]
fn a_timeout_longer_than_any_clock_goes_is_for_ever() {
    let here = TestRegistry::new();
    let _sender = here.sender(small());
    let options = Receiver::options().timeout(Duration::MAX);
    options.clone().runtime_dir(here.directory().path()).join(&name()).unwrap();
    assert_eq!(whorl::discover(here.parent.path(), Duration::MAX).unwrap().len(), 0);
}

/// Not a test of its own: a receiver whose program closes every descriptor, as daemons do.
#[test]
fn closes_everything() {
    let Some(parent) = std::env::var_os("WHORL_TEST_PARENT") else { return };
    let directory = RuntimeDir::open_in(parent.as_ref(), "whorl").unwrap();
    let mut receiver = Receiver::options().runtime_dir(directory.path()).join(&name()).unwrap();
    // The sender counts this receiver first.
    std::io::stdin().read_exact(&mut [0]).unwrap();
    // SAFETY: nothing that owns one of them is dropped: this process ends by `_exit`.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    std::io::stdin().read_exact(&mut [0]).unwrap();
    let received = receiver.recv_timeout(&mut [0; 16], LIMIT);
    // SAFETY: ends the process without its destructors.
    unsafe { libc::_exit(if received == Err(ReceiveError::Evicted) { 7 } else { 1 }) };
}

#[test]
fn a_receiver_whose_lock_was_closed_gets_an_error_and_disturbs_no_other() {
    let here = TestRegistry::new();
    let mut sender = here.sender(small().seats(1));
    let mut command = own_test(module_path!(), "closes_everything");
    command.stdin(std::process::Stdio::piped());
    let mut closer = command.env("WHORL_TEST_PARENT", here.parent.path()).spawn().unwrap();
    sender.wait_for_receivers_timeout(1, LIMIT).unwrap();
    closer.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    until(LIMIT, "it counts as dead", || sender.receivers() == 0);
    let mut honest = here.join();
    sender.send(b"one").unwrap();
    sender.send(b"two").unwrap();
    closer.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    assert_eq!(closer.wait().unwrap().code(), Some(7), "it must hear that its seat is gone");
    for expected in [b"one", b"two"] {
        let mut message = [0; 16];
        assert_eq!(honest.recv_deadline(&mut message, Instant::now() + LIMIT), Ok(Received::Bytes(3)));
        assert_eq!(&message[..3], expected);
    }
}

#[test]
fn a_hole_is_zero_bytes_in_pieces_that_fit_or_a_hole_for_a_receiver_that_asks() {
    let here = TestRegistry::new();
    let mut sender = here.sender(small());
    let mut plain = here.join();
    let options = Receiver::options().timeout(LIMIT).holes(true).runtime_dir(here.directory().path());
    let mut asks = options.join(&name()).unwrap();
    sender.send(b"before").unwrap();
    sender.claim(0).unwrap().publish_hole(40);
    sender.send(b"after").unwrap();
    sender.close().unwrap();
    let mut buffer = [7; 16];
    assert_eq!(asks.recv(&mut buffer), Ok(Received::Bytes(6)));
    assert_eq!(asks.recv(&mut buffer), Ok(Received::Hole(40)));
    assert_eq!(asks.recv(&mut buffer), Ok(Received::Bytes(5)));
    assert!(matches!(asks.recv(&mut buffer), Ok(Received::End(end)) if end.total == 51));

    assert_eq!(plain.recv(&mut buffer), Ok(Received::Bytes(6)));
    for length in [16, 3, 16] {
        buffer.fill(7);
        assert_eq!(plain.recv(&mut buffer[..length]), Ok(Received::Bytes(length)));
        assert_eq!(buffer[..length], [0; 16][..length]);
        assert!(!plain.arm().unwrap(), "the rest of the hole is there already");
    }
    assert_eq!(plain.try_recv(&mut []), Err(ReceiveError::TooLong { length: 5 }));
    assert_eq!(plain.try_recv(&mut buffer), Ok(Received::Bytes(5)));
    assert_eq!(buffer[..5], [0; 5]);
    assert_eq!(plain.try_recv(&mut buffer), Ok(Received::Bytes(5)));
    assert_eq!(&buffer[..5], b"after");
    assert!(matches!(plain.try_recv(&mut buffer), Ok(Received::End(end)) if end.total == 51));
}

#[test]
fn a_batch_is_seen_together_or_in_parts_where_it_fills_the_ring() {
    let here = TestRegistry::new();
    let mut sender = here.sender(small());
    let mut receiver = here.join();
    let mut buffer = [0; 56];
    let mut batch = sender.batch();
    batch.send(b"one").unwrap();
    batch.try_send(b"two").unwrap();
    assert_eq!(batch.send(&[0; 57]), Err(SendError::TooLong { length: 57, most: 56 }));
    assert_eq!(receiver.try_recv(&mut buffer), Err(ReceiveError::Empty));
    batch.publish();
    for text in ["one", "two"] {
        assert_eq!(receiver.try_recv(&mut buffer), Ok(Received::Bytes(3)));
        assert_eq!(&buffer[..3], text.as_bytes());
    }
    let mut batch = sender.batch();
    let mut sent = 0;
    while batch.try_send(&[7; 24]).is_ok() {
        sent += 1;
    }
    assert!(sent >= 3, "{sent} of 24 bytes in a ring of 128");
    drop(batch);
    for _ in 0..sent {
        assert_eq!(receiver.try_recv(&mut buffer), Ok(Received::Bytes(24)));
    }
    assert_eq!(receiver.try_recv(&mut buffer), Err(ReceiveError::Empty));
}

#[test]
fn each_call_waits_as_its_name_says() {
    let here = TestRegistry::new();
    let mut sender = here.sender(small());
    let mut receiver = here.join();
    let mut buffer = [0; 16];
    let short = Duration::from_millis(20);
    let took = |call: &mut dyn FnMut()| {
        let begun = Instant::now();
        call();
        begun.elapsed()
    };
    assert_eq!(receiver.try_recv(&mut buffer), Err(ReceiveError::Empty));
    let time =
        took(&mut || assert_eq!(receiver.recv_timeout(&mut buffer, short), Err(ReceiveError::TimedOut)));
    assert!(time >= short, "{time:?}");
    let time = took(&mut || {
        assert_eq!(receiver.recv_deadline(&mut buffer, Instant::now() + short), Err(ReceiveError::TimedOut))
    });
    assert!(time >= short, "{time:?}");
    for _ in 0..8 {
        sender.send(b"x").unwrap();
    }
    assert_eq!(sender.try_send(b"x"), Err(SendError::Full));
    assert_eq!(sender.try_claim(1).map(|_| ()), Err(SendError::Full));
    let time = took(&mut || assert_eq!(sender.send_timeout(b"x", short), Err(SendError::TimedOut)));
    assert!(time >= short, "{time:?}");
    let time = took(&mut || {
        assert_eq!(sender.send_deadline(b"x", Instant::now() + short), Err(SendError::TimedOut))
    });
    assert!(time >= short, "{time:?}");
    assert_eq!(sender.finish_timeout(short), Err(SendError::TimedOut));
    for _ in 0..8 {
        assert_eq!(receiver.recv(&mut buffer), Ok(Received::Bytes(1)));
    }
    assert!(matches!(receiver.recv(&mut buffer), Ok(Received::End(end)) if end.total == 8));
    assert_eq!(sender.finish().unwrap().done, 1);
}
