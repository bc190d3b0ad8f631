//! Coming late: from the first message while that is still held, refused when it is gone, or from the next one on.

use std::error::Error;
use whorl::error::Refusal;
use whorl::{JoinError, Name, Received, Receiver, Sender, Start};

fn main() -> Result<(), Box<dyn Error>> {
    let name: Name = format!("late-joiner-{}", std::process::id()).parse()?;
    let mut sender = Sender::options().ring(64).create(&name)?;
    let from = |start| Receiver::options().start(start).join(&name);

    // Two messages before a receiver joins: the ring still holds them.
    sender.send(b"one")?;
    sender.send(b"two")?;
    let mut early = from(Start::First)?;
    assert_eq!(next(&mut early)?, "one");
    assert_eq!(next(&mut early)?, "two");

    // A lap later the beginning is overwritten.
    for text in ["three", "four", "five"] {
        sender.send(text.as_bytes())?;
    }
    assert!(matches!(from(Start::First), Err(JoinError::Refused(Refusal::Missed))));

    // From now on: nothing of what was, everything that comes.
    let mut late = from(Start::Now)?;
    sender.send(b"six")?;
    assert_eq!(next(&mut late)?, "six");
    assert_eq!([next(&mut early)?, next(&mut early)?], ["three", "four"]);
    println!("the late one begins at 'six', the early one has missed nothing");
    Ok(())
}

fn next(receiver: &mut Receiver) -> Result<String, Box<dyn Error>> {
    let mut message = [0; 64];
    match receiver.recv(&mut message)? {
        Received::Bytes(length) => Ok(String::from_utf8_lossy(&message[..length]).into_owned()),
        other => Err(format!("unexpected: {other:?}").into()),
    }
}
