//! Sending one source to receivers that other processes start, and that find it by a name.

use super::fan_out::{BLOCKS, FanOut};
use super::line_loop::send_lines;
use super::receive::grow_pipe;
use super::send_loop::{SendFailure, send_blocks, wait_while_moving};
use super::source::{HashingReader, Source, SourceError};
use crate::channel::control::peers::PeerTable;
use crate::channel::control::progress::SendStatus;
use crate::channel::control::thread::{ControlThread, Receivers};
use crate::channel::transport::socket::SocketTransport;
use crate::channel::{CreateError, PeerSummary, ProgressObserver, SendError, Sender};
use crate::os::deadline;
use crate::os::error::cannot;
use crate::registry::status::TransportKind;
use crate::registry::{Listener, Name, RuntimeDir};
use rustix::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// The plan of a sender.
#[derive(Clone, Debug)]
pub struct SendPlan {
    /// The name by which receivers find the sender.
    pub name: Name,
    /// The file to read; `-` is the standard input.
    pub source: PathBuf,
    /// How the bytes travel.
    pub transport: TransportKind,
    /// How many receivers must have joined before the first byte is sent. With 0 the sender begins at once, and continues when
    /// no receiver is left.
    pub peers: u32,
    /// The longest wait while no receiver moves.
    pub timeout: Option<Duration>,
    /// The most bytes that are read and sent at once.
    pub block: u32,
    /// Bytes of the ring, a power of two.
    pub ring: u64,
    /// The most receivers at a time.
    pub seats: u32,
    /// Send each line as a message.
    pub lines: bool,
    /// Send a checksum, too.
    pub verify: bool,
    /// Evict a receiver that blocks the sender for this long.
    pub evict_after: Option<Duration>,
}

/// The result of a sender.
#[derive(Debug)]
pub struct Sent {
    /// Bytes in the source.
    pub bytes: u64,
    /// The time from the first byte until the last receiver had finished.
    pub elapsed: Duration,
    /// How the receivers ended.
    pub summary: PeerSummary,
}

/// Why nothing, or not everything, was sent.
#[derive(Debug, Error)]
pub enum SendingError {
    /// The source failed.
    #[error("{}: {error}", crate::os::escape::shown(.path), error = .error)]
    Source {
        /// The path of the source.
        path: PathBuf,
        /// The reason.
        error: SourceError,
    },
    /// The channel cannot be created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The receivers failed, or another process asked the sender to end.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A line is longer than the longest message of the ring.
    #[error(
        "line {number} has more than {most} bytes, which is the longest message of this ring; --ring makes a larger one"
    )]
    LineTooLong {
        /// The number of the line, from 1.
        number: u64,
        /// The longest message in bytes.
        most: usize,
    },
    /// The last receiver left before the end.
    #[error("no receiver is left")]
    NoReceivers(PeerSummary),
    /// A signal asked this process to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Sends a source to receivers that find it by the plan's name. Returns when every receiver that took part has
/// everything, or has gone.
///
/// # Blocking
/// Until enough receivers have joined, the source has ended, and the slowest receiver has finished. The observer sees
/// which receiver that is.
///
/// # Errors
/// The reason that nothing, or not everything, was sent.
pub fn send(plan: &SendPlan, observer: ProgressObserver) -> Result<Sent, SendingError> {
    let mut source = Source::open(&plan.source).map_err(|error| source_failed(plan, error))?;
    grow_pipe(source.as_fd());
    match plan.transport {
        TransportKind::Shm => send_through_ring(plan, &mut source, observer),
        TransportKind::Socket => send_through_sockets(plan, &mut source, observer),
    }
}

fn send_through_ring(
    plan: &SendPlan,
    source: &mut Source,
    observer: ProgressObserver,
) -> Result<Sent, SendingError> {
    let mut options = Sender::options().ring(plan.ring).seats(plan.seats);
    if let Some(time) = plan.evict_after {
        options = options.evict_after(time);
    }
    let mut sender = options.observer(observer).create(&plan.name)?;
    let deadline = plan.timeout.map(deadline::after);
    sender.wait_for_receivers_until(plan.peers, deadline)?;
    let needs_receivers = plan.peers > 0;
    sender.begin(needs_receivers, source.length());
    let begun = Instant::now();
    let mut source = HashingReader::new(source, plan.verify);
    let sent = match plan.lines {
        true => send_lines(&mut sender, &mut source, needs_receivers, plan.timeout),
        false => send_blocks(&mut sender, &mut source, plan.block, needs_receivers, plan.timeout),
    };
    sent.map_err(|failure| sending_error(plan, failure, sender.peers()))?;
    let end = source.end();
    if let Some(checksum) = end.checksum {
        sender.set_checksum(checksum);
    }
    let finish = |sender: &mut Sender, deadline| sender.finish_until(deadline).map(|_| ());
    wait_while_moving(plan.timeout, &mut sender, finish)?;
    Ok(Sent { bytes: end.total, elapsed: begun.elapsed(), summary: sender.summary() })
}

fn send_through_sockets(
    plan: &SendPlan,
    source: &mut Source,
    observer: ProgressObserver,
) -> Result<Sent, SendingError> {
    let no_event = |error| CreateError::from(cannot("make an event")(error));
    let peers = Arc::new(PeerTable::new(None).map_err(no_event)?);
    let status = Arc::new(SendStatus::default());
    let memory = u64::from(plan.block) * BLOCKS as u64;
    let transport = Arc::new(
        SocketTransport::new(plan.seats, memory, plan.evict_after, status.clone()).map_err(no_event)?,
    );
    let directory = RuntimeDir::open().map_err(CreateError::from)?;
    let listener = Listener::bind(directory, &plan.name).map_err(CreateError::from)?;
    let receivers = Receivers::Named(listener);
    let (transport_of_control, observer) = (transport.clone(), Some(observer));
    let _control =
        ControlThread::start(receivers, transport_of_control, peers.clone(), status.clone(), observer)
            .map_err(CreateError::from)?;
    status.want(plan.peers);
    let deadline = plan.timeout.map(deadline::after);
    peers.wait_joined(plan.peers as usize, deadline).map_err(SendError::from)?;
    status.set_total(source.length());
    status.begin(plan.peers > 0);
    let begun = Instant::now();
    let fan_out = FanOut { transport: &transport, peers: &peers, status: &status, timeout: plan.timeout };
    let sent = fan_out.send(source, plan.block as usize, plan.verify);
    if matches!(sent, Err(SendFailure::NoReceivers)) {
        // A stream ends a moment before the control thread knows how its receiver ended.
        let _ = peers.wait_alone(Some(Instant::now() + Duration::from_secs(1)));
    }
    let end = sent.map_err(|failure| sending_error(plan, failure, &peers))?;
    // The kernel has everything. The timeout limits how long the receivers take to confirm.
    let deadline = plan.timeout.map(deadline::after);
    status.waiting(|| peers.wait_parted(deadline)).map_err(SendError::from)?;
    let bytes = end.map_or(0, |end| end.total);
    Ok(Sent { bytes, elapsed: begun.elapsed(), summary: peers.summary() })
}

fn sending_error(plan: &SendPlan, failure: SendFailure, peers: &PeerTable) -> SendingError {
    match failure {
        SendFailure::Source(error) => source_failed(plan, error),
        SendFailure::Send(error) => error.into(),
        SendFailure::LineTooLong { number, most } => SendingError::LineTooLong { number, most },
        SendFailure::NoReceivers => SendingError::NoReceivers(peers.summary()),
        SendFailure::Interrupted => SendingError::Interrupted,
        SendFailure::System(error) => CreateError::from(error).into(),
    }
}

fn source_failed(plan: &SendPlan, error: SourceError) -> SendingError {
    match error {
        SourceError::Interrupted => SendingError::Interrupted,
        error => SendingError::Source { path: plan.source.clone(), error },
    }
}
