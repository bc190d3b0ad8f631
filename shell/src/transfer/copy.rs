//! Copying one source to forked receivers.

use super::checksum::{Sum, hex};
use super::destination::Warning;
use super::fan_out::{BLOCKS, FanOut};
use super::forked::{occupy_seat, open_stream, receive};
use super::plan::{CopyContext, CopyError, Plan, source_failed};
use super::report::{Fault, Report};
use super::send_loop::{SendFailure, send_blocks};
use super::source::{HashingReader, Source};
use crate::channel::control::forked::{ForkedPeers, ReportPipe};
use crate::channel::control::peers::{Peer, PeerTable};
use crate::channel::control::progress::SendStatus;
use crate::channel::control::thread::{ControlThread, Receivers};
use crate::channel::transport::incoming::Incoming;
use crate::channel::transport::socket::SocketTransport;
use crate::channel::{ProgressObserver, Sender, SenderSetup};
use crate::os::error::cannot;
use crate::os::event_fd::EventFd;
use crate::os::fork::{Ending, fork};
use crate::os::futex::FEW_YIELDS;
use crate::os::signal::stop_signal;
use crate::registry::status::{Kind, TransportKind};
use crate::shm::ring::Segment;
use rustix::io::Errno;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The result of a copy whose source was read to its end, or until no receiver was left.
#[derive(Debug)]
pub struct Outcome {
    /// Bytes in the source, or the bytes that were sent when the last receiver was lost.
    pub bytes: u64,
    /// The time from before the first fork until the last receiver had ended.
    pub elapsed: Duration,
    /// The result of each receiver, in order.
    pub peers: Vec<PeerOutcome>,
}

/// The result of one receiver.
#[derive(Clone, Debug)]
pub struct PeerOutcome {
    /// Its number, from 1.
    pub peer: u32,
    /// Its process id.
    pub pid: i32,
    /// Its file.
    pub path: PathBuf,
    /// The bytes that it wrote.
    pub bytes: u64,
    /// The checksum of its file, if it was asked for.
    pub checksum: Option<Sum>,
    /// How long the receiver took.
    pub seconds: f64,
    /// The reason that it has no file; `None` if it has one.
    pub fault: Option<Fault>,
    /// What is missing of its complete file.
    pub warnings: Vec<Warning>,
}

impl PeerOutcome {
    /// Returns the checksum as 32 hex digits.
    pub fn checksum_hex(&self) -> Option<String> {
        self.checksum.map(hex)
    }
}

/// Copies the source to every peer, and returns when all of them have ended. Only a process with one thread may call
/// it, because it forks.
///
/// # Blocking
/// Until the source ends and the slowest receiver has finished. It waits for a stopped receiver, which `observer` sees.
///
/// # Errors
/// The reason that nothing was copied, or that the copy stopped. Then no file has its final name, except those of
/// receivers that had finished before.
pub fn copy(plan: &Plan, observer: ProgressObserver) -> Result<Outcome, CopyError> {
    if plan.transport == TransportKind::Shm && !crate::os::file::is_proc_mounted() {
        return Err(CopyError::NoProc);
    }
    let (mut context, mut source) = CopyContext::check(plan)?;
    let (bytes, peers) = match plan.transport {
        TransportKind::Shm => copy_through_ring(&context, &mut source, observer),
        TransportKind::Socket => copy_through_sockets(&context, &mut source, observer),
    }?;
    if peers.iter().any(|peer| peer.fault.is_none()) {
        context.created.keep();
    }
    Ok(Outcome { bytes, elapsed: context.started.elapsed(), peers })
}

fn copy_through_ring(
    context: &CopyContext<'_>,
    source: &mut Source,
    observer: ProgressObserver,
) -> Result<(u64, Vec<PeerOutcome>), CopyError> {
    let geometry = context.plan.geometry()?;
    let segment = Segment::reserve(geometry)?.with_yields(FEW_YIELDS);
    // This comes before the forks, because children must inherit neither the writable mapping nor a right to make
    // another one.
    let ring = segment.own(geometry)?;
    let joined = Arc::new(EventFd::new().map_err(cannot("make an event"))?);
    let parent = rustix::process::getpid();
    let (peers, receivers) = fork_receivers(
        context,
        source,
        Some(joined.clone()),
        |_| Ok(((), None)),
        |peer, ()| occupy_seat(&segment, &joined, parent, peer - 1),
    )?;
    let setup = SenderSetup {
        segment,
        ring,
        owner: None,
        kind: Kind::Ring,
        name: None,
        receivers,
        peers: peers.clone(),
        evict_after: None,
        observer: Some(observer),
    };
    let mut sender = Sender::over(setup).inspect_err(|_| kill_receivers(context, &peers))?;
    // The sender lives until every receiver has ended. Dropping it earlier would break the stream off.
    sender.begin(true, source.length());
    let _ = sender.wait_for_peers(PeerTable::wait_forked);
    let mut source = HashingReader::new(source, context.plan.write.verify);
    let result = send_blocks(&mut sender, &mut source, context.plan.block, true, None);
    if result.is_ok() {
        if let Some(checksum) = source.end().checksum {
            sender.set_checksum(checksum);
        }
        let _ = sender.close();
        let _ = sender.wait_for_peers(PeerTable::wait_ended);
    }
    conclude(context, &peers, result.map(|()| source.total()), source.total())
}

fn copy_through_sockets(
    context: &CopyContext<'_>,
    source: &mut Source,
    observer: ProgressObserver,
) -> Result<(u64, Vec<PeerOutcome>), CopyError> {
    let plan = context.plan;
    let block = plan.block as usize;
    let memory = block as u64 * BLOCKS as u64;
    let status = Arc::new(SendStatus::default());
    let transport = SocketTransport::new(plan.peers, memory, None, status.clone());
    let transport = Arc::new(transport.map_err(cannot("make an event"))?);
    let prepare = |_| transport.add_forked().map(|(place, socket)| (socket.share(), Some(place)));
    let (peers, receivers) = fork_receivers(context, source, None, prepare, |_, socket| open_stream(socket))?;
    status.set_total(source.length());
    status.begin(true);
    let (transport_of_control, observer) = (transport.clone(), Some(observer));
    let _control =
        ControlThread::start(receivers, transport_of_control, peers.clone(), status.clone(), observer)
            .inspect_err(|_| kill_receivers(context, &peers))?;
    let fan_out = FanOut { transport: &transport, peers: &peers, status: &status, timeout: None };
    let result = fan_out.send(source, block, plan.write.verify);
    if result.is_ok() {
        let _ = status.waiting(|| peers.wait_ended());
    }
    let result = result.and_then(|end| end.map(|end| end.total).ok_or(SendFailure::NoReceivers));
    conclude(context, &peers, result, status.sent())
}

/// Forks all receivers. If one cannot be forked, kills the others. `prepare` makes what one receiver takes along, and
/// returns its place if it has one. In the child, `connect` opens the transport.
fn fork_receivers<T>(
    context: &CopyContext<'_>,
    source: &Source,
    joined: Option<Arc<EventFd>>,
    prepare: impl Fn(u32) -> Result<(T, Option<u32>), Errno>,
    connect: impl Fn(u32, T) -> Result<Incoming, Fault>,
) -> Result<(Arc<PeerTable>, Receivers), CopyError> {
    let peers = Arc::new(PeerTable::new(None).map_err(cannot("make an event"))?);
    let reports = ReportPipe::new().map_err(cannot("make a pipe"))?;
    for peer in 1..=context.plan.peers {
        let id = u64::from(peer - 1);
        let forked = prepare(peer).and_then(|(kit, place)| {
            let child = fork(|| {
                let report = receive(context, source, peer, || connect(peer, kit));
                let failed = report.fault.is_some();
                reports.send(id, &report.encode());
                failed.into()
            })?;
            Ok(Peer::forked(id, child, place))
        });
        match forked {
            Ok(forked) => _ = peers.add(forked),
            Err(error) => {
                kill_receivers(context, &peers);
                return Err(CopyError::Fork { peer, error });
            }
        }
    }
    let directory = context.directory.clone();
    let on_lost = Box::new(move |id| directory.remove_part(id as u32 + 1));
    Ok((peers, Receivers::Forked(ForkedPeers { reports, joined, on_lost })))
}

/// Ends a copy that has no control thread.
fn kill_receivers(context: &CopyContext<'_>, peers: &PeerTable) {
    peers.kill_forked();
    (1..=context.plan.peers).for_each(|peer| context.directory.remove_part(peer));
}

/// Ends the receivers of a copy that failed, and returns the result of each. `sent` is the number of bytes that were
/// sent.
fn conclude(
    context: &CopyContext<'_>,
    peers: &PeerTable,
    result: Result<u64, SendFailure>,
    sent: u64,
) -> Result<(u64, Vec<PeerOutcome>), CopyError> {
    if result.is_err() || stop_signal().is_some() {
        peers.end_forked();
    }
    if stop_signal().is_some() {
        return Err(CopyError::Interrupted);
    }
    match result {
        Ok(total) => Ok((total, peers.map(|peer| outcome(context, peer)))),
        Err(SendFailure::NoReceivers) => Ok((sent, peers.map(|peer| outcome(context, peer)))),
        Err(SendFailure::Source(error)) => Err(source_failed(context.plan, error)),
        Err(SendFailure::System(error)) => Err(error.into()),
        // A copy has no lines.
        Err(SendFailure::Send(_) | SendFailure::LineTooLong { .. } | SendFailure::Interrupted) => {
            Err(CopyError::Interrupted)
        }
    }
}

fn outcome(context: &CopyContext<'_>, peer: &Peer) -> PeerOutcome {
    let (number, pid) = (peer.id as u32 + 1, peer.pid as i32);
    let process = peer.process.as_ref();
    let report = process.and_then(|process| Report::decode(process.report.as_deref()?));
    let report = report.unwrap_or_else(|| {
        let ending = process.and_then(|process| process.ended);
        let fault = Fault::Lost(ending.map_or_else(|| "it cannot be reaped".into(), describe));
        let seconds = context.started.elapsed().as_secs_f64();
        Report { bytes: 0, checksum: None, seconds, warnings: Vec::new(), fault: Some(fault) }
    });
    PeerOutcome {
        peer: number,
        pid,
        path: context.plan.directory.join(context.name(number, pid)),
        bytes: report.bytes,
        checksum: report.checksum,
        seconds: report.seconds,
        fault: report.fault,
        warnings: report.warnings,
    }
}

/// Describes how a process ended.
fn describe(ending: Ending) -> String {
    let Ending::Known(status) = ending else { return "ended, and something else has reaped it".into() };
    match (status.terminating_signal(), status.exit_status()) {
        (Some(9), _) => "killed by SIGKILL".into(),
        (Some(15), _) => "killed by SIGTERM".into(),
        (Some(signal), _) => format!("killed by signal {signal}"),
        (_, Some(code)) => format!("ended with code {code} and no report"),
        _ => "ended".into(),
    }
}
