//! The ring as transport: the sender reads the source straight into slots, each receiver writes its file straight from them.

use super::control::{Link, Watch};
use super::forked::receive;
use super::report::Fault;
use super::roster::{PeerOutcome, Roster};
use super::source::{Chunk, HashingReader, Source, SourceError};
use super::{CopyContext, CopyError};
use crate::channel::control::progress::Progress;
use crate::channel::transport::incoming::Incoming;
use crate::channel::transport::ring_receiver::RingReceiver;
use crate::os::error::cannot;
use crate::os::event_fd::EventFd;
use crate::os::futex::FEW_YIELDS;
use crate::os::signal::stop_signal;
use crate::shm::liveness::Owner;
use crate::shm::ring::{OwnedSharedRing, Segment, SharedRing};
use rustix::fd::AsFd;
use rustix::process::Pid;
use whorl_core::error::{ClaimError, JoinError};
use whorl_core::ring::{ByteWriter, Membership, PendingReceiver, Sender, is_free};
use whorl_core::seat::State;

/// Runs the whole copy; returns the bytes sent and what became of each peer.
pub(super) fn run(
    job: &CopyContext<'_>,
    source: &mut Source,
    watch: &mut dyn Watch,
) -> Result<(u64, Vec<PeerOutcome>), CopyError> {
    let geometry = job.plan.geometry()?;
    let segment = Segment::reserve(geometry)?.with_yields(FEW_YIELDS);
    let ring = segment.own(geometry)?;
    let knock = EventFd::new().map_err(cannot("make an event"))?;
    let parent = rustix::process::getpid();
    let roster = Roster::fork(job, |peer| {
        receive(job, source, peer, || occupy_seat(&segment, &knock, parent, peer - 1))
    })?;
    let (sender, membership) = ring.into_sender();
    let link = Seats { membership, block: job.plan.block.into() };
    let flow = Progress::default();
    super::run_transfer(job, roster, &link, Some(&knock), &flow, watch, |roster| {
        send_loop(sender, job, source, roster, &flow)
    })
}

/// The data path. The sender lives until every receiver has ended: dropping it earlier would end the stream early.
fn send_loop(
    mut sender: Sender<OwnedSharedRing>,
    job: &CopyContext<'_>,
    source: &mut Source,
    roster: &Roster,
    flow: &Progress,
) -> Result<u64, CopyError> {
    flow.waiting(|| roster.wait_joined());
    let mut feed = HashingReader::new(source, job.plan.care.verify);
    loop {
        if stop_signal().is_some() {
            return Err(CopyError::Interrupted);
        }
        if roster.nobody_left() {
            return Err(CopyError::NobodyLeft);
        }
        let mut claim = flow.waiting(|| sender.claim(1, None)).map_err(|error| match error {
            ClaimError::Interrupted => CopyError::Interrupted,
            ClaimError::Full | ClaimError::TimedOut => unreachable!("a wait without a deadline"),
        })?;
        let mut slot = claim.slot(0);
        let piece = feed.next(as_slice(&mut slot), job.cancel.as_fd()).map_err(|error| match error {
            SourceError::Interrupted if roster.nobody_left() => CopyError::NobodyLeft,
            SourceError::Interrupted => CopyError::Interrupted,
            error => job.source_failed(error),
        })?;
        match piece {
            Chunk::End => break,
            Chunk::Bytes(count) => slot.set_length(count).expect("the buffer was the slot"),
            Chunk::Hole(length) => slot.set_hole(length),
        }
        claim.publish(1);
        flow.set_sent(feed.total());
    }
    sender.close(feed.end());
    flow.waiting(|| roster.wait_ended());
    Ok(feed.total())
}

fn as_slice<'a>(slot: &'a mut ByteWriter<'_>) -> &'a mut [u8] {
    let (start, length) = (slot.as_mut_ptr(), slot.capacity());
    // SAFETY: `length` bytes, all of them initialised since the segment was made, and this writer's alone while it is
    // borrowed: receivers have given the slot back.
    unsafe { std::slice::from_raw_parts_mut(start, length) }
}

/// In a forked receiver: takes its seat, and waits to be admitted.
fn occupy_seat(segment: &Segment, knock: &EventFd, parent: Pid, seat: u32) -> Result<Incoming, Fault> {
    let own = |error: &dyn std::fmt::Display| Fault::Own(error.to_string());
    let ring = segment.attach(Owner::Parent(parent)).map_err(|error| own(&error))?;
    let locks = segment.byte_locks().map_err(|error| own(&error))?;
    let request = || PendingReceiver::request_seat(ring.clone(), seat, true, std::process::id()).ok();
    let pending = locks.occupy(seat, || is_free(&ring, seat), request);
    let pending = pending.map_err(|error| Fault::Own(crate::os::error::reason(error)))?;
    let pending = pending.ok_or_else(|| Fault::Own(format!("seat {seat} is held by another process")))?;
    knock.signal();
    let receiver = pending.admitted(None).map_err(|error| match error {
        JoinError::Interrupted => Fault::Interrupted,
        JoinError::SenderDied => Fault::Sender(error.to_string()),
        other => own(&other),
    })?;
    Ok(Incoming::Ring(RingReceiver::new(receiver, locks)))
}

/// The ring's seats, for the control thread.
struct Seats {
    membership: Membership<SharedRing>,
    block: u64,
}

impl Link for Seats {
    fn welcome(&self) -> Vec<u32> {
        self.membership.admit_all();
        let active = self.membership.status().filter(|status| status.state == State::Active);
        active.map(|status| status.seat).collect()
    }

    fn bury(&self, seat: u32) {
        self.membership.reclaim(seat);
    }

    fn behind(&self, seat: u32) -> u64 {
        self.membership.status_of(seat).map_or(0, |status| u64::from(status.behind) * self.block)
    }
}
