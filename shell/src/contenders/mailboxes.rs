//! Measures how fast an attached process reads a mailbox, without a round trip to the server.

use crate::shm::mailboxes::Mailboxes;
use harness::process::{RunError, is_stopped};
use harness::servers::Server;
use std::time::{Duration, Instant};

/// Returns how many times per second an attached process reads a message of 4 KiB.
///
/// # Errors
/// - [`RunError::Failed`] if the process cannot attach to the mailboxes, or cannot write or read them.
/// - [`RunError::Interrupted`] if a signal stops the measurement.
pub fn read_attached(server: &Server, time: Duration) -> Result<f64, RunError> {
    let failed = |why: &dyn std::fmt::Display| RunError::Failed(why.to_string());
    let control = server.directory.join(format!("whorl/dipc-{}.sock", server.port));
    // The server listens shortly before its socket file exists.
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut mailboxes = loop {
        match Mailboxes::attach(control.as_path()) {
            Ok(mailboxes) => break mailboxes,
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Err(why) => return Err(failed(&why)),
        }
    };
    mailboxes.write(1, &[7; 4096]).map_err(|why| failed(&why))?;
    let (started, mut reads) = (Instant::now(), 0);
    while started.elapsed() < time {
        if is_stopped() {
            return Err(RunError::Interrupted);
        }
        for _ in 0..1000 {
            let read = mailboxes.read_with(1, None, |bytes, _| std::hint::black_box(bytes.len()));
            read.map_err(|why| failed(&why))?;
        }
        reads += 1000;
    }
    Ok(f64::from(reads) / started.elapsed().as_secs_f64())
}
