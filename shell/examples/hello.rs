//! A sender and its receivers: run `hello send` once and `hello` as often as you like, in any order.

use std::error::Error;
use whorl::{Received, Receiver, Sender};

fn send() -> Result<(), Box<dyn Error>> {
    let mut sender = Sender::create(&"greetings".parse()?)?;
    sender.wait_for_receivers(1)?;
    sender.send(b"hello")?; // waits while the ring is full; no message is ever dropped
    sender.finish()?; // returns when every receiver has everything
    Ok(())
}

fn receive() -> Result<(), Box<dyn Error>> {
    let mut receiver = Receiver::join(&"greetings".parse()?)?; // waits for the sender
    let mut message = vec![0; receiver.max_message_len()];
    while let Received::Bytes(length) = receiver.recv(&mut message)? {
        println!("{}", String::from_utf8_lossy(&message[..length]));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|word| word == "send") { send() } else { receive() }
}
