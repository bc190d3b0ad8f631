//! Two channels in one event loop: wait until a receiver's descriptor is readable, after arming it.

use rustix::event::epoll;
use std::error::Error;
use std::thread;
use whorl::{Name, ReceiveError, Received, Receiver, Sender};

const MESSAGES: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let names = ["a", "b"].map(|name| format!("epoll-{name}-{}", std::process::id()));
    let senders = names.clone().map(|name| thread::spawn(move || send(&name)));
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut receivers = Vec::new();
    for (name, index) in names.iter().zip(0..) {
        let receiver = Receiver::join(&name.parse::<Name>()?)?;
        epoll::add(&epoll, &receiver, epoll::EventData::new_u64(index), epoll::EventFlags::IN)?;
        receivers.push((receiver, 0_u64, false));
    }
    let mut message = vec![0; receivers[0].0.max_message_len()];
    while receivers.iter().any(|(.., ended)| !ended) {
        // Take what is there, and sleep only once every receiver said that it may.
        let mut may_sleep = true;
        for (receiver, count, ended) in receivers.iter_mut().filter(|(.., ended)| !ended) {
            match receiver.try_recv(&mut message) {
                Ok(Received::End(_)) => (*ended, may_sleep) = (true, false),
                Ok(_) => (*count, may_sleep) = (*count + 1, false),
                Err(ReceiveError::Empty) => may_sleep &= receiver.arm()?,
                Err(error) => return Err(error.into()),
            }
        }
        if may_sleep {
            let mut events =
                [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 2];
            epoll::wait(&epoll, &mut events, None)?;
        }
    }
    for (_, count, _) in &receivers {
        assert_eq!(*count, MESSAGES);
    }
    for sender in senders {
        sender.join().expect("it does not panic");
    }
    println!("two channels, {MESSAGES} messages each, one event loop");
    Ok(())
}

fn send(name: &str) {
    let mut sender = Sender::create(&name.parse().expect("a name")).expect("a channel");
    sender.wait_for_receivers(1).expect("a receiver");
    for number in 0..MESSAGES {
        sender.send(&number.to_le_bytes()).expect("it is taken");
        if number % 100 == 0 {
            thread::sleep(std::time::Duration::from_millis(1)); // so that the loop sleeps now and then
        }
    }
    sender.finish().expect("it has everything");
}
