//! The work of a forked receiver: it writes its file, and reports the result.

use super::destination::Destination;
use super::plan::CopyContext;
use super::receive::{Comparison, Output, ReceiveFailure, Received};
use super::report::{Fault, Report};
use super::source::Source;
use crate::channel::ReceiveError;
use crate::channel::transport::incoming::Incoming;
use crate::channel::transport::payload::Deadline;
use crate::channel::transport::ring_receiver::RingReceiver;
use crate::channel::transport::stream::Stream;
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::{cannot, reason};
use crate::os::event_fd::EventFd;
use crate::shm::liveness::Owner;
use crate::shm::ring::Segment;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::Pid;
use std::time::Instant;
use whorl_core::error::JoinError;
use whorl_core::ring::{PendingReceiver, is_free};

impl From<ReceiveFailure> for Fault {
    fn from(failure: ReceiveFailure) -> Self {
        match failure {
            ReceiveFailure::Receive(error @ ReceiveError::System(_)) => Self::Own(error.to_string()),
            ReceiveFailure::Receive(error) => Self::Sender(error.to_string()),
            ReceiveFailure::File(error) => Self::Own(error.to_string()),
            ReceiveFailure::Stream(error) => Self::Own(reason(error)),
            ReceiveFailure::Length { arrived, sent } => {
                Self::Sender(format!("{arrived} of {sent} bytes arrived"))
            }
            ReceiveFailure::Checksum => Self::Checksum,
            ReceiveFailure::NoChecksum => Self::Sender("the sender gives no checksum".into()),
            ReceiveFailure::Interrupted => Self::Interrupted,
        }
    }
}

/// Receives a stream into a new file, through the transport that `connect` opens.
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
    Report { bytes, checksum, seconds: started.elapsed().as_secs_f64(), fault, warnings }
}

fn receive_file(
    context: &CopyContext<'_>,
    source: &Source,
    peer: u32,
    connect: impl FnOnce() -> Result<Incoming, Fault>,
    bytes: &mut u64,
) -> Result<Received, Fault> {
    let name = context.name(peer, rustix::process::getpid().as_raw_nonzero().get());
    let part = context.directory.part(peer);
    let (directory, plan) = (&context.directory.fd, context.plan);
    let file = Destination::create(directory.as_fd(), &name, &part, source.mode(), plan.write)
        .map_err(ReceiveFailure::from)?;
    let mut output = Output::file(file);
    let end = {
        let mut incoming = connect()?;
        let deadline = Deadline::Until(None);
        output.receive(|output| incoming.take(None, deadline, true, |payload| output.put(&payload)))
    };
    *bytes = output.written();
    let model = plan.preserve.then(|| source.as_fd());
    Ok(output.conclude(end?, Comparison::default(), model)?)
}

/// Takes this process's seat in the ring, and waits until the parent admits it.
pub(super) fn occupy_seat(
    segment: &Segment,
    joined: &EventFd,
    parent: Pid,
    seat: u32,
) -> Result<Incoming, Fault> {
    let own = |error: &dyn std::fmt::Display| Fault::Own(error.to_string());
    let ring = segment.attach(Owner::Parent(parent)).map_err(|error| own(&error))?;
    let locks = segment.byte_locks().map_err(|error| own(&error))?;
    let request = || PendingReceiver::request_seat(ring.clone(), seat, true, std::process::id()).ok();
    let pending = locks.occupy(seat, || is_free(&ring, seat), request);
    let pending = pending.map_err(|error| Fault::Own(reason(error)))?;
    let pending = pending.ok_or_else(|| Fault::Own(format!("seat {seat} is held by another process")))?;
    joined.signal();
    let receiver = pending.admitted(None).map_err(|error| match error {
        JoinError::Interrupted => Fault::Interrupted,
        JoinError::SenderDied => Fault::Sender(error.to_string()),
        other => own(&other),
    })?;
    Ok(Incoming::Ring(RingReceiver::new(receiver, locks)))
}

/// Opens this process's end of its socket. The socket may block, because the parent kills a receiver that misses a
/// signal.
pub(super) fn open_stream(socket: OwnedFd) -> Result<Incoming, Fault> {
    let failed = |error| Fault::Own(cannot("receive")(error).to_string());
    let socket = CloseOnForkFd::of(socket).map_err(failed)?;
    Ok(Incoming::Stream(Stream::blocking(socket)))
}
