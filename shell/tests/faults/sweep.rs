//! Every instruction of every operation, by several workers at a time. Each worker is a process of one thread, which
//! forks its victims and their peers. A worker mostly waits, so there are more workers than cores.

use super::peers::{Fault, Outcome, say, shared_zeroes};
use super::steps::{Point, Stop, Victim};
use std::fmt;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// One operation in one state of contention, set up anew for each kill.
pub trait Case {
    /// In the victim: prepares, with [`pause`](super::steps::pause) where the tester has a part in it, and then runs
    /// the [`operation`](super::steps::operation).
    fn victim(&mut self);

    /// In the tester, at the victim's pauses, counted from 0.
    fn at_pause(&mut self, _number: u32) -> Outcome {
        Ok(())
    }

    /// In the tester, before the operation: the last moment to bring the peers into their states.
    fn at_begin(&mut self) -> Outcome {
        Ok(())
    }

    /// In the tester, while the victim stands at the end of its operation.
    fn at_end(&mut self) -> Outcome {
        Ok(())
    }

    /// In the tester, with the victim dead, or stopped for good: checks what must hold.
    fn survive(self: Box<Self>) -> Outcome;
}

pub type CaseResult = Result<Box<dyn Case>, Fault>;

/// An operation in a state of contention.
pub struct Operation {
    pub name: &'static str,
    pub state: &'static str,
    /// Whether the victim is only stopped at each instruction. Then no process may wait for it.
    pub stops: bool,
    pub make: Box<dyn Fn() -> CaseResult>,
}

/// The counts of kills at the instructions of one operation.
#[derive(Clone, Copy, Default, Debug)]
pub struct SweepResult {
    /// Kills at an instruction of the operation.
    pub points: u32,
    /// Kills after it, because the victim had taken another path than at first.
    pub over: u32,
    pub hangs: u32,
    pub losses: u32,
    /// How many instructions the operation has.
    pub instructions: u32,
    /// Tries that looked like a hang, and were repeated.
    pub again: u32,
}

impl SweepResult {
    pub fn sum(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |sum, each| Self {
            points: sum.points + each.points,
            over: sum.over + each.over,
            hangs: sum.hangs + each.hangs,
            losses: sum.losses + each.losses,
            instructions: sum.instructions + each.instructions,
            again: sum.again + each.again,
        })
    }
}

impl fmt::Display for SweepResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { points, over, hangs, losses, instructions, again } = self;
        write!(
            f,
            "{points} points of {instructions}, {hangs} hangs, {losses} losses, {over} after the end, {again} tried again"
        )
    }
}

/// What the workers share about one operation.
#[repr(C)]
struct Board {
    counters: [AtomicU32; 5],
    again: AtomicU32,
    /// How many points there are to kill at, and the next one that no worker has taken.
    count: AtomicU32,
    next: AtomicU32,
    points: [(AtomicU64, AtomicU32); POINTS],
}

const MOST: usize = 128;
/// The most points of one operation. Memory is used only for points that are written.
const POINTS: usize = 1 << 17;
const WORKERS: u32 = 32;
/// How often a hang is tried again at the same point. The summary counts these tries.
const AGAIN: u32 = 2;
/// After this many faults of one operation the sweep leaves it.
const FAULTS: u32 = 3;

/// Kills at every instruction of every operation. If an operation has more than `most` of them, kills at every second,
/// third and so on.
pub fn sweep(operations: &[Operation], most: usize) -> Vec<SweepResult> {
    assert!(operations.len() <= MOST);
    let boards: &'static [Board; MOST] = shared_zeroes();
    let all = || operations.iter().zip(boards);
    in_workers(|number| {
        for (operation, board) in all().skip(number as usize).step_by(WORKERS as usize) {
            board.choose(operation, most.min(POINTS));
        }
    });
    in_workers(|_| all().for_each(|(operation, board)| board.kill(operation)));
    all().map(|(_, board)| board.tally()).collect()
}

/// Forks all workers, and waits for them.
fn in_workers(work: impl Fn(u32)) {
    let fork = |number| {
        // SAFETY: the child uses nothing that other threads of this process could have locked: it allocates, which the
        // C library keeps usable, and it writes to stderr without the test's capture.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: no memory is involved.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            std::panic::set_hook(Box::new(|panic| _ = say(&panic.to_string(), 0)));
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(number))).is_ok();
            // SAFETY: ends this process.
            unsafe { libc::_exit(i32::from(!done)) };
        }
        pid
    };
    let workers: Vec<_> = (0..WORKERS).map(fork).collect();
    for pid in workers {
        let mut status = 0;
        // SAFETY: our own child.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(status, 0, "a worker fell: see above");
    }
}

impl Board {
    /// Steps through the operation, and chooses the points to kill at.
    fn choose(&self, operation: &Operation, most: usize) {
        let mut points = Vec::new();
        if let Err(fault) = step_through(operation, &mut points) {
            self.book(operation, "stepping through it", Err(fault));
            return;
        }
        let chosen = points.iter().step_by(points.len().div_ceil(most));
        for (sandbox, point) in self.points.iter().zip(chosen.clone()) {
            sandbox.0.store(point.address, SeqCst);
            sandbox.1.store(point.visit, SeqCst);
        }
        self.count.store(chosen.len() as u32, SeqCst);
        self.counters[4].store(points.len() as u32, SeqCst);
    }

    /// Kills at points that no other worker has taken, until there are none.
    fn kill(&self, operation: &Operation) {
        let count = self.count.load(SeqCst);
        while self.counters[2].load(SeqCst) + self.counters[3].load(SeqCst) < FAULTS {
            let next = self.next.fetch_add(1, SeqCst);
            if next >= count {
                break;
            }
            let (address, visit) = &self.points[next as usize];
            let point = Point { address: address.load(SeqCst), visit: visit.load(SeqCst) };
            let mut outcome = kill_at(operation, point);
            // A waiter counts short waits. On a busy machine even fifty may be too few for the other processes.
            for _ in 0..AGAIN {
                if !matches!(outcome, Err(Fault::Hang(_))) {
                    break;
                }
                self.again.fetch_add(1, SeqCst);
                outcome = kill_at(operation, point);
            }
            self.book(operation, &format!("killed at point {next} of {count}"), outcome);
        }
    }

    fn book(&self, operation: &Operation, at: &str, outcome: Result<bool, Fault>) {
        let counter = match &outcome {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(Fault::Hang(_)) => 2,
            Err(Fault::Loss(_)) => 3,
        };
        self.counters[counter].fetch_add(1, SeqCst);
        if let Err(fault) = outcome {
            say(&format!("{}, {}, {at}: {fault:?}", operation.name, operation.state), 0);
        }
    }

    fn tally(&self) -> SweepResult {
        let [points, over, hangs, losses, instructions] =
            self.counters.each_ref().map(|counter| counter.load(SeqCst));
        let again = self.again.load(SeqCst);
        SweepResult { points, over, hangs, losses, instructions, again }
    }
}

/// A victim at the beginning of its operation.
fn prepare(operation: &Operation) -> Result<(Box<dyn Case>, Victim), Fault> {
    let mut case = (operation.make)()?;
    let victim = Victim::fork(|| case.victim());
    for number in 0.. {
        match victim.resume() {
            Stop::Pause => case.at_pause(number)?,
            Stop::Begin => break,
            stop => panic!("{}: {stop:?} before its beginning", operation.name),
        }
    }
    case.at_begin()?;
    Ok((case, victim))
}

/// Steps through the operation once, and kills the victim at its end.
fn step_through(operation: &Operation, points: &mut Vec<Point>) -> Outcome {
    let (mut case, victim) = prepare(operation)?;
    *points = victim.instructions();
    case.at_end()?;
    victim.kill();
    case.survive()
}

/// Kills or stops the victim at one point. Returns whether the victim came to that point.
fn kill_at(operation: &Operation, point: Point) -> Result<bool, Fault> {
    let (case, victim) = prepare(operation)?;
    let there = victim.reach(point);
    if operation.stops {
        let outcome = case.survive();
        victim.kill();
        return outcome.map(|()| there);
    }
    victim.kill();
    case.survive().map(|()| there)
}
