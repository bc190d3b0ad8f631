//! The least that two sleeping parties can do: the raw shared word, with a futex to sleep on.

use crate::latency::{Echo, Meter};
use crate::rival::{Absent, Latency, LatencyCase, LatencyParties, Link, Rival, Wait};
use crate::rivals::raw_word::{Mailbox, Mailboxes, count, get, put};
use crate::waiting::{futex_wait, futex_wake};
use std::sync::atomic::Ordering::*;

pub struct RawFutex;

impl Rival for RawFutex {
    fn name(&self) -> &'static str {
        "raw shared futex"
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Absent> {
        match case.wait {
            Wait::Sleep => Ok(Latency::Processes(Box::new(Sleepers(Mailboxes::new())))),
            Wait::Spin => Err(Absent::cannot("see the raw shared word")),
        }
    }
}

struct Sleepers(Mailboxes);

struct End {
    out: *mut Mailbox,
    back: *mut Mailbox,
    sent: u32,
    received: u32,
}

impl LatencyParties for Sleepers {
    fn ping(self: Box<Self>, meter: &mut Meter) {
        let (out, back) = self.0.end(0);
        meter.run(&mut End { out, back, sent: 0, received: 0 });
    }

    fn pong(self: Box<Self>, echo: &mut Echo) {
        let (out, back) = self.0.end(1);
        echo.run(&mut End { out, back, sent: 0, received: 0 });
    }
}

impl Link for End {
    fn send(&mut self, stamp: u64) {
        futex_wake(put(self.out, &mut self.sent, stamp), 1);
    }

    fn receive(&mut self) -> u64 {
        let count = count(self.back);
        while count.load(Acquire) == self.received {
            futex_wait(count, self.received, None);
        }
        self.received = self.received.wrapping_add(1);
        get(self.back)
    }
}
