//! A receiver under tokio: `AsyncFd` waits for the next message.

use std::error::Error;
use std::thread;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use whorl::{Name, ReceiveError, Received, Receiver, Sender};

const MESSAGES: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let name: Name = format!("tokio-{}", std::process::id()).parse()?;
    let to_send = name.clone();
    let sender = thread::spawn(move || send(&to_send));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Joining waits for the sender, so it is done before the runtime turns.
    let receiver = Receiver::join(&name)?;
    let count = runtime.block_on(async {
        // SAFETY: a receiver's descriptor is open and the same for as long as the receiver lives.
        let mut receiver = unsafe { AsyncFd::register(receiver) }?;
        let mut message = vec![0; receiver.get_ref().max_message_len()];
        let mut count = 0;
        while let Received::Bytes(_) = next(&mut receiver, &mut message).await? {
            count += 1;
        }
        Ok::<u64, Box<dyn Error>>(count)
    })?;
    assert_eq!(count, MESSAGES);
    sender.join().expect("it does not panic");
    println!("{count} messages under tokio");
    Ok(())
}

async fn next(receiver: &mut AsyncFd<Receiver>, message: &mut [u8]) -> Result<Received, Box<dyn Error>> {
    loop {
        match receiver.get_mut().try_recv(message) {
            Err(ReceiveError::Empty) => {}
            other => return Ok(other?),
        }
        if receiver.get_mut().arm()? {
            // Arming took in what the descriptor held before, so what it shows from now on is news.
            receiver.readable_mut().await?.clear_ready();
        }
    }
}

fn send(name: &Name) {
    let mut sender = Sender::create(name).expect("a channel");
    sender.wait_for_receivers(1).expect("a receiver");
    for number in 0..MESSAGES {
        sender.send(&number.to_le_bytes()).expect("it is taken");
        if number % 100 == 0 {
            thread::sleep(Duration::from_millis(1)); // so that the receiver sleeps now and then
        }
    }
    sender.finish().expect("it has everything");
}
