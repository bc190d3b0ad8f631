//! What every receiver does, whatever the bytes came through: write, check, commit, report.

use super::CopyContext;
use super::checksum::Sum;
use super::destination::{Destination, DestinationError, Warning};
use super::report::Report;
use super::roster::Fault;
use super::source::Source;
use rustix::fd::AsFd;
use std::time::Instant;
use whorl_core::error::End;

impl From<DestinationError> for Fault {
    fn from(error: DestinationError) -> Self {
        match crate::os::signal::stop_signal() {
            Some(_) => Self::Interrupted,
            None => Self::Own(error.to_string()),
        }
    }
}

/// Receives into a new file: `transfer` writes everything up to the end record.
pub(super) fn receive(
    job: &CopyContext<'_>,
    source: &Source,
    peer: u32,
    transfer: impl FnOnce(&mut Destination<'_>) -> Result<End, Fault>,
) -> Report {
    let started = Instant::now();
    let name = job.name(peer, rustix::process::getpid().as_raw_nonzero().get());
    let part = job.part(peer);
    let mut bytes = 0;
    let result = Destination::create(job.directory.as_fd(), &name, &part, source.mode(), job.plan.care)
        .map_err(Fault::from)
        .and_then(|mut file| {
            let end = transfer(&mut file);
            bytes = file.written();
            finish(job, source, file, end?)
        });
    let (checksum, warnings, fault) = match result {
        Ok((checksum, warnings)) => (checksum, warnings, None),
        Err(fault) => (None, Vec::new(), Some(fault)),
    };
    Report { peer, bytes, checksum, seconds: started.elapsed().as_secs_f64(), fault, warnings }
}

/// Only what matches the end record gets its name.
fn finish(
    job: &CopyContext<'_>,
    source: &Source,
    mut file: Destination<'_>,
    end: End,
) -> Result<(Option<Sum>, Vec<Warning>), Fault> {
    if file.written() != end.total {
        let text = format!("{} of {} bytes arrived", file.written(), end.total);
        return Err(Fault::Sender(text));
    }
    let checksum = end.checksum.map(|_| file.checksum()).transpose()?;
    if checksum != end.checksum {
        return Err(Fault::Checksum);
    }
    let mut warnings = if job.plan.preserve { file.preserve(source.as_fd())? } else { Vec::new() };
    warnings.extend(file.commit()?);
    Ok((checksum, warnings))
}
