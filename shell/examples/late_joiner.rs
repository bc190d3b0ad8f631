//! Coming late: from the first message while that is still held, refused when it is gone, or from the next one on.

use std::error::Error;
use whorl::registry::protocol::Refusal;
use whorl::{JoinError, JoinOptions, Name, Received, Receiver, Sender, SenderOptions, Start};

fn main() -> Result<(), Box<dyn Error>> {
    let name: Name = format!("late-joiner-{}", std::process::id()).parse()?;
    let mut sender =
        Sender::create(&name, SenderOptions { slot_size: 64, slots: 4, ..SenderOptions::default() })?;
    let from = |from| Receiver::join(&name, &JoinOptions { from, ..JoinOptions::default() });

    // Two messages before anybody is there: the ring still holds them.
    sender.send(b"one", None)?;
    sender.send(b"two", None)?;
    let mut early = from(Start::First)?;
    assert_eq!(next(&mut early)?, "one");
    assert_eq!(next(&mut early)?, "two");

    // A lap later the beginning is overwritten.
    for text in ["three", "four", "five"] {
        sender.send(text.as_bytes(), None)?;
    }
    assert!(matches!(from(Start::First), Err(JoinError::Refused(Refusal::Missed))));

    // From now on: nothing of what was, everything that comes.
    let mut late = from(Start::Now)?;
    sender.send(b"six", None)?;
    assert_eq!(next(&mut late)?, "six");
    assert_eq!([next(&mut early)?, next(&mut early)?], ["three", "four"]);
    println!("the late one begins at 'six', the early one has missed nothing");
    Ok(())
}

fn next(receiver: &mut Receiver) -> Result<String, Box<dyn Error>> {
    let mut message = [0; 64];
    match receiver.receive(&mut message, None)? {
        Received::Bytes(length) => Ok(String::from_utf8_lossy(&message[..length]).into_owned()),
        other => Err(format!("unexpected: {other:?}").into()),
    }
}
