//! The questions to a reader-writer lock: what it costs alone, how many operations two parties make, and how long one
//! party waits for the other kind.

use super::Lock;
use crate::clock;
use crate::control::{Control, MOST_RECEIVERS, map_shared, phase, task};
use crate::process::{Group, RunError};
use crate::streams::Run;
use crate::timing::Timing;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

/// The bytes that the contended section copies, if it is not empty.
pub const COPIED: usize = 1 << 16;
/// The length of a section in the waiting cases.
pub const SECTION: Duration = Duration::from_millis(10);
const MOST_WAITS: usize = 1 << 16;

/// The question of one run.
#[derive(Clone, Copy, PartialEq)]
pub enum Question {
    /// One party, reading or writing, with nothing inside: operations per second.
    Alone { writes: bool },
    /// Two parties. Of a hundred operations, `writes` are writes, with `copied` bytes copied inside.
    Two { writes: u32, copied: usize },
    /// One party of one kind among four of the other kind, whose sections overlap without a pause: its waits.
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

/// What the parties of a run share besides the lock.
struct Board {
    /// Waits of the observed party, in microseconds.
    waits: [AtomicU32; MOST_WAITS],
    copied: [u8; COPIED],
}

/// Runs a question once. Returns the operations per second of all parties together, or the waits in ms.
pub fn ask<L: Lock>(control: &'static Control, question: Question, timing: &Timing) -> Run<Vec<f64>> {
    control.reset(task::NONE);
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
) -> Result<Vec<f64>, RunError> {
    let deadline = Instant::now() + timing.deadline + timing.measure;
    group.measure(control, question.parties(), timing, deadline)?;
    if let Question::Wait { .. } = question {
        let count = control.receivers[0].0.received.load(Acquire) as usize;
        // SAFETY: mapped, zeroed at the start, and every party has ended.
        let waits = unsafe { &(*board).waits };
        return match count {
            0 => Err(RunError::Failed("it never got in".into())),
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
            // The parties start one after another, so that the sections overlap.
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

/// Counts operations in the measuring phase.
fn count<L: Lock>(mut lock: L, seat: u32, control: &'static Control, mut operate: impl FnMut(&mut L, u64)) {
    control.arrive();
    let (mut number, mut began) = (u64::from(seat) << 32, None);
    loop {
        match (control.phase.0.load(Relaxed), began) {
            // A party that missed the measuring phase also counts something.
            (phase::MEASURE | phase::STOP, None) => began = Some((number, clock::nanoseconds())),
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

/// Enters again and again, and records how long each entry took.
fn observe<L: Lock>(mut lock: L, writes: bool, control: &'static Control, board: Place) {
    // SAFETY: mapped and zeroed; atomics.
    let waits = unsafe { &(*board.0).waits };
    control.arrive();
    let mut counted = 0;
    loop {
        // A wait that has not ended when the run ends counts, too: it is at least this long.
        let over = (control.phase.0.load(Relaxed) == phase::STOP && counted > 0) || counted == MOST_WAITS;
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
