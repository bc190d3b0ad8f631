//! The least work of two sleeping parties: the raw shared word, with a futex to sleep on.

use crate::contender::{Contender, Latency, LatencyCase, LatencyParties, Unavailable, Wait};
use crate::contenders::raw_word::{Mailbox, Mailboxes};
use crate::latency::{Echo, Link, Meter};
use crate::waiting::{futex_wait, futex_wake};
use std::sync::atomic::Ordering::*;

pub struct RawFutex;

impl Contender for RawFutex {
    fn name(&self) -> &'static str {
        "raw shared futex"
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        match case.wait {
            Wait::Sleep => Ok(Latency::Processes(Box::new(WaiterCount(Mailboxes::new())))),
            Wait::Spin => Err(Unavailable::cannot("see the raw shared word")),
        }
    }
}

struct WaiterCount(Mailboxes);

struct End {
    out: Mailbox,
    back: Mailbox,
}

impl LatencyParties for WaiterCount {
    fn ping(self: Box<Self>, meter: &mut Meter) {
        let (out, back) = self.0.end(0);
        meter.run(&mut End { out, back });
    }

    fn pong(self: Box<Self>, echo: &mut Echo) {
        let (out, back) = self.0.end(1);
        echo.run(&mut End { out, back });
    }
}

impl Link for End {
    fn send(&mut self, stamp: u64) {
        self.out.put(stamp);
        futex_wake(self.out.count(), 1);
    }

    fn receive(&mut self) -> u64 {
        while self.back.count().load(Acquire) == self.back.messages {
            futex_wait(self.back.count(), self.back.messages, None);
        }
        self.back.get()
    }
}
