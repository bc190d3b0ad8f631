//! The reader-writer lock against its rivals: what it costs alone, how much gets through between two parties, and how long
//! one waits for the other kind.

use benches::clock;
use benches::collect::{Collected, interleave};
use benches::control::{Control, MOST_RECEIVERS, duty, map_shared, phase};
use benches::locks::{Lock, pthread::Pthread, threads::ParkingLot, threads::Std, whorl::Whorl};
use benches::options::{Options, Timing};
use benches::process::{Group, Trouble};
use benches::report::{Better, Case};
use benches::statistics::percentile;
use benches::streams::Run;
use benches::targets::{Target, at_least, at_most, limit};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

/// What the contended section copies, where it is not empty.
const COPIED: usize = 1 << 16;
/// A section of the waiting cases.
const SECTION: Duration = Duration::from_millis(10);
const MOST_WAITS: usize = 1 << 16;

/// What one run asks of its parties.
#[derive(Clone, Copy, PartialEq)]
enum Question {
    /// One party, reading or writing, nothing inside: operations per second.
    Alone { writes: bool },
    /// Two parties; of a hundred operations so many are writes, with so many bytes copied inside.
    Two { writes: u32, copied: usize },
    /// One party of one kind among four of the other, whose sections overlap without pause: its waits.
    Wait { writes: bool },
}

impl Question {
    fn parties(self) -> u32 {
        match self {
            Question::Alone { .. } => 1,
            Question::Two { .. } => 2,
            Question::Wait { .. } => 5,
        }
    }
}

/// What the parties of a run share beside the lock.
struct Board {
    /// Waits of the observed party, in microseconds.
    waits: [AtomicU32; MOST_WAITS],
    copied: [u8; COPIED],
}

/// A rival, its type erased: it runs a question once and returns operations per second, or the waits in ms.
type Ask = fn(&Bench, Question, &Timing) -> Run<Vec<f64>>;
const EVERYBODY: [(&str, Ask); 5] = [
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
        let parties: Vec<_> = EVERYBODY.iter().filter(|(name, _)| self.options.wants(name)).collect();
        interleave(&parties, rounds, 2, |(name, _)| (*name).into(), |(_, ask)| ask(self, question, timing))
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

fn ask<L: Lock>(bench: &Bench, question: Question, timing: &Timing) -> Run<Vec<f64>> {
    let control = bench.control;
    control.reset(duty::NONE);
    let place = map_shared(size_of::<L::Shared>()).cast::<L::Shared>();
    // SAFETY: a fresh mapping: zeroed, page-aligned, large enough, never unmapped.
    unsafe { L::make(place) };
    // SAFETY: made just now.
    let shared: &'static L::Shared = unsafe { &*place };
    let board = map_shared(size_of::<Board>()).cast::<Board>();
    let parties = question.parties();
    let mut group = Group::new();
    let shared_board = Place(board);
    let work = move |seat| work(L::enter(shared, seat), seat, question, control, shared_board);
    if L::THREADS {
        group.spawn(control, || {
            std::thread::scope(|scope| {
                for seat in 0..parties {
                    scope.spawn(move || work(seat));
                }
            });
            Ok(())
        });
    } else {
        for seat in 0..parties {
            group.spawn(control, || {
                work(seat);
                Ok(())
            });
        }
    }
    let result = steer(control, &mut group, question, timing, board);
    drop(group);
    for (start, length) in [(place.cast(), size_of::<L::Shared>()), (board.cast(), size_of::<Board>())] {
        // SAFETY: mapped above; every party has ended.
        unsafe { libc::munmap(start, length) };
    }
    Ok(result)
}

fn steer(
    control: &'static Control,
    group: &mut Group,
    question: Question,
    timing: &Timing,
    board: *mut Board,
) -> Result<Vec<f64>, Trouble> {
    let deadline = Instant::now() + timing.deadline + timing.measure;
    group.wait_until(control, deadline, || control.ready.0.load(Acquire) == question.parties())?;
    control.advance(phase::WARM);
    std::thread::sleep(timing.warm_up);
    control.advance(phase::MEASURE);
    std::thread::sleep(timing.measure);
    control.advance(phase::STOP);
    group.finish(control, deadline)?;
    if let Question::Wait { .. } = question {
        let count = control.receivers[0].0.received.load(Acquire) as usize;
        // SAFETY: mapped, zeroed at the start, and every party has ended.
        let waits = unsafe { &(*board).waits };
        return match count {
            0 => Err(Trouble::Failed("it never got in".into())),
            _ => Ok(waits[..count].iter().map(|wait| f64::from(wait.load(Relaxed)) / 1e3).collect()),
        };
    }
    let rate = |index: usize| {
        let record = &control.receivers[index].0;
        let span = record.end_ns.load(Relaxed).max(1);
        record.received.load(Acquire) as f64 * 1e9 / span as f64
    };
    Ok(vec![(0..question.parties() as usize).map(rate).sum()])
}

/// The board's address, for parties that are threads.
#[derive(Clone, Copy)]
struct Place(*mut Board);
// SAFETY: shared memory, used under the lock or by one party alone.
unsafe impl Send for Place {}

fn work<L: Lock>(lock: L, seat: u32, question: Question, control: &'static Control, board: Place) {
    assert!((seat as usize) < MOST_RECEIVERS);
    match question {
        Question::Alone { writes } => count(lock, seat, control, |lock, _| match writes {
            true => lock.write(|| ()),
            false => lock.read(|| ()),
        }),
        Question::Two { writes, copied } => {
            let mut private = vec![0_u8; copied];
            let place = board;
            count(lock, seat, control, |lock, number| {
                // SAFETY: the board's bytes; writers are alone, readers among themselves.
                let shared = unsafe { &raw mut (*place.0).copied }.cast::<u8>();
                let private = private.as_mut_ptr();
                // Spread over the run, and not in step with the other party.
                match (number.wrapping_mul(2_654_435_761) >> 8) % 100 < writes.into() {
                    // SAFETY: both are `copied` bytes long, and the lock is held for writing.
                    true => lock.write(|| unsafe { std::ptr::copy_nonoverlapping(private, shared, copied) }),
                    // SAFETY: as above, for reading.
                    false => lock.read(|| unsafe { std::ptr::copy_nonoverlapping(shared, private, copied) }),
                }
            });
        }
        Question::Wait { writes } if seat == 0 => observe(lock, writes, control, board),
        Question::Wait { writes } => {
            let (mut lock, nap) = (lock, || std::thread::sleep(SECTION));
            control.arrive();
            // Not all at the same moment, so that the sections overlap.
            std::thread::sleep(SECTION / 4 * seat);
            while control.phase.0.load(Relaxed) != phase::STOP {
                match writes {
                    true => lock.read(nap),
                    false => lock.write(nap),
                }
            }
        }
    }
}

/// Counts operations while it counts.
fn count<L: Lock>(mut lock: L, seat: u32, control: &'static Control, mut operate: impl FnMut(&mut L, u64)) {
    control.arrive();
    let (mut number, mut began) = (u64::from(seat) << 32, None);
    loop {
        match (control.phase.0.load(Relaxed), began) {
            (phase::MEASURE, None) => began = Some((number, clock::nanoseconds())),
            (phase::STOP, _) => break,
            _ => {}
        }
        for _ in 0..32 {
            operate(&mut lock, number);
            number += 1;
        }
    }
    let (first, start) = began.unwrap_or((number, 0));
    let record = &control.receivers[seat as usize].0;
    record.end_ns.store(clock::nanoseconds() - start, Relaxed);
    record.received.store(number - first, Release);
}

/// Gets in again and again, and notes how long each time took.
fn observe<L: Lock>(mut lock: L, writes: bool, control: &'static Control, board: Place) {
    // SAFETY: mapped and zeroed; atomics.
    let waits = unsafe { &(*board.0).waits };
    control.arrive();
    let mut counted = 0;
    loop {
        // A wait that is still going on at the end counts, too: it is at least so long.
        let over = control.phase.0.load(Relaxed) == phase::STOP || counted == MOST_WAITS;
        if over {
            break;
        }
        let asked = clock::nanoseconds();
        let entered = if writes { lock.write(clock::nanoseconds) } else { lock.read(clock::nanoseconds) };
        if control.phase.0.load(Relaxed) >= phase::MEASURE {
            waits[counted].store(((entered - asked) / 1000) as u32, Relaxed);
            counted += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    control.receivers[0].0.received.store(counted as u64, Release);
}
