//! What the harness gives to a sender and to its receivers: when to stop, and where to report.

use crate::clock;
use crate::control::{Control, phase, task};
use crate::load::{self, LAST};
use std::sync::atomic::Ordering::*;
use std::time::Duration;

/// The number of messages after which a party holds still, in a run that asks for that.
const BEFORE_HOLDING: u64 = 1000;

/// When, and for how long, the first receiver of a timeline pauses.
pub const PAUSE_AT: Duration = Duration::from_millis(200);
pub const PAUSE: Duration = Duration::from_millis(200);

/// The sender's guide. It gives out the numbers of the messages to send, and knows which one is the last.
pub struct Pacer {
    control: &'static Control,
    next: u64,
    phase: u32,
    task: u32,
    over: bool,
    moved_at: u64,
    pauses: [u64; 2],
    cpu_at_start: u64,
}

/// A batch of messages to send.
#[derive(Clone, Copy)]
pub struct Batch {
    first: u64,
    pub len: usize,
    /// Whether the final message of this batch is the last of the run.
    pub last: bool,
}

impl Batch {
    /// Returns the stamp of the `i`th message of this batch.
    #[inline]
    pub fn stamp(&self, i: usize) -> u64 {
        let number = self.first + i as u64;
        if self.last && i + 1 == self.len { number | LAST } else { number }
    }
}

impl Pacer {
    pub fn new(control: &'static Control) -> Self {
        let task = control.task.0.load(Relaxed);
        Pacer {
            control,
            next: 0,
            phase: phase::SETUP,
            task,
            over: false,
            moved_at: 0,
            pauses: [0; 2],
            cpu_at_start: 0,
        }
    }

    /// Reports that the sender is set up. Returns when every party is.
    pub fn ready(&mut self) {
        self.control.arrive();
        self.cpu_at_start = clock::own_cpu_time();
    }

    /// Returns the next `len` messages, all of which must be sent. Nothing may be sent after a batch that is the
    /// `last`.
    #[inline]
    pub fn batch(&mut self, len: usize) -> Batch {
        // Relaxed: the word only carries the phase, and guards nothing. It is read at every batch and changes three
        // times in a run.
        let phase = self.control.phase.0.load(Relaxed);
        if phase != self.phase {
            self.enter(phase);
        }
        if self.task != task::NONE {
            self.do_duty();
        }
        let first = self.next;
        self.next += len as u64;
        Batch { first, len, last: self.over }
    }

    #[cold]
    fn enter(&mut self, phase: u32) {
        let record = &self.control.sender.0;
        if phase >= phase::MEASURE && self.phase < phase::MEASURE {
            record.first.store(self.next, Relaxed);
            record.start_ns.store(clock::nanoseconds(), Relaxed);
        }
        self.over = phase == phase::STOP;
        self.phase = phase;
    }

    #[cold]
    fn do_duty(&mut self) {
        if self.task == task::HOLD_SENDER && self.next >= BEFORE_HOLDING {
            hold(self.control);
            self.task = task::NONE;
            self.enter(phase::STOP);
        } else if self.task == task::WATCH && self.phase >= phase::MEASURE {
            let now = clock::nanoseconds();
            let killed_at = self.control.killed_at.0.load(Relaxed);
            let after = killed_at != 0 && now > killed_at;
            if self.moved_at != 0 {
                let longest = &mut self.pauses[usize::from(after)];
                *longest = (*longest).max(now - self.moved_at);
            }
            self.moved_at = now;
        } else if self.task == task::SCHEDULE || self.task == task::TIMELINE {
            let schedule = &self.control.schedule.0;
            if self.next == 0 {
                schedule.begin();
            }
            schedule.wait_for(self.next);
            self.over = self.next + 1 >= schedule.count();
            if self.task == task::TIMELINE {
                self.control.timelines[0].count(schedule.elapsed());
            }
        }
    }

    /// Reports that everything was sent. The harness calls it.
    pub fn finish(&self) {
        let record = &self.control.sender.0;
        record.pause_before.store(self.pauses[0], Relaxed);
        record.pause_after.store(self.pauses[1], Relaxed);
        record.cpu_ns.store(clock::own_cpu_time() - self.cpu_at_start, Relaxed);
        record.end_ns.store(clock::nanoseconds(), Relaxed);
        record.sent.store(self.next, Release);
    }
}

/// A receiver's counter. It checks each message, and knows when the last one has come.
pub struct Tally {
    control: &'static Control,
    index: usize,
    received: u64,
    wrong: u64,
    hold: bool,
    /// The task, if the run has a schedule.
    scheduled: Option<u32>,
    has_paused: bool,
    cpu_at_start: u64,
}

impl Tally {
    pub fn new(control: &'static Control, index: usize) -> Self {
        let task = control.task.0.load(Relaxed);
        let hold = task == task::HOLD_RECEIVERS;
        let scheduled = Some(task).filter(|task| [task::SCHEDULE, task::TIMELINE].contains(task));
        // Of a timeline's receivers only the first one pauses.
        let has_paused = index != 0;
        Tally { control, index, received: 0, wrong: 0, hold, scheduled, has_paused, cpu_at_start: 0 }
    }

    /// Reports that the receiver is set up. Returns when every party is.
    pub fn ready(&mut self) {
        self.control.arrive();
        self.cpu_at_start = clock::own_cpu_time();
    }

    /// Reads and checks the next message, in place. Returns whether it was the last.
    #[inline]
    pub fn take(&mut self, words: &[u64]) -> bool {
        let right = load::check(words, self.received);
        self.count(right, words[0] & LAST != 0)
    }

    /// Counts a message that was checked in another way. Returns whether it was the last.
    #[inline]
    pub fn count(&mut self, right: bool, last: bool) -> bool {
        if let Some(task) = self.scheduled {
            self.note(task);
        }
        self.received += 1;
        self.wrong += u64::from(!right);
        if self.hold && self.received >= BEFORE_HOLDING {
            self.hold = false;
            hold(self.control);
        }
        if last {
            self.finish();
        }
        last
    }

    /// Records when this message came.
    #[cold]
    fn note(&mut self, task: u32) {
        let schedule = &self.control.schedule.0;
        if task == task::SCHEDULE {
            let place = self.index as u64 * schedule.count() + self.received;
            let late = u32::try_from(schedule.late(self.received)).unwrap_or(u32::MAX);
            self.control.samples[place as usize].store(late, Relaxed);
            return;
        }
        self.control.timelines[1 + self.index].count(schedule.elapsed());
        if !self.has_paused && schedule.elapsed() >= PAUSE_AT {
            self.has_paused = true;
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns how many messages were received, which is the number of the next one.
    pub fn received(&self) -> u64 {
        self.received
    }

    #[cold]
    fn finish(&self) {
        let record = &self.control.receivers[self.index].0;
        record.wrong.store(self.wrong, Relaxed);
        record.received.store(self.received, Relaxed);
        record.cpu_ns.store(clock::own_cpu_time() - self.cpu_at_start, Relaxed);
        record.end_ns.store(clock::nanoseconds(), Release);
    }
}

/// Sleeps until the run is over.
fn hold(control: &Control) {
    while control.phase.0.load(Acquire) != phase::STOP {
        std::thread::sleep(Duration::from_millis(5));
    }
}
