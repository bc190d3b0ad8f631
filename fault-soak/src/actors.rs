//! The soak's own programs, which use the library: a ring's sender and receiver, and a user of mailboxes.

use crate::soak::{Random, checksum};
use anyhow::{Context, Result, bail, ensure};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use whorl::Mailboxes;
use whorl::{JoinError, ReceiveError, Received, Receiver, Sender, Start};

/// The longest message in bytes.
const LONGEST: u32 = 4096;

/// The exit code of a receiver whose sender died.
pub const SENDER_DIED: i32 = 44;

/// The exit code of a receiver that no sender admitted.
pub const NO_SENDER: i32 = 45;

/// Returns the message with this number.
fn message(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let length = 8 + random.below(u64::from(LONGEST) - 8) as usize;
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(random.bytes(length - 8));
    bytes
}

/// Sends numbered messages until standard input ends.
pub fn send(name: &str) -> Result<()> {
    let options = Sender::options().ring(256 << 10).seats(16);
    let mut sender = options.create(&name.parse()?)?;
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ended.store(true, Relaxed);
    });
    sender.wait_for_receivers(1)?;
    for number in 0.. {
        if over.load(Relaxed) {
            break;
        }
        sender.send(&message(number))?;
    }
    sender.finish()?;
    Ok(())
}

/// Receives from the next message on, and prints how many there were. Each message must be whole and follow the one
/// before.
pub fn receive(name: &str) -> Result<()> {
    let options = Receiver::options().start(Start::Now).timeout(Duration::from_secs(5));
    let mut receiver = match options.join(&name.parse()?) {
        Err(JoinError::TimedOut) => std::process::exit(NO_SENDER),
        joined => joined?,
    };
    let mut buffer = vec![0; receiver.max_message_len()];
    let (mut last, mut total, mut sum) = (None, 0u64, 0u64);
    loop {
        match receiver.recv(&mut buffer) {
            Ok(Received::Bytes(length)) => {
                let bytes = &buffer[..length];
                let number = u64::from_le_bytes(*bytes.first_chunk().context("a number")?);
                ensure!(last.is_none_or(|last: u64| last + 1 == number), "{number} came after {last:?}");
                ensure!(bytes == message(number), "message {number} is torn");
                (last, total, sum) = (Some(number), total + length as u64, sum.wrapping_add(checksum(bytes)));
            }
            Ok(Received::Hole(_)) => bail!("a hole that the sender did not send"),
            Ok(Received::End(_)) => {
                println!("{total} {sum}");
                return Ok(());
            }
            Err(ReceiveError::SenderDied) => {
                println!("{total} {sum}");
                std::process::exit(SENDER_DIED);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes and reads sealed messages until it is killed, or its parent dies.
pub fn mail(port: u16, seed: u64) -> Result<()> {
    let parent = rustix::process::getppid();
    let mut mailboxes = Mailboxes::attach(port)?;
    let mut random = Random::new(seed);
    let (boxes, most) = (u64::from(mailboxes.count()), mailboxes.capacity());
    let mut known = vec![0; boxes as usize];
    loop {
        ensure!(rustix::process::getppid() == parent, "the soak has ended");
        let index = random.below(boxes) as u32;
        if random.below(3) == 0 {
            let mut message = message(random.below(1 << 40));
            message.truncate(most);
            mailboxes.write(index, &message)?;
        }
        let found = mailboxes.read(index)?;
        let before = std::mem::replace(&mut known[index as usize], found.version);
        ensure!(found.version >= before, "version {} after {before}", found.version);
        if let Some(number) = found.bytes.first_chunk() {
            ensure!(found.bytes == message(u64::from_le_bytes(*number)), "mailbox {index} is torn");
        }
    }
}
