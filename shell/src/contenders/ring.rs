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
use whorl_core::ring::{Batch, CELL, ClaimSize, Membership, PendingReceiver, Receiver, Sender};
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
        let geometry =
            Geometry::new(capacity(size, slots), receivers as u32).map_err(|error| unavailable(&error))?;
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

/// Returns the size of the largest ring that is no deeper than `slots` messages of `size` bytes, but takes two.
fn capacity(size: usize, slots: usize) -> u64 {
    let frame = frame(size);
    let deep = (slots * frame + 1).next_power_of_two() / 2;
    deep.max((2 * frame).next_power_of_two()).max(64) as u64
}

/// Returns the bytes that a message of `size` bytes takes in the ring.
fn frame(size: usize) -> usize {
    (size + CELL).next_multiple_of(CELL)
}

/// Returns the words of the next message of a batch, and `None` after the last.
fn next_words<'b>(batch: &'b mut Batch<'_, SharedRing>) -> Option<&'b [u64]> {
    let frame = batch.next_frame().expect("an honest sender")?;
    // SAFETY: the sender is a role of this harness. It follows the protocol, so it does not write the frame before its release,
    // for which the batch must not be borrowed. This ring evicts no receiver.
    let bytes = unsafe { frame.payload().as_slice() };
    // SAFETY: payloads are aligned to 8 bytes, and the sender writes lengths that are multiples of 8.
    Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 8) })
}

/// Claims room for a message, fills it, and stages it.
fn stage(sender: &mut Sender<OwnedSharedRing>, words: usize, stamp: u64) {
    let length = (words * 8) as u32;
    let mut claim = sender.claim(ClaimSize::exactly(length), None).expect("space");
    // SAFETY: the claim is aligned to 8 bytes and has room for `words` words.
    unsafe { load::fill_at(claim.writer().as_mut_ptr().cast(), words, stamp) };
    claim.stage(length);
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
            // As many as there is room for: a sender that waited for room for all of them would wait longer.
            sender.wait_for_space(ClaimSize::exactly(self.case.size as u32), None).expect("space");
            let free = sender.free() / frame(self.case.size) as u64;
            let batch = pace.batch(self.case.batch.min(free as usize).max(1));
            for i in 0..batch.len {
                stage(&mut sender, self.case.words(), batch.stamp(i));
            }
            sender.publish();
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
        let max_release = (self.case.slots / 4).max(1);
        loop {
            let mut batch = receiver.read(None).expect("a stream");
            for _ in 0..max_release {
                let Some(words) = next_words(&mut batch) else { break };
                if tally.take(words) {
                    batch.release();
                    return;
                }
            }
            batch.release();
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
        stage(&mut self.sender, WORDS, stamp);
        self.sender.publish();
    }

    fn receive(&mut self) -> u64 {
        if self.spin {
            loop {
                if let Ok(batch) = self.receiver.try_read() {
                    return take(batch);
                }
                std::hint::spin_loop();
            }
        }
        take(self.receiver.read(None).expect("an answer"))
    }
}

/// Takes the first message of a batch.
fn take(mut batch: Batch<'_, SharedRing>) -> u64 {
    let stamp = verified(next_words(&mut batch).expect("a message"));
    batch.release();
    stamp
}
