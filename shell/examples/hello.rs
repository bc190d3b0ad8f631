//! A sender and its receivers: `hello send`, and `hello` as often as you like, in any order.

use std::error::Error;
use whorl::{JoinOptions, Received, Receiver, Sender, SenderOptions};

fn send() -> Result<(), Box<dyn Error>> {
    let mut sender = Sender::create(&"greetings".parse()?, SenderOptions::default())?;
    sender.wait_for_receivers(1, None)?;
    sender.send(b"hello", None)?; // waits while the ring is full; no message is ever dropped
    sender.finish(None, None)?; // returns when everybody has everything
    Ok(())
}

fn receive() -> Result<(), Box<dyn Error>> {
    let mut receiver = Receiver::join(&"greetings".parse()?, &JoinOptions::default())?; // waits for the sender
    let mut message = vec![0; receiver.longest()];
    while let Received::Bytes(length) = receiver.receive(&mut message, None)? {
        println!("{}", String::from_utf8_lossy(&message[..length]));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|word| word == "send") { send() } else { receive() }
}
