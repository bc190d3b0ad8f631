//! iceoryx2 in its lossless mode: no overflow, and a publisher that retries until each subscriber has room.
//!
//! It waits in two ways: polling (a few looks, then yielding), and its event service, notified once per published
//! batch. It has no call that publishes several samples at once.

use crate::contender::{
    Contender, Cores, Latency, LatencyCase, LatencyParties, Stream, StreamCase, StreamParties, Unavailable,
    Wait,
};
use crate::latency::{self, Echo, Link, Meter};
use crate::load::{self, LAST};
use crate::role::{Pacer, Tally};
use crate::waiting::Backoff;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::*};

pub struct Iceoryx {
    /// Whether to sleep on the event service instead of polling.
    pub events: bool,
}

impl Contender for Iceoryx {
    fn name(&self) -> &'static str {
        if self.events { "iceoryx2, events" } else { "iceoryx2, polling" }
    }

    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        let shape = Shape { words: case.words(), receivers: case.receivers, slots: case.slots };
        let parties = Parties { place: Place::new(), shape, batch: case.batch, events: self.events };
        Ok(Stream::Processes(Box::new(parties)))
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        let pair = || Ok(Latency::Processes(Box::new(Pair { place: Place::new(), wait: case.wait })));
        match (case.wait, case.cores) {
            (Wait::Spin, Cores::Two) if !self.events => pair(),
            (Wait::Sleep, _) if self.events => pair(),
            (Wait::Spin, _) => Err(Unavailable::cannot("events sleep")),
            (Wait::Sleep, _) => Err(Unavailable::cannot("polling does not sleep")),
        }
    }

    fn clean_up(&self) {
        // Killed processes leave files of this bench, whose names hold its process id.
        std::fs::remove_dir_all(root()).ok();
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix()) {
                std::fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// Returns a prefix with the process id of the bench, which is the parent of all parties.
fn prefix() -> String {
    static BENCH: AtomicU64 = AtomicU64::new(0);
    // The first call is the parent's, when it opens its first stream.
    let _ = BENCH.compare_exchange(0, u64::from(std::process::id()), Relaxed, Relaxed);
    format!("whorl-bench-{}-", BENCH.load(Relaxed))
}

fn root() -> String {
    std::env::temp_dir().join(format!("{}iceoryx2", prefix())).to_string_lossy().into_owned()
}

/// The names and the configuration of a run's services.
struct Place {
    service: String,
    config: Config,
}

impl Place {
    fn new() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        set_log_level(LogLevel::Fatal);
        let mut config = Config::default();
        config.global.prefix = FileName::new(prefix().as_bytes()).expect("a file name");
        config.global.set_root_path(&Path::new(root().as_bytes()).expect("a path"));
        Place { service: format!("run-{}", RUNS.fetch_add(1, Relaxed)), config }
    }

    fn node(&self) -> Node<ipc::Service> {
        let builder = NodeBuilder::new().config(&self.config);
        builder.signal_handling_mode(SignalHandlingMode::Disabled).create().expect("a node")
    }

    fn name(&self, suffix: &str) -> ServiceName {
        format!("{}-{suffix}", self.service).as_str().try_into().expect("a service name")
    }
}

struct Shape {
    words: usize,
    receivers: usize,
    slots: usize,
}

type Data = iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u64], ()>;
type Events = iceoryx2::service::port_factory::event::PortFactory<ipc::Service>;

fn data(node: &Node<ipc::Service>, name: &ServiceName, shape: &Shape) -> Data {
    node.service_builder(name)
        .publish_subscribe::<[u64]>()
        .enable_safe_overflow(false)
        .history_size(0)
        .subscriber_max_buffer_size(shape.slots)
        .subscriber_max_borrowed_samples(2)
        .max_publishers(1)
        .max_subscribers(shape.receivers)
        .max_nodes(shape.receivers + 1)
        .open_or_create()
        .expect("a service")
}

fn events(node: &Node<ipc::Service>, name: &ServiceName, receivers: usize) -> Events {
    let builder = node.service_builder(name).event();
    builder
        .max_listeners(receivers)
        .max_notifiers(1)
        .max_nodes(receivers + 1)
        .open_or_create()
        .expect("events")
}

fn publisher(service: &Data, shape: &Shape) -> Publisher<ipc::Service, [u64], ()> {
    service
        .publisher_builder()
        .initial_max_slice_len(shape.words)
        .max_loaned_samples(1)
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()
        .expect("a publisher")
}

/// Makes a subscriber. Call it after making the publisher: a subscriber connects to the publishers that it finds, and
/// to later ones only when it next receives. Until then a full buffer loses messages, even in the lossless mode.
fn subscriber(service: &Data) -> Subscriber<ipc::Service, [u64], ()> {
    while service.dynamic_config().number_of_publishers() == 0 {
        std::thread::yield_now();
    }
    service.subscriber_builder().create().expect("a subscriber")
}

fn publish(publisher: &Publisher<ipc::Service, [u64], ()>, words: usize, stamp: u64) {
    let mut sample = publisher.loan_slice_uninit(words).expect("a sample");
    // SAFETY: the loaned slice has `words` words and belongs to this call; all of them are written.
    unsafe { load::fill_at(sample.payload_mut().as_mut_ptr().cast(), words, stamp) };
    // SAFETY: written above.
    unsafe { sample.assume_init() }.send().expect("a delivery");
}

struct Parties {
    place: Place,
    shape: Shape,
    batch: usize,
    events: bool,
}

impl StreamParties for Parties {
    fn send(self: Box<Self>, pace: &mut Pacer) {
        let node = self.place.node();
        let service = data(&node, &self.place.name("data"), &self.shape);
        let publisher = publisher(&service, &self.shape);
        let events = self.events.then(|| events(&node, &self.place.name("events"), self.shape.receivers));
        let notifier = events.map(|service| service.notifier_builder().create().expect("a notifier"));
        // A publisher that waits for room before it has notified waits forever.
        let run = self.batch.min(self.shape.slots / 2);
        pace.ready();
        loop {
            let batch = pace.batch(run);
            for i in 0..batch.len {
                publish(&publisher, self.shape.words, batch.stamp(i));
            }
            if let Some(notifier) = &notifier {
                notifier.notify().expect("a notification");
            }
            if batch.last {
                return;
            }
        }
    }

    fn receive(self: Box<Self>, _index: usize, tally: &mut Tally) {
        let node = self.place.node();
        let service = data(&node, &self.place.name("data"), &self.shape);
        let subscriber = subscriber(&service);
        let events = self.events.then(|| events(&node, &self.place.name("events"), self.shape.receivers));
        let listener = events.map(|service| service.listener_builder().create().expect("a listener"));
        let mut backoff = Backoff::new();
        tally.ready();
        loop {
            match subscriber.receive().expect("a reception") {
                Some(sample) => {
                    backoff = Backoff::new();
                    if tally.take(sample.payload()) {
                        return;
                    }
                }
                None => match &listener {
                    Some(listener) => drop(listener.blocking_wait(|_| ())),
                    None => backoff.pause(),
                },
            }
        }
    }
}

struct Pair {
    place: Place,
    wait: Wait,
}

struct End {
    publisher: Publisher<ipc::Service, [u64], ()>,
    subscriber: Subscriber<ipc::Service, [u64], ()>,
    bell: Option<(Notifier<ipc::Service>, Listener<ipc::Service>)>,
    _node: Node<ipc::Service>,
}

impl Pair {
    fn end(&self, out: &str, back: &str) -> End {
        let shape = Shape { words: latency::WORDS, receivers: 1, slots: 2 };
        let node = self.place.node();
        // Two nodes open each of these services, and one of them has no port of the other kind.
        let name = |kind: &str, way: &str| self.place.name(&format!("{kind}-{way}"));
        let publisher = publisher(&data(&node, &name("data", out), &shape), &shape);
        let incoming = data(&node, &name("data", back), &shape);
        let subscriber = subscriber(&incoming);
        let bell = (self.wait == Wait::Sleep).then(|| {
            let notifier = events(&node, &name("events", out), 1).notifier_builder().create();
            let listener = events(&node, &name("events", back), 1).listener_builder().create();
            (notifier.expect("a notifier"), listener.expect("a listener"))
        });
        End { publisher, subscriber, bell, _node: node }
    }
}

impl LatencyParties for Pair {
    fn ping(self: Box<Self>, meter: &mut Meter) {
        meter.run(&mut self.end("there", "back"));
    }

    fn pong(self: Box<Self>, echo: &mut Echo) {
        echo.run(&mut self.end("back", "there"));
    }
}

impl Link for End {
    fn send(&mut self, stamp: u64) {
        publish(&self.publisher, latency::WORDS, stamp);
        if let Some((notifier, _)) = &self.bell {
            notifier.notify().expect("a notification");
        }
        if stamp & LAST != 0 {
            // Leave the message where it is until the other side has seen it.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn receive(&mut self) -> u64 {
        loop {
            if let Some(sample) = self.subscriber.receive().expect("a reception") {
                return latency::verified(sample.payload());
            }
            match &self.bell {
                Some((_, listener)) => drop(listener.blocking_wait(|_| ())),
                None => std::hint::spin_loop(),
            }
        }
    }
}
