//! The ring against its contenders: its rate, its latency, and the effect of a killed receiver.

use benches::collect::{Collected, interleave, present};
use benches::contender::{Contender, Cores, LatencyCase, StreamCase, Wait};
use benches::control::Control;
use benches::janitor::Janitor;
use benches::options::Options;
use benches::report::{Better, Case};
use benches::round_trips;
use benches::statistics::percentile;
use benches::streams::{self, Blocked, Run};
use benches::targets::{Target, at_least, at_most, limit};
use benches::{contenders, scale, targets};

const SIZES: [(usize, &str, usize); 3] = [(64, "64 B", 64), (4096, "4 KiB", 64), (81920, "80 KiB", 16)];
const RECEIVERS: [usize; 3] = [1, 4, 16];
/// The longest batch of messages that is published at once.
const RUN: usize = 32;
/// The contenders that have a call to publish a batch at once, or are part of table two's target. For all others both
/// tables show the same run.
const TABLE_TWO: [&str; 7] =
    ["whorl", "iceoryx2", "shaq", "pipe", "unix socket", "tee(2)", "disruptor, in process"];
const TABLE_TWO_QUICK: [&str; 3] = ["whorl", "iceoryx2", "shaq"];

struct Bench {
    options: Options,
    control: &'static Control,
    parties: Vec<&'static dyn Contender>,
}

fn main() {
    let options = Options::from_args();
    whorl::internal::os::limits::raise_descriptor_limit();
    let mut parties = contenders::all();
    parties.retain(|party| options.wants(party.name()));
    let clean = || contenders::all().iter().for_each(|party| party.clean_up());
    // Cleans up before the first run: a contender's files carry the bench's name, and not the janitor's.
    clean();
    let _janitor = Janitor::new(clean);
    let bench = Bench { options, control: Control::map(), parties };
    for (size, label, slots) in SIZES {
        for receivers in RECEIVERS {
            bench.throughput("throughput", label, StreamCase { size, receivers, slots, batch: RUN });
        }
    }
    for (size, label, slots) in SIZES {
        for receivers in RECEIVERS {
            bench.throughput("single", label, StreamCase { size, receivers, slots, batch: 1 });
        }
    }
    if bench.wants("scale") {
        scale::run(&bench.options, bench.control, &bench.parties);
    }
    bench.latency("spin", LatencyCase { wait: Wait::Spin, cores: Cores::Two });
    bench.latency("sleep", LatencyCase { wait: Wait::Sleep, cores: Cores::Two });
    bench.latency("sleep-one-core", LatencyCase { wait: Wait::Sleep, cores: Cores::One });
    bench.kill();
    bench.idle("idle-receiver", Blocked::Receiver);
    bench.idle("idle-sender", Blocked::Sender);
    for (size, label, _) in SIZES {
        bench.memory(label, size);
    }
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        let wants = self.options.wants_case(name);
        if wants && self.options.list {
            println!("{name}");
        }
        wants && !self.options.list
    }

    fn print(&self, case: Case<'_>) {
        case.print(self.options.json);
    }

    fn throughput(&self, kind: &str, label: &str, case: StreamCase) {
        let StreamCase { size, receivers, .. } = case;
        if !self.wants(&format!("{kind} {label} x{receivers}")) {
            return;
        }
        let chosen: &[&str] = match (kind, self.options.quick) {
            ("single", true) => &TABLE_TWO_QUICK,
            ("single", false) => &TABLE_TWO,
            _ => &[""],
        };
        let chosen = |party: &&dyn Contender| chosen.iter().any(|name| party.name().starts_with(name));
        let parties: Vec<&dyn Contender> = self.parties.iter().copied().filter(chosen).collect();
        let (timing, rounds) = (self.options.timing(40, 400), self.options.rounds(2, 5));
        let run = |p: &dyn Contender| streams::throughput(self.control, p, &case, &timing);
        let rows = rounds_of(&parties, rounds, 2, run);
        let (unit, factor) =
            if size == 64 { ("messages/s", 1.0) } else { ("MiB/s", size as f64 / (1 << 20) as f64) };
        let rows: Vec<_> = rows.iter().map(|row| row.map(|rate| rate * factor)).collect();
        let runs = if case.batch == 1 { "one publish per message" } else { "published in runs of up to 32" };
        self.print(Case {
            bench: "ring",
            name: kind.into(),
            title: format!("{kind}: {label} to {receivers}, lossless, {runs}"),
            size: Some(size as u64),
            receivers: Some(receivers),
            unit,
            better: Better::Higher,
            rows: &rows,
            targets: &throughput_targets(kind, size, receivers),
        });
    }

    fn latency(&self, kind: &str, case: LatencyCase) {
        if !self.wants(&format!("latency-{kind}")) {
            return;
        }
        let timing = self.options.timing(40, 400);
        let rounds = self.options.rounds(2, 7);
        let run = |p: &dyn Contender| round_trips::run(self.control, p, &case, &timing);
        let rows = rounds_of(&self.parties, rounds, 2, run);
        let targets = match (case.wait, case.cores) {
            (Wait::Spin, _) => vec![at_most(1.2, &["raw shared word"])],
            (Wait::Sleep, Cores::Two) => {
                vec![at_most(1.1, &["raw shared futex"]), at_most(1.0, &["pipe", "unix socket"])]
            }
            (Wait::Sleep, Cores::One) => vec![at_most(1.15, &["raw shared futex"])],
        };
        let one_way: Vec<_> = rows.iter().map(|row| row.map(|trips| trips.one_way)).collect();
        let tail: Vec<_> = present(&rows).map(|row| row.map(|trips| trips.tail)).collect();
        let tables = [
            (format!("latency-{kind}"), "one way, half the median round trip", one_way, targets.as_slice()),
            (format!("latency-{kind}-p99.9"), "99.9th percentile of the round trip", tail, &[]),
        ];
        for (name, what, rows, targets) in tables {
            self.print(Case {
                bench: "ring",
                title: format!("{name}: 64 B, {what}"),
                name,
                size: Some(64),
                receivers: Some(1),
                unit: "ns",
                better: Better::Lower,
                rows: &rows,
                targets,
            });
        }
    }

    fn kill(&self) {
        if !self.wants("kill") {
            return;
        }
        let case = StreamCase { size: 4096, receivers: 2, slots: 64, batch: 1 };
        let (kills, timing) = (self.options.kills(), self.options.timing(10, 20));
        let run = |p: &dyn Contender| streams::kill(self.control, p, &case, &timing);
        let rows = rounds_of(&self.parties, kills, 3, run);
        let ms = |ns: f64| ns / 1e6;
        let before: Vec<_> = present(&rows).map(|row| row.map(|pauses| ms(pauses.before))).collect();
        let after: Vec<_> = rows.iter().map(|row| row.map(|pauses| ms(pauses.after))).collect();
        let worst: Vec<_> = present(&after).map(worst).collect();
        let none: &[Target] = &[];
        let what = "the sender's longest pause";
        let tables = [
            ("kill-none", format!("{what} in the same span before the kill"), before, none),
            ("kill", format!("{what} after one of two receivers was killed"), after, &[limit(2.0)]),
            ("kill-worst", format!("the longest of these pauses, {kills} kills"), worst, &[limit(50.0)]),
        ];
        for (name, what, rows, targets) in tables {
            self.print(Case {
                bench: "ring",
                name: name.into(),
                title: format!("{name}: 4 KiB, {what}"),
                size: Some(4096),
                receivers: Some(2),
                unit: "ms",
                better: Better::Lower,
                rows: &rows,
                targets,
            });
        }
    }

    fn idle(&self, name: &str, blocked: Blocked) {
        if !self.wants(name) {
            return;
        }
        let case = StreamCase { size: 4096, receivers: 1, slots: 64, batch: 1 };
        let timing = self.options.timing(200, 1000);
        let run = |p: &dyn Contender| streams::idle(self.control, p, &case, blocked, &timing);
        let rows = rounds_of(&self.parties, self.options.rounds(1, 3), 1, run);
        let who = if blocked == Blocked::Sender { "sender" } else { "receiver" };
        self.print(Case {
            bench: "ring",
            name: name.into(),
            title: format!("{name}: CPU time of a {who} that is blocked"),
            size: Some(4096),
            receivers: Some(1),
            unit: "% of a core",
            better: Better::Lower,
            rows: &rows,
            targets: &[limit(1.0)],
        });
    }

    fn memory(&self, label: &str, size: usize) {
        let case = StreamCase { size, receivers: 16, slots: 64, batch: 1 };
        if !self.wants(&format!("memory {label} x16")) {
            return;
        }
        let timing = self.options.timing(20, 100);
        let run = |p: &dyn Contender| streams::memory(self.control, p, &case, &timing);
        let rows = rounds_of(&self.parties, 1, 1, run);
        let ring = 1.1 * (case.slots * (size + 16)) as f64;
        let most = ring + (256 * case.receivers + 4 * 4096) as f64;
        self.print(Case {
            bench: "ring",
            name: "memory".into(),
            title: format!(
                "memory {label}: shared memory mapped by the sender, room for 64 messages, 16 receivers"
            ),
            size: Some(size as u64),
            receivers: Some(16),
            unit: "bytes",
            better: Better::Lower,
            rows: &rows,
            targets: &[limit(most)],
        });
    }
}

fn rounds_of<T>(
    parties: &[&dyn Contender],
    rounds: usize,
    tolerance: usize,
    mut run: impl FnMut(&dyn Contender) -> Run<T>,
) -> Vec<Collected<T>> {
    interleave(parties, rounds, tolerance, |party| party.name().into(), |party| run(*party))
}

/// Returns the longest pause of all, as a row with a single value.
fn worst(row: &Collected<f64>) -> Collected<f64> {
    let mut worst = row.map(|pause| *pause);
    let pauses: Vec<f64> = worst.values.drain(..).map(|(_, pause)| pause).collect();
    if !pauses.is_empty() {
        worst.values.push((0, percentile(&pauses, 1.0)));
    }
    worst
}

fn throughput_targets(kind: &str, size: usize, receivers: usize) -> Vec<targets::Target> {
    let shaq = at_least(1.2, &["shaq"]);
    match (kind, size) {
        ("single", 64) => vec![at_least(5.0, &["iceoryx2"]), shaq],
        (_, 64) => vec![at_least(15.0, &["iceoryx2"]), at_least(1.0, &["disruptor"]), shaq],
        (_, 4096) => vec![at_least(2.0, &["iceoryx2"]), shaq],
        ("throughput", _) if receivers == 16 => {
            vec![at_least(1.2, &["iceoryx2"]), at_least(0.85, &["loops without a ring"]), shaq]
        }
        _ => vec![at_least(1.2, &["iceoryx2"]), shaq],
    }
}
