//! Participants at full speed that are stopped, continued and killed at any moment: a ring's receivers, a ring's
//! senders, and the processes attached to a mailbox.

use super::mail;
use super::peers::{Fault, Outcome, Peer, Words, ensure, loss, retry};
use super::ring::{LENGTH, SIZE, drain, geometry, message, request_seat, sit, take};
use std::thread::sleep;
use std::time::{Duration, Instant};
use whorl::MailSegment;
use whorl::internal::os::ofd_lock::ByteLocks;
use whorl::internal::shm::liveness::{OWNER, Owner};
use whorl::internal::shm::ring::{OwnedSharedRing, Segment, SharedRing};
use whorl_core::error::ReadError;
use whorl_core::layout::MailGeometry;
use whorl_core::ring::{Membership, Sender};

/// Counts of what happened, shared with the test.
pub const KILLS: usize = 0;
pub const STOPS: usize = 1;
const OWNED: usize = 0;
const SENT: usize = 1;
const JOINED: usize = 2;

/// The next number of a xorshift sequence.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Lets a victim run for a moment. Every third time stops it for another moment, and perhaps continues it. Then kills
/// it.
fn end_at_random(victim: Peer, random: &mut u64, happened: Words) {
    let nap = |random: &mut u64, most: u64| sleep(Duration::from_micros(next(random) % most));
    nap(random, 1500);
    if next(random).is_multiple_of(3) {
        victim.signal(libc::SIGSTOP);
        happened.word(STOPS).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        nap(random, 3000);
        if next(random).is_multiple_of(2) {
            victim.signal(libc::SIGCONT);
            nap(random, 500);
        }
    }
    victim.kill();
    happened.word(KILLS).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
}

/// One ring with one sender that sends without end. One of its three receivers at a time is killed.
pub fn receivers(mut random: u64, kills: u32, happened: Words) -> Outcome {
    let words = Words::new();
    let segment = Segment::reserve(geometry()).expect("a segment");
    let _sender = Peer::fork("the sender", || endless(&segment, words));
    words.wait(OWNED, "the sender")?;
    let ring = segment.attach(Owner::LockHolder).expect("it has a ring");
    // SAFETY: the sender has dropped its own.
    let membership = unsafe { Membership::new(ring) };
    let mut victims = Vec::new();
    for _ in 0..kills {
        while victims.len() < 3 {
            words.set(JOINED, 0);
            let seat = (0..4).find(|seat| membership.status_of(*seat).is_none()).expect("a free seat");
            victims.push(Peer::fork("a receiver", || reader(&segment, words, seat)));
            words.wait(JOINED, "a receiver that sits down")?;
            membership.admit_all();
        }
        let at = next(&mut random) as usize % victims.len();
        let victim = victims.swap_remove(at);
        end_at_random(victim, &mut random, happened);
        // The dead receiver is known by its byte alone, even if it was killed before it took its seat.
        membership.reclaim_dead();
        let before = words.get(SENT);
        retry("the sender, after a death", |deadline| {
            while words.get(SENT) == before && Instant::now() < deadline {
                sleep(Duration::from_micros(100));
                membership.admit_all();
            }
            (words.get(SENT) != before).then_some(())
        })?;
    }
    Ok(())
}

/// Becomes the owner, which holds its byte as long as it keeps the locks.
fn own(segment: &Segment) -> Result<(ByteLocks, Sender<OwnedSharedRing>, Membership<SharedRing>), Fault> {
    let ring = segment.own(geometry()).map_err(|error| Fault::Loss(error.to_string()))?;
    let locks = segment.byte_locks().map_err(|error| Fault::Loss(error.to_string()))?;
    ensure(locks.try_lock(OWNER) == Ok(true), || "the owner's byte is taken".into())?;
    let (sender, membership) = ring.into_sender();
    Ok((locks, sender, membership))
}

fn endless(segment: &Segment, words: Words) -> Outcome {
    let (_locks, mut sender, membership) = own(segment)?;
    drop(membership);
    words.set(OWNED, 1);
    for number in 0.. {
        let mut claim = sender.claim(SIZE, None).map_err(|why| Fault::Loss(why.to_string()))?;
        claim.writer().write(&message(number));
        claim.publish(LENGTH);
        words.word(SENT).store(number as u32 + 1, std::sync::atomic::Ordering::SeqCst);
    }
    Ok(())
}

/// Reads without end, and ends only if what it reads is wrong. Then the sender's patience with it is the test's.
fn reader(segment: &Segment, words: Words, seat: u32) -> Outcome {
    let (ring, _locks) = sit(segment, seat)?;
    let pending = request_seat(ring, seat, false)?;
    words.set(JOINED, 1);
    let mut receiver = pending.admitted(None).map_err(|why| Fault::Loss(why.to_string()))?;
    let mut next = None;
    loop {
        if let Some(Err(why)) = take(&mut receiver, &mut next, None)? {
            return loss(format!("a receiver met: {why}"));
        }
    }
}

/// Senders at full speed are killed. Their receiver gets everything that was published, and an error instead of the
/// end.
pub fn senders(mut random: u64, kills: u32, happened: Words) -> Outcome {
    for _ in 0..kills {
        let words = Words::new();
        let segment = Segment::reserve(geometry()).expect("a segment");
        let sender = Peer::fork("the sender", || admitting(&segment, words));
        words.wait(OWNED, "the sender")?;
        let survivor = Peer::fork("the survivor", || survivor(&segment, words));
        words.wait(JOINED, "the survivor")?;
        end_at_random(sender, &mut random, happened);
        survivor.end("the survivor")?;
        words.free();
    }
    Ok(())
}

fn admitting(segment: &Segment, words: Words) -> Outcome {
    let (_locks, mut sender, membership) = own(segment)?;
    words.set(OWNED, 1);
    words.wait_for_ever(JOINED);
    membership.admit_all();
    for number in 0.. {
        let mut claim = sender.claim(SIZE, None).map_err(|why| Fault::Loss(why.to_string()))?;
        claim.writer().write(&message(number));
        claim.publish(LENGTH);
        words.word(SENT).store(number as u32 + 1, std::sync::atomic::Ordering::SeqCst);
    }
    Ok(())
}

fn survivor(segment: &Segment, words: Words) -> Outcome {
    let (ring, _locks) = sit(segment, 0)?;
    let pending = request_seat(ring, 0, true)?;
    words.set(JOINED, 1);
    let mut receiver = match pending.admitted(None) {
        Ok(receiver) => receiver,
        // It was killed before it had sent anything.
        Err(whorl_core::error::JoinError::SenderDied) if words.get(SENT) == 0 => return Ok(()),
        Err(why) => return loss(format!("the survivor met: {why}")),
    };
    let mut next = Some(0);
    match drain(&mut receiver, &mut next)? {
        ReadError::SenderDied => ensure(next >= Some(words.get(SENT).into()), || {
            format!("{} were published, and read up to {next:?}", words.get(SENT))
        }),
        why => loss(format!("the survivor met: {why}")),
    }
}

/// One mailbox and three processes that read and write it as fast as they can. One at a time is killed. Its replacement
/// finds a whole message, no older than the last that it saw, and can write.
pub fn users(mut random: u64, kills: u32, happened: Words) -> Outcome {
    let geometry = MailGeometry::new(1, 64, 8).expect("possible mailboxes");
    let segment = MailSegment::create(geometry).expect("a segment");
    let mut victims = Vec::new();
    let mut last = 0;
    let mut me = segment.sit().map_err(|error| Fault::Loss(error.to_string()))?;
    mail::write(&mut me, 0)?;
    for round in 0..kills {
        while victims.len() < 3 {
            victims.push(Peer::fork("a user", || user(&segment, round.into())));
        }
        let at = next(&mut random) as usize % victims.len();
        end_at_random(victims.swap_remove(at), &mut random, happened);
        let (_, version) = mail::read(&mut me)?;
        ensure(version >= last, || format!("version {version} after {last}"))?;
        let written = mail::write(&mut me, round.into())?;
        ensure(written > version, || format!("version {written} after {version}"))?;
        last = written;
    }
    Ok(())
}

fn user(segment: &MailSegment, seed: u64) -> Outcome {
    let segment = mail::open(segment)?;
    let mut me = segment.sit().map_err(|error| Fault::Loss(error.to_string()))?;
    let mut last = 0;
    for turn in seed.. {
        let (_, version) = mail::read(&mut me)?;
        ensure(version >= last, || format!("version {version} after {last}"))?;
        last = mail::write(&mut me, turn)?;
    }
    Ok(())
}
