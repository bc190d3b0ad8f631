//! The mailboxes' operations, through the library: take a seat, write (lock, fill, commit, unlock, notify), read,
//! leave, reclaim.

use super::peers::{Fault, Outcome, Peer, Words, ensure, loss, retry};
use super::ring::{message, number_of};
use super::steps::{operation, pause};
use super::sweep::{Case, CaseResult, Operation};
use rustix::fd::AsFd;
use std::hint::black_box;
use std::time::Duration;
use whorl::{MailSegment, MailboxError, Mailboxes};
use whorl_core::layout::MailGeometry;

const READY: usize = 0;
const SETTLE: usize = 1;
const GO: usize = 2;
const BUSY: usize = 3;
const DEAD: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Posting {
    Sit,
    Write,
    Read,
    Leave,
    Reclaim,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Alone,
    Sleeper,
    Busy,
}

fn met(error: MailboxError) -> Fault {
    Fault::Loss(error.to_string())
}

/// Opens the segment in a process of its own, because a child must not use what its parent has opened.
pub fn open(segment: &MailSegment) -> Result<MailSegment, Fault> {
    let object = segment.as_fd().try_clone_to_owned().map_err(|error| Fault::Loss(error.to_string()))?;
    MailSegment::open(object).map_err(|error| Fault::Loss(error.to_string()))
}

pub fn write(user: &mut Mailboxes, number: u64) -> Result<u64, Fault> {
    let written =
        retry("to write", |deadline| match user.write_until(0, &message(number), Some(deadline)) {
            Err(error) if error.lock_error().is_some() => None,
            other => Some(other),
        })?;
    written.map_err(met)
}

/// Reads the latest message and checks that it is whole. Returns its number and its version.
pub fn read(user: &mut Mailboxes) -> Result<(u64, u64), Fault> {
    let look = |bytes: &[u8], version: u64| number_of(bytes).map(|number| (number, version));
    let read = retry("to read", |deadline| match user.read_with(0, Some(deadline), look) {
        Err(error) if error.lock_error().is_some() => None,
        other => Some(other),
    })?;
    read.map_err(met)?
}

struct Killed {
    posting: Posting,
    state: State,
    stops: bool,
    segment: MailSegment,
    words: Words,
    peer: Peer,
    version: u64,
}

/// The number of the message that the victim writes.
const VICTIMS: u64 = 1000;

impl Killed {
    fn new(posting: Posting, state: State, stops: bool) -> Result<Self, Fault> {
        let words = Words::new();
        let geometry = MailGeometry::new(1, 64, 4).expect("possible mailboxes");
        let segment = MailSegment::create(geometry).expect("a segment");
        let mut tester = segment.sit().map_err(met)?;
        let version = write(&mut tester, 1)?;
        drop(tester);
        let peer = Peer::fork("the peer", || peer(&segment, words, state, version));
        words.wait(READY, "the peer")?;
        Ok(Self { posting, state, stops, segment, words, peer, version })
    }
}

fn peer(segment: &MailSegment, words: Words, state: State, version: u64) -> Outcome {
    let segment = open(segment)?;
    let mut me = segment.sit().map_err(met)?;
    words.set(READY, 1);
    words.wait_for_ever(SETTLE);
    match state {
        State::Alone => words.wait_for_ever(GO),
        State::Sleeper => {
            // Without a deadline: the tester's patience is the limit.
            let news = me.wait_newer(0, version, None).map_err(met)?;
            let Some(news) = news else { return loss("no news") };
            number_of(&news.bytes)?;
            ensure(news.version > version, || "old news".into())?;
        }
        State::Busy => {
            // A victim that is stepped through blocks the peer for as long as that takes.
            let mut last = version;
            while words.get(GO) == 0 {
                let news = me.read(0).map_err(met)?;
                number_of(&news.bytes)?;
                ensure(news.version >= last, || format!("version {} after {last}", news.version))?;
                last = me.write(0, &message(2)).map_err(met)?;
                words.set(BUSY, 1);
            }
        }
    }
    let (_, before) = read(&mut me)?;
    let after = write(&mut me, 3)?;
    ensure(after > before, || format!("version {after} after {before}"))
}

/// Takes a seat, and is killed while it writes one message after another.
fn die(segment: &MailSegment, words: Words) -> Outcome {
    let segment = open(segment)?;
    let mut me = segment.sit().map_err(met)?;
    words.set(DEAD, 1);
    loop {
        write(&mut me, 4)?;
    }
}

impl Case for Killed {
    fn victim(&mut self) {
        let segment = open(&self.segment).expect("the segment");
        if self.posting == Posting::Sit {
            pause();
            drop(black_box(operation(|| segment.sit())));
            return;
        }
        if self.posting == Posting::Reclaim {
            pause();
            operation(|| _ = black_box(segment.reclaim_dead()));
            return;
        }
        let mut me = segment.sit().expect("a seat");
        me.read(0).expect("a first message"); // makes room for messages
        pause();
        match self.posting {
            Posting::Write => drop(black_box(operation(|| me.write(0, &message(VICTIMS))))),
            Posting::Read => drop(black_box(operation(|| me.read(0)))),
            _ => operation(|| drop(me)),
        }
    }

    fn at_pause(&mut self, _number: u32) -> Outcome {
        if self.posting == Posting::Reclaim {
            let (segment, words) = (&self.segment, self.words);
            let dead = Peer::fork("the process that dies", || die(segment, words));
            words.wait(DEAD, "the process that dies")?;
            std::thread::sleep(Duration::from_micros(50));
            dead.kill();
            self.version = self.segment.version(0).unwrap_or(0);
        }
        self.words.set(SETTLE, 1);
        match self.state {
            State::Alone => Ok(()),
            // It has seen the dead process's messages, and has finished.
            State::Sleeper if self.posting == Posting::Reclaim => Ok(()),
            State::Sleeper => self.peer.asleep(),
            State::Busy => self.words.wait(BUSY, "the busy peer"),
        }
    }

    fn survive(self: Box<Self>) -> Outcome {
        let Self { words, ref segment, .. } = *self;
        words.set(GO, 1);
        let mut new = segment.sit().map_err(met)?;
        let (number, version) = read(&mut new)?;
        ensure(version >= self.version, || format!("version {version} after {}", self.version))?;
        if self.state == State::Alone && self.posting == Posting::Write && version <= self.version + 1 {
            // Only the peer may have written since. Then the version is higher.
            let expected = if version == self.version { 1 } else { VICTIMS };
            ensure(number == expected || number == 3, || format!("message {number} as version {version}"))?;
        }
        let written = write(&mut new, 5)?;
        ensure(written > version, || format!("version {written} after {version}"))?;
        let (_, seen) = read(&mut new)?;
        ensure(seen >= written, || format!("version {seen} after {written}"))?;
        self.peer.end("the peer")?;
        // All live processes have left, and the dead are reclaimed, so only this process holds a seat. A victim that is
        // stopped keeps one: its own, or that of the process that it reclaims.
        segment.reclaim_dead();
        let mut others = Vec::new();
        for _ in 0..if self.stops { 2 } else { 3 } {
            others.push(segment.sit().map_err(met)?);
        }
        ensure(self.stops || segment.sit().is_err(), || "a seat too many".into())?;
        drop((others, new));
        words.free();
        Ok(())
    }
}

/// All operations, in all states.
pub fn operations() -> Vec<Operation> {
    let kinds = [
        ("mailbox: sit", Posting::Sit, false),
        ("mailbox: write and flip", Posting::Write, false),
        ("mailbox: read", Posting::Read, false),
        ("mailbox: leave", Posting::Leave, false),
        ("mailbox: reclaim", Posting::Reclaim, false),
        ("mailbox: stopped while it sits down", Posting::Sit, true),
        ("mailbox: stopped while it reclaims", Posting::Reclaim, true),
    ];
    let states = [(State::Alone, "alone"), (State::Sleeper, "one sleeps"), (State::Busy, "one is busy")];
    let mut all = Vec::new();
    for (name, posting, stops) in kinds {
        for (state, said) in states {
            let make = move || -> CaseResult { Ok(Box::new(Killed::new(posting, state, stops)?)) };
            all.push(Operation { name, state: said, stops, make: Box::new(make) });
        }
    }
    all
}
