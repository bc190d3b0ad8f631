//! disruptor within one process: one ring, in which the calling thread publishes batches and one thread for each
//! receiver polls.
//!
//! All threads poll, and yield if there is nothing to do. disruptor's own busy spinning needs a core for each thread.

use crate::contender::{
    Contender, Cores, Latency, LatencyCase, LatencyThreads, Stream, StreamCase, StreamThreads, Unavailable,
    Wait,
};
use crate::latency::{self, Echo, Link, Meter};
use crate::load;
use crate::role::{Pacer, Tally};
use crate::waiting::Backoff;
use disruptor::{
    BusySpin, EventPoller, Producer, SingleConsumerBarrier, SingleProducer, SingleProducerBarrier,
    build_single_producer,
};

pub struct Disruptor;

impl Contender for Disruptor {
    fn name(&self) -> &'static str {
        "disruptor, in process"
    }

    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        Ok(Stream::Threads(Box::new(Threads(*case))))
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        match (case.wait, case.cores) {
            (Wait::Spin, Cores::Two) => Ok(Latency::Threads(Box::new(Pair))),
            _ => Err(Unavailable::cannot("only polls, or sleeps for a fixed time")),
        }
    }

    fn mortal(&self) -> Result<(), Unavailable> {
        Err(Unavailable::cannot("threads die together"))
    }
}

/// The content of a slot: a short message itself, or the place of a long one.
trait Event: AsRef<[u64]> + AsMut<[u64]> + Send + Sync + 'static {}
type Short = [u64; latency::WORDS];
type Long = Box<[u64]>;
impl Event for Short {}
impl Event for Long {}

type Poller<E> = EventPoller<E, SingleProducerBarrier>;

struct Threads(StreamCase);

impl StreamThreads for Threads {
    fn run(self: Box<Self>, pace: &mut Pacer, tallies: Vec<Tally>) {
        let words = self.0.words();
        if words == latency::WORDS {
            open(Short::default, &self.0, pace, tallies);
        } else {
            open(move || vec![0u64; words].into_boxed_slice(), &self.0, pace, tallies);
        }
    }
}

fn open<E: Event>(event: impl FnMut() -> E, case: &StreamCase, pace: &mut Pacer, tallies: Vec<Tally>) {
    let builder = build_single_producer(case.slots, event, BusySpin);
    let (first, builder) = builder.new_event_poller();
    if case.receivers == 1 {
        run(builder.build(), vec![first], case, pace, tallies);
        return;
    }
    let (second, mut builder) = builder.new_event_poller();
    let mut pollers = vec![first, second];
    while pollers.len() < case.receivers {
        let (next, more) = builder.new_event_poller();
        pollers.push(next);
        builder = more;
    }
    run(builder.build(), pollers, case, pace, tallies);
}

fn run<E: Event>(
    mut producer: impl Producer<E>,
    pollers: Vec<Poller<E>>,
    case: &StreamCase,
    pace: &mut Pacer,
    tallies: Vec<Tally>,
) {
    std::thread::scope(|scope| {
        for (poller, tally) in pollers.into_iter().zip(tallies) {
            scope.spawn(move || receive(poller, tally));
        }
        let run = case.batch.min(case.slots);
        pace.ready();
        loop {
            let batch = pace.batch(run);
            let mut backoff = Backoff::new();
            while producer
                .try_batch_publish(run, |events| {
                    for (i, event) in events.enumerate() {
                        load::fill(event.as_mut(), batch.stamp(i));
                    }
                })
                .is_err()
            {
                backoff.pause();
            }
            if batch.last {
                return;
            }
        }
    });
}

fn receive<E: Event>(mut poller: Poller<E>, mut tally: Tally) {
    let mut backoff = Backoff::new();
    tally.ready();
    loop {
        let Ok(mut events) = poller.poll() else {
            backoff.pause();
            continue;
        };
        backoff = Backoff::new();
        for event in &mut events {
            if tally.take(event.as_ref()) {
                return;
            }
        }
    }
}

struct Pair;

struct End {
    producer: SingleProducer<Short, SingleConsumerBarrier>,
    poller: Poller<Short>,
}

impl LatencyThreads for Pair {
    fn run(self: Box<Self>, meter: &mut Meter, mut echo: Echo) {
        let way = || {
            let (poller, builder) = build_single_producer(2, Short::default, BusySpin).new_event_poller();
            (builder.build(), poller)
        };
        let ((out, there), (back, here)) = (way(), way());
        std::thread::scope(|scope| {
            let mut far = End { producer: back, poller: there };
            scope.spawn(move || echo.run(&mut far));
            meter.run(&mut End { producer: out, poller: here });
        });
    }
}

impl Link for End {
    fn send(&mut self, stamp: u64) {
        self.producer.publish(|event| load::fill(event, stamp));
    }

    fn receive(&mut self) -> u64 {
        loop {
            if let Ok(mut events) = self.poller.take(1) {
                let event = (&mut events).next().expect("an event");
                return latency::verified(event);
            }
            std::hint::spin_loop();
        }
    }
}
