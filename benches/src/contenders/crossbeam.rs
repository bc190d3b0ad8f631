//! crossbeam-channel within one process: a bounded channel to each receiver. The sender copies short messages into each
//! channel. It writes a long message once, into memory that the receivers share.

use crate::contender::{
    Contender, Cores, Latency, LatencyCase, LatencyThreads, Stream, StreamCase, StreamThreads, Unavailable,
    Wait,
};
use crate::latency::{self, Echo, Link, Meter};
use crate::load;
use crate::role::{Pacer, Tally};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;

pub struct Crossbeam;

impl Contender for Crossbeam {
    fn name(&self) -> &'static str {
        "crossbeam-channel, in process"
    }

    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        Ok(Stream::Threads(Box::new(Threads(*case))))
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        match (case.wait, case.cores) {
            (Wait::Spin, Cores::One) => Err(Unavailable::cannot("spinning needs a core for each party")),
            _ => Ok(Latency::Threads(Box::new(Pair(case.wait)))),
        }
    }

    fn mortal(&self) -> Result<(), Unavailable> {
        Err(Unavailable::cannot("threads die together"))
    }
}

struct Threads(StreamCase);

type Short = [u64; latency::WORDS];
type Long = Arc<Box<[u64]>>;

impl StreamThreads for Threads {
    fn run(self: Box<Self>, pace: &mut Pacer, tallies: Vec<Tally>) {
        let words = self.0.words();
        if words == latency::WORDS {
            let make = |stamp| {
                let mut message: Short = [0; latency::WORDS];
                load::fill(&mut message, stamp);
                message
            };
            run(&self.0, pace, tallies, make, |message: &Short| message);
        } else {
            let make = |stamp| {
                let mut message = vec![0u64; words].into_boxed_slice();
                load::fill(&mut message, stamp);
                Arc::new(message)
            };
            run(&self.0, pace, tallies, make, |message: &Long| message);
        }
    }
}

fn run<M: Clone + Send>(
    case: &StreamCase,
    pace: &mut Pacer,
    tallies: Vec<Tally>,
    make: impl Fn(u64) -> M,
    words: impl Fn(&M) -> &[u64] + Send + Copy,
) {
    std::thread::scope(|scope| {
        let mut senders = Vec::new();
        for mut tally in tallies {
            let (sender, receiver) = bounded::<M>(case.slots);
            senders.push(sender);
            scope.spawn(move || {
                tally.ready();
                while !tally.take(words(&receiver.recv().expect("a message"))) {}
            });
        }
        pace.ready();
        loop {
            let batch = pace.batch(1);
            let message = make(batch.stamp(0));
            senders.iter().for_each(|sender| sender.send(message.clone()).expect("a receiver"));
            if batch.last {
                return;
            }
        }
    });
}

struct Pair(Wait);

struct End {
    sender: Sender<Short>,
    receiver: Receiver<Short>,
    wait: Wait,
}

impl LatencyThreads for Pair {
    fn run(self: Box<Self>, meter: &mut Meter, mut echo: Echo) {
        let wait = self.0;
        let ((out, there), (back, here)) = (bounded(2), bounded(2));
        std::thread::scope(|scope| {
            let mut far = End { sender: back, receiver: there, wait };
            scope.spawn(move || echo.run(&mut far));
            meter.run(&mut End { sender: out, receiver: here, wait });
        });
    }
}

impl Link for End {
    fn send(&mut self, stamp: u64) {
        let mut message = [0; latency::WORDS];
        load::fill(&mut message, stamp);
        self.sender.send(message).expect("a receiver");
    }

    fn receive(&mut self) -> u64 {
        loop {
            let message = match self.wait {
                Wait::Sleep => self.receiver.recv().ok(),
                Wait::Spin => self.receiver.try_recv().ok(),
            };
            if let Some(message) = message {
                return latency::verified(&message);
            }
            std::hint::spin_loop();
        }
    }
}
