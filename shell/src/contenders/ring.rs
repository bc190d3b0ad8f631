//! Whorl's own ring as the library builds it: segments, byte locks, and a thread that detects dead receivers.

use crate::os::ofd_lock::ByteLocks;
use crate::os::thread::start_thread;
use crate::shm::Geometry;
use crate::shm::liveness::{OWNER, Owner};
use crate::shm::ring::{OwnedSharedRing, Segment, SharedRing};
use harness::contender::{
    Contender, Latency, LatencyCase, LatencyParties, Stream, StreamCase, StreamParties, Unavailable, Wait,
};
use harness::latency::{Echo, Link, Meter, WORDS, verified};
use harness::load;
use harness::role::{Pacer, Tally};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::thread::Builder;
use std::time::Duration;
use whorl_core::ring::{ByteReader, ByteWriter, Membership, PendingReceiver, Receiver, Sender};
use whorl_core::seat::State;

/// The ring as a contender.
#[derive(Debug)]
pub struct Whorl;

impl Contender for Whorl {
    fn name(&self) -> &'static str {
        "whorl"
    }

    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        let opened = Opened::new(case.size, case.slots, case.receivers)?;
        Ok(Stream::Processes(Box::new(Broadcast { opened, case: *case })))
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        let (there, back) = (Opened::new(WORDS * 8, 64, 1)?, Opened::new(WORDS * 8, 64, 1)?);
        Ok(Latency::Processes(Box::new(ThereAndBack { there, back, spin: case.wait == Wait::Spin })))
    }
}

/// A segment that has no sender yet.
struct Opened {
    segment: Segment,
    geometry: Geometry,
}

impl Opened {
    fn new(size: usize, slots: usize, receivers: usize) -> Result<Self, Unavailable> {
        let unavailable = |error: &dyn std::fmt::Display| Unavailable::cannot(error.to_string());
        let geometry = Geometry::new(size as u32, slots as u32, receivers as u32)
            .map_err(|error| unavailable(&error))?;
        let segment = Segment::reserve(geometry).map_err(|error| unavailable(&error))?;
        Ok(Self { segment, geometry })
    }

    /// Makes this process the sender. The receivers count it as alive as long as it keeps the returned lock.
    fn become_sender(&self) -> (ByteLocks, Sender<OwnedSharedRing>, Membership<SharedRing>) {
        let owner = self.segment.byte_locks().expect("a lock");
        assert!(owner.try_lock(OWNER).expect("a lock"), "another process is the sender");
        let (sender, membership) = self.segment.own(self.geometry).expect("a reserved segment").into_sender();
        (owner, sender, membership)
    }

    /// Admits receivers until each seat has one.
    fn admit_receivers(&self, membership: &Membership<SharedRing>) {
        let active = || membership.status().filter(|status| status.state == State::Active).count();
        while active() < self.geometry.seats() as usize {
            membership.admit_all();
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Waits until the sender has created the ring, then requests a seat.
    fn request_seat(&self, seat: usize) -> (ByteLocks, PendingReceiver<SharedRing>) {
        let ring = loop {
            match self.segment.attach(Owner::LockHolder) {
                Ok(ring) => break ring,
                Err(_) => std::thread::sleep(Duration::from_micros(100)),
            }
        };
        let locks = self.segment.byte_locks().expect("a lock");
        assert!(locks.try_lock(seat as u32).expect("a lock"), "another receiver occupies the seat");
        (
            locks,
            PendingReceiver::request_seat(ring, seat as u32, true, std::process::id()).expect("a free seat"),
        )
    }
}

fn words(item: &ByteReader<'_>) -> &'static [u64] {
    // SAFETY: the sender is a role of this harness. It follows the protocol, so it does not write the slot before its release.
    let bytes = unsafe { item.as_slice() }.expect("a length within the slot");
    // SAFETY: slots are aligned to 16 bytes, and the sender writes lengths that are multiples of 8. Each caller uses the slice only
    // before it releases the item.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 8) }
}

fn fill(mut slot: ByteWriter<'_>, words: usize, stamp: u64) {
    // SAFETY: the slot is claimed, aligned to 16 bytes, and has room for `words` words.
    unsafe { load::fill_at(slot.as_mut_ptr().cast(), words, stamp) };
    slot.set_length(words * 8).expect("a length within the slot");
}

struct Broadcast {
    opened: Opened,
    case: StreamCase,
}

impl StreamParties for Broadcast {
    fn send(self: Box<Self>, pace: &mut Pacer) {
        let (_owner, mut sender, membership) = self.opened.become_sender();
        self.opened.admit_receivers(&membership);
        start_thread(Builder::new(), move || reclaim_dead_receivers(&membership)).expect("a thread");
        pace.ready();
        loop {
            let mut claim = sender.claim(self.case.batch as u32, None).expect("space");
            let batch = pace.batch(claim.len() as usize);
            for i in 0..claim.len() {
                fill(claim.slot(i), self.case.words(), batch.stamp(i as usize));
            }
            let count = claim.len();
            claim.publish(count);
            if batch.last {
                break;
            }
        }
        sender.drain(None).expect("each receiver reads to the end");
    }

    fn receive(self: Box<Self>, index: usize, tally: &mut Tally) {
        let (_locks, pending) = self.opened.request_seat(index);
        let mut receiver = pending.admitted(None).expect("admission");
        tally.ready();
        // The receiver releases a quarter of the ring at a time, so that the sender can write while the receiver reads.
        let max_release = (self.case.slots as u32 / 4).max(1);
        loop {
            let batch = receiver.read(None).expect("a stream");
            let count = batch.len().min(max_release);
            for i in 0..count {
                if tally.take(words(&batch.item(i))) {
                    batch.release(count);
                    return;
                }
            }
            batch.release(count);
        }
    }
}

/// Reclaims the seats of dead receivers, as the library's control thread does. A pidfd is readable when its process has ended.
fn reclaim_dead_receivers(membership: &Membership<SharedRing>) {
    let open = |pid: u32| pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok();
    let mut peers: Vec<_> =
        membership.status().filter_map(|status| Some((status.seat, open(status.pid)?))).collect();
    while !peers.is_empty() {
        let mut ready: Vec<_> = peers.iter().map(|(_, pidfd)| PollFd::new(pidfd, PollFlags::IN)).collect();
        let _ = poll(&mut ready, None);
        let ended: Vec<_> = ready.iter().map(|pidfd| !pidfd.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        peers.retain(|(seat, _)| {
            let ended = ended.next() == Some(true);
            if ended {
                membership.reclaim(*seat);
            }
            !ended
        });
    }
}

struct ThereAndBack {
    there: Opened,
    back: Opened,
    spin: bool,
}

impl ThereAndBack {
    fn end(&self, outgoing: &Opened, incoming: &Opened) -> End {
        let (owner, sender, membership) = outgoing.become_sender();
        let (seat, pending) = incoming.request_seat(0);
        outgoing.admit_receivers(&membership);
        let receiver = pending.admitted(None).expect("admission");
        End { sender, receiver, spin: self.spin, _locks: [owner, seat] }
    }
}

impl LatencyParties for ThereAndBack {
    fn ping(self: Box<Self>, meter: &mut Meter) {
        meter.run(&mut self.end(&self.there, &self.back));
    }

    fn pong(self: Box<Self>, echo: &mut Echo) {
        echo.run(&mut self.end(&self.back, &self.there));
    }
}

struct End {
    sender: Sender<OwnedSharedRing>,
    receiver: Receiver<SharedRing>,
    spin: bool,
    _locks: [ByteLocks; 2],
}

impl Link for End {
    fn send(&mut self, stamp: u64) {
        let mut claim = self.sender.claim(1, None).expect("space");
        fill(claim.slot(0), WORDS, stamp);
        claim.publish(1);
    }

    fn receive(&mut self) -> u64 {
        if self.spin {
            loop {
                if let Ok(batch) = self.receiver.try_read() {
                    let stamp = verified(words(&batch.item(0)));
                    batch.release(1);
                    return stamp;
                }
                std::hint::spin_loop();
            }
        }
        let batch = self.receiver.read(None).expect("an answer");
        let stamp = verified(words(&batch.item(0)));
        batch.release(1);
        stamp
    }
}
