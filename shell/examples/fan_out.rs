//! One sender, three receivers, nothing lost: each gets every number in order.
//!
//! The receivers are threads here; they could as well be processes started by hand, before the sender or after it.

use std::error::Error;
use std::thread;
use whorl::{Name, Received, Receiver, Sender};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let name: Name = format!("fan-out-{}", std::process::id()).parse()?;
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            let name = name.clone();
            thread::spawn(move || sum(&name))
        })
        .collect();
    let mut sender = Sender::create(&name)?;
    sender.wait_for_receivers(3)?;
    for number in 1..=100_000_u64 {
        sender.send(&number.to_le_bytes())?;
    }
    sender.finish()?;
    for receiver in receivers {
        assert_eq!(receiver.join().expect("it does not panic")?, 5_000_050_000);
    }
    println!("three receivers have added up 100000 numbers each");
    Ok(())
}

fn sum(name: &Name) -> Result<u64> {
    let mut receiver = Receiver::join(name)?;
    let mut message = vec![0; receiver.max_message_len()];
    let (mut sum, mut last) = (0, 0);
    while let Received::Bytes(length) = receiver.recv(&mut message)? {
        let number = u64::from_le_bytes(message[..length].try_into()?);
        assert_eq!(number, last + 1);
        (sum, last) = (sum + number, number);
    }
    Ok(sum)
}
