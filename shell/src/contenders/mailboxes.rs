//! A mailbox read by an attached program, without a round trip to its server.

use crate::shm::mailboxes::Mailboxes;
use harness::process::{RunError, is_stopped};
use harness::servers::Server;
use std::time::{Duration, Instant};

/// Reads per second of a message of 4 KiB.
///
/// # Errors
/// There was no attaching or reading, or somebody wants the measurement to end.
pub fn read_attached(server: &Server, time: Duration) -> Result<f64, RunError> {
    let failed = |why: &dyn std::fmt::Display| RunError::Failed(why.to_string());
    let control = server.directory.join(format!("whorl/dipc-{}.sock", server.port));
    // It listens a moment before it can be found.
    let until = Instant::now() + Duration::from_secs(5);
    let mut mailboxes = loop {
        match Mailboxes::attach(control.as_path()) {
            Ok(mailboxes) => break mailboxes,
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            Err(why) => return Err(failed(&why)),
        }
    };
    mailboxes.write(1, &[7; 4096]).map_err(|why| failed(&why))?;
    let (begun, mut reads) = (Instant::now(), 0);
    while begun.elapsed() < time {
        if is_stopped() {
            return Err(RunError::Interrupted);
        }
        for _ in 0..1000 {
            let read = mailboxes.read_with(1, None, |bytes, _| std::hint::black_box(bytes.len()));
            read.map_err(|why| failed(&why))?;
        }
        reads += 1000;
    }
    Ok(f64::from(reads) / begun.elapsed().as_secs_f64())
}
