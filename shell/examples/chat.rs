//! A chat through a mailbox, between programs on one machine: `cargo run --example chat -- 9000 0 eve`, against a server
//! started with `shell dipc 8 64 9000 4`. Others may join from anywhere: `nc`, or `shell mail chat`.

use std::io::BufRead;
use std::time::{Duration, Instant};
use whorl::Mailboxes;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: chat PORT BOX NAME";
    let port: u16 = arguments.next().ok_or(usage)?.parse()?;
    let mailbox: u32 = arguments.next().ok_or(usage)?.parse()?;
    let name = arguments.next().ok_or(usage)?;

    let mut mouth = Mailboxes::attach(port)?;
    let mut ear = mouth.try_clone()?;
    let mut seen = ear.version(mailbox)?;
    let listener = std::thread::spawn(move || {
        loop {
            // A mailbox holds only the latest message. The version shows how many messages were missed.
            let wake = Instant::now() + Duration::from_secs(3600);
            let message = match ear.wait_newer(mailbox, seen, Some(wake)) {
                Ok(Some(message)) => message,
                Ok(None) => continue,
                Err(error) => return eprintln!("chat: {error}"),
            };
            match message.version - seen - 1 {
                0 => {}
                missed => print!("({missed} missed) "),
            }
            println!("{}", String::from_utf8_lossy(&message.bytes).escape_debug());
            seen = message.version;
        }
    });
    for line in std::io::stdin().lock().lines() {
        mouth.write(mailbox, format!("{name}: {}", line?).as_bytes())?;
        if listener.is_finished() {
            break;
        }
    }
    Ok(())
}
