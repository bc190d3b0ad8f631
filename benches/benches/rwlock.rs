//! The reader-writer lock against its contenders: what it costs alone, how many operations two parties make, and how
//! long one party waits for the other kind.

use benches::collect::{Collected, interleave};
use benches::control::Control;
use benches::locks::asking::{COPIED, Question, SECTION, ask};
use benches::locks::{Lock, ParkingLot, pthread::Pthread, threads::Std, whorl::Whorl};
use benches::options::{Options, Timing};
use benches::report::{Better, Case};
use benches::statistics::percentile;
use benches::streams::Run;
use benches::targets::{Target, at_least, at_most, limit};

/// A contender without its type. It runs a question once, and returns operations per second, or the waits in ms.
type Ask = fn(&'static Control, Question, &Timing) -> Run<Vec<f64>>;
const CONTENDERS: [(&str, Ask); 5] = [
    (Whorl::NAME, ask::<Whorl>),
    (Pthread::<false>::NAME, ask::<Pthread<false>>),
    (Pthread::<true>::NAME, ask::<Pthread<true>>),
    (Std::NAME, ask::<Std>),
    (ParkingLot::NAME, ask::<ParkingLot>),
];

struct Bench {
    options: Options,
    control: &'static Control,
}

fn main() {
    let bench = Bench { options: Options::from_args(), control: Control::map() };
    let alone = |writes| Question::Alone { writes };
    bench.rate(
        "read-alone",
        "uncontended read lock and unlock",
        alone(false),
        "ns",
        &[at_most(0.8, &["pthread"]), at_most(0.9, &["std"])],
    );
    bench.rate(
        "write-alone",
        "uncontended write lock and unlock, 8 seats taken",
        alone(true),
        "ns",
        &[at_most(1.0, &["pthread"])],
    );
    let best: &'static [&'static str] = &["pthread", "std", "parking_lot"];
    for (writes, copied, target) in [
        (5, 0, at_least(1.5, best)),
        (50, 0, at_least(1.0, &["pthread"])),
        (5, COPIED, at_least(1.0, best)),
        (50, COPIED, at_least(1.0, best)),
    ] {
        let what = if copied == 0 { "empty" } else { "64 KiB copied inside" };
        let title = format!("two parties, {writes} % writes, {what}");
        let name = format!("two {writes}% {}", if copied == 0 { "empty" } else { "64 KiB" });
        bench.rate(&name, &title, Question::Two { writes, copied }, "Mop/s", &[target]);
    }
    bench.wait("wait-writer", "a writer among four overlapping readers", Question::Wait { writes: true });
    bench.wait("wait-reader", "a reader among four busy writers", Question::Wait { writes: false });
}

impl Bench {
    fn rows(&self, question: Question, timing: &Timing, rounds: usize) -> Vec<Collected<Vec<f64>>> {
        let parties: Vec<_> = CONTENDERS.iter().filter(|(name, _)| self.options.wants(name)).collect();
        interleave(
            &parties,
            rounds,
            2,
            |(name, _)| (*name).into(),
            |(_, ask)| ask(self.control, question, timing),
        )
    }

    fn wants(&self, name: &str) -> bool {
        let wants = self.options.wants_case(name);
        if wants && self.options.list {
            println!("{name}");
        }
        wants && !self.options.list
    }

    fn rate(&self, name: &str, title: &str, question: Question, unit: &'static str, targets: &[Target]) {
        if !self.wants(name) {
            return;
        }
        let rows = self.rows(question, &self.options.timing(60, 500), self.options.rounds(3, 7));
        let better = if unit == "ns" { Better::Lower } else { Better::Higher };
        let figure = |rates: &Vec<f64>| if better == Better::Lower { 1e9 / rates[0] } else { rates[0] / 1e6 };
        let rows: Vec<_> = rows.iter().map(|row| row.map(figure)).collect();
        self.print(name, title.into(), unit, better, &rows, targets);
    }

    fn wait(&self, name: &str, title: &str, question: Question) {
        if !self.wants(name) {
            return;
        }
        let timing = self.options.timing(500, 3000);
        let rows = self.rows(question, &timing, self.options.rounds(1, 3));
        let bound = limit(2.0 * SECTION.as_secs_f64() * 1e3);
        let none: &[Target] = &[];
        for (suffix, what, part, targets) in [
            ("-p99.9", "99.9 % of its waits", 0.999, &[bound][..]),
            ("-longest", "its longest wait", 1.0, none),
        ] {
            let rows: Vec<_> = rows.iter().map(|row| row.map(|waits| percentile(waits, part))).collect();
            let title = format!("{title}, sections of {SECTION:?}: {what}");
            self.print(&format!("{name}{suffix}"), title, "ms", Better::Lower, &rows, targets);
        }
    }

    fn print(
        &self,
        name: &str,
        title: String,
        unit: &'static str,
        better: Better,
        rows: &[Collected<f64>],
        targets: &[Target],
    ) {
        let case = Case {
            bench: "rwlock",
            name: name.into(),
            title: format!("{name}: {title}"),
            size: None,
            receivers: None,
            unit,
            better,
            rows,
            targets,
        };
        case.print(self.options.json);
    }
}
