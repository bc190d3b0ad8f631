//! One source to receivers that were started by themselves and find us by a name.

use super::control::{Patience, Stalled, Watch};
use super::source::{Chunk, HashingReader, Source, SourceError};
use super::{Transport, serve};
use crate::channel::{CreateError, PeerSummary, ProgressObserver, SendError, Sender, Snapshot};
use crate::os::deadline;
use crate::os::signal::stop_signal;
use crate::registry::Name;
use crate::registry::status::PeerState;
use rustix::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use thiserror::Error;

/// What to send to whom.
#[derive(Clone, Debug)]
pub struct SendPlan {
    /// The name by which receivers find us.
    pub name: Name,
    /// The file to read; `-` is the standard input.
    pub source: PathBuf,
    /// How the bytes travel.
    pub transport: Transport,
    /// How many receivers must be there before the first byte is sent. With 0 it begins at once, and goes on when nobody
    /// is left.
    pub peers: u32,
    /// The longest wait for receivers while nothing moves.
    pub timeout: Option<Duration>,
    /// Bytes in one block, which is one slot of the ring.
    pub block: u32,
    /// Slots of the ring.
    pub slots: u32,
    /// The most receivers at a time.
    pub seats: u32,
    /// Send a checksum along.
    pub verify: bool,
    /// Throw out a receiver that holds everybody up for so long.
    pub evict_after: Option<Duration>,
}

/// What was sent.
#[derive(Debug)]
pub struct Sent {
    /// Bytes in the source.
    pub bytes: u64,
    /// From the first byte to the last goodbye.
    pub elapsed: Duration,
    /// What became of the receivers.
    pub tally: PeerSummary,
}

/// Why nothing, or not everything, was sent.
#[derive(Debug, Error)]
pub enum SendingError {
    /// The source.
    #[error("{}: {error}", crate::os::escape::shown(.path), error = .error)]
    Source {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: SourceError,
    },
    /// The channel.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The receivers, or whoever asked us to end.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The last receiver went before the end.
    #[error("no receiver is left")]
    NobodyLeft(PeerSummary),
    /// A signal asked us to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Sends a source to receivers that find us by our name, and returns when all that took part have everything or are gone.
///
/// # Blocking
/// Until enough receivers came, the source ended, and the slowest is done. `watch` hears whom it waits for.
///
/// # Errors
/// Why there was nothing to send, or why the sending stopped.
pub fn send(plan: &SendPlan, watch: impl Watch + 'static) -> Result<Sent, SendingError> {
    let mut source = Source::open(&plan.source).map_err(|error| failed(plan, error))?;
    super::recv::grow_pipe(source.as_fd());
    match plan.transport {
        Transport::Shm => through_ring(plan, &mut source, watch),
        Transport::Socket => serve::run(plan, &mut source, watch),
    }
}

fn through_ring(
    plan: &SendPlan,
    source: &mut Source,
    watch: impl Watch + 'static,
) -> Result<Sent, SendingError> {
    let mut options = Sender::options().slot_size(plan.block).slots(plan.slots).seats(plan.seats);
    if let Some(time) = plan.evict_after {
        options = options.evict_after(time);
    }
    let mut sender = options.observer(watcher(watch, source.length())).create(&plan.name)?;
    let deadline = plan.timeout.map(deadline::after);
    sender.wait_for_receivers_until(plan.peers, deadline)?;
    sender.begin(plan.peers > 0);
    let begun = Instant::now();
    let mut feed = HashingReader::new(source, plan.verify);
    loop {
        if stop_signal().is_some() {
            return Err(SendingError::Interrupted);
        }
        while_moving(plan.timeout, &mut sender, |sender, deadline| sender.claim_until(deadline).map(|_| ()))?;
        if plan.peers > 0 && sender.receivers() == 0 {
            return Err(SendingError::NobodyLeft(sender.summary()));
        }
        let guests = sender.guests().clone();
        let mut slot = sender.claim()?;
        let piece = feed.next(slot.buffer(), guests.cancelled());
        match piece {
            Ok(Chunk::Bytes(count)) => slot.publish(count),
            Ok(Chunk::Hole(length)) => slot.publish_hole(length),
            Ok(Chunk::End) => break,
            Err(SourceError::Interrupted) if stop_signal().is_some() => {
                return Err(SendingError::Interrupted);
            }
            Err(SourceError::Interrupted) if guests.is_asked_to_stop() => {
                return Err(SendError::Stopped.into());
            }
            // The last receiver went: the loop looks whether another came meanwhile.
            Err(SourceError::Interrupted) => guests.cancel_bell().drain(),
            Err(error) => return Err(failed(plan, error)),
        }
    }
    let end = feed.end();
    if let Some(checksum) = end.checksum {
        sender.set_checksum(checksum);
    }
    let finish = |sender: &mut Sender, deadline| sender.finish_until(deadline).map(|_| ());
    while_moving(plan.timeout, &mut sender, finish)?;
    Ok(Sent { bytes: end.total, elapsed: begun.elapsed(), tally: sender.summary() })
}

/// Waits for receivers until nothing moved for `timeout`: they may be slow, but not still.
fn while_moving(
    timeout: Option<Duration>,
    sender: &mut Sender,
    mut wait: impl FnMut(&mut Sender, Option<Instant>) -> Result<(), SendError>,
) -> Result<(), SendError> {
    let Some(timeout) = timeout else { return wait(sender, None) };
    // Most often there is nothing to wait for, and no need to know how far everybody is.
    let mut deadline = Instant::now();
    let mut lag = None;
    loop {
        match wait(sender, Some(deadline)) {
            Err(SendError::TimedOut) if lag != Some(sender.lag()) => lag = Some(sender.lag()),
            other => return other,
        }
        deadline = deadline::after(timeout);
    }
}

pub(super) fn failed(plan: &SendPlan, error: SourceError) -> SendingError {
    match error {
        SourceError::Interrupted => SendingError::Interrupted,
        error => SendingError::Source { path: plan.source.clone(), error },
    }
}

/// Tells the watch what the control thread sees.
pub(super) fn watcher(mut watch: impl Watch + 'static, total: Option<u64>) -> ProgressObserver {
    let mut patience = Patience::new();
    Box::new(move |view: &Snapshot| match view.wanted {
        Some(wanted) => {
            let there = view.participants.iter().filter(|peer| peer.standing == PeerState::Live).count();
            watch.gathering(there, wanted);
        }
        None => {
            let unfinished =
                view.participants.iter().zip(1..).filter(|(peer, _)| peer.standing != PeerState::Done);
            let left = unfinished
                .map(|(peer, number)| Stalled {
                    peer: number,
                    pid: peer.pid as i32,
                    joined: peer.standing != PeerState::Joining,
                    behind: peer.behind,
                })
                .collect();
            patience.look(view.sent, total, left, view.waiting, &mut watch);
        }
    })
}
