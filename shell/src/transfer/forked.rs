//! The work of a forked receiver: it writes its file, and reports how that went.

use super::CopyContext;
use super::destination::Destination;
use super::receive::{Comparison, Output, ReceiveFailure, Received};
use super::report::{Fault, Report};
use super::source::Source;
use crate::channel::ReceiveError;
use crate::channel::transport::incoming::Incoming;
use crate::channel::transport::payload::ReceiveWait;
use rustix::fd::AsFd;
use std::time::Instant;

impl From<ReceiveFailure> for Fault {
    fn from(failure: ReceiveFailure) -> Self {
        match failure {
            ReceiveFailure::Receive(error @ ReceiveError::System(_)) => Self::Own(error.to_string()),
            ReceiveFailure::Receive(error) => Self::Sender(error.to_string()),
            ReceiveFailure::File(error) => Self::Own(error.to_string()),
            ReceiveFailure::Stream(error) => Self::Own(crate::os::error::reason(error)),
            ReceiveFailure::Length { arrived, sent } => {
                Self::Sender(format!("{arrived} of {sent} bytes arrived"))
            }
            ReceiveFailure::Checksum => Self::Checksum,
            ReceiveFailure::NoChecksum => Self::Sender("the sender gives no checksum".into()),
            ReceiveFailure::Interrupted => Self::Interrupted,
        }
    }
}

/// Receives into a new file what arrives through the transport that `connect` opens.
pub(super) fn receive(
    context: &CopyContext<'_>,
    source: &Source,
    peer: u32,
    connect: impl FnOnce() -> Result<Incoming, Fault>,
) -> Report {
    let started = Instant::now();
    let mut bytes = 0;
    let (checksum, warnings, fault) = match receive_file(context, source, peer, connect, &mut bytes) {
        Ok(Received { checksum, warnings }) => (checksum, warnings, None),
        Err(fault) => (None, Vec::new(), Some(fault)),
    };
    Report { peer, bytes, checksum, seconds: started.elapsed().as_secs_f64(), fault, warnings }
}

fn receive_file(
    context: &CopyContext<'_>,
    source: &Source,
    peer: u32,
    connect: impl FnOnce() -> Result<Incoming, Fault>,
    bytes: &mut u64,
) -> Result<Received, Fault> {
    let name = context.name(peer, rustix::process::getpid().as_raw_nonzero().get());
    let part = context.part(peer);
    let (directory, plan) = (context.directory.as_fd(), context.plan);
    let file = Destination::create(directory, &name, &part, source.mode(), plan.care)
        .map_err(ReceiveFailure::from)?;
    let mut output = Output::file(file);
    let end = {
        let mut incoming = connect()?;
        let wait = ReceiveWait::Until(None);
        output.receive(|output| incoming.take(None, wait, |payload| output.put(&payload)))
    };
    *bytes = output.written();
    let model = plan.preserve.then(|| source.as_fd());
    Ok(output.conclude(end?, Comparison::default(), model)?)
}
