//! One run of a stream: its rate, its cost, the pause after a kill, the cost of waiting, and the memory that it maps.

use crate::clock;
use crate::contender::{Contender, Stream, StreamCase, Unavailable};
use crate::control::{Control, phase, task};
use crate::process::{Group, RunError, nap};
use crate::role::{Pacer, Tally};
use crate::schedule::Timeline;
use crate::timing::Timing;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

/// A run has a figure, has failed, or was not even tried.
pub type Run<T> = Result<Result<T, RunError>, Unavailable>;

/// Measures messages per second. Every receiver reads each message whole.
pub fn throughput(
    control: &'static Control,
    contender: &dyn Contender,
    case: &StreamCase,
    timing: &Timing,
) -> Run<f64> {
    with_stream(control, contender, case, task::NONE, |group| {
        let deadline = Instant::now() + timing.deadline;
        group.measure(control, case.receivers as u32 + 1, timing, deadline)?;
        rate(control, case)
    })
}

/// What a stream delivers to its receivers, and what that costs.
pub struct Delivery {
    /// Messages per second. Every receiver reads each message whole.
    pub rate: f64,
    /// CPU time of the sender and all receivers, in nanoseconds for each message and receiver. It includes the warm-up.
    pub cpu: f64,
}

/// Measures both in one run. The parties are processes, because the CPU times of threads cannot be told apart.
pub fn delivery(
    control: &'static Control,
    contender: &dyn Contender,
    case: &StreamCase,
    timing: &Timing,
) -> Run<Delivery> {
    with_stream(control, contender, case, task::NONE, |group| {
        let deadline = Instant::now() + timing.deadline;
        group.measure(control, case.receivers as u32 + 1, timing, deadline)?;
        let rate = rate(control, case)?;
        let receivers = control.receivers[..case.receivers].iter();
        let cpu: u64 = receivers.map(|receiver| receiver.0.cpu_ns.load(Relaxed)).sum();
        let cpu = cpu + control.sender.0.cpu_ns.load(Relaxed);
        let delivered = control.sender.0.sent.load(Relaxed) * case.receivers as u64;
        Ok(Delivery { rate, cpu: cpu as f64 / delivered as f64 })
    })
}

/// Returns the rate, from the first message that counted until the last receiver has the last one.
fn rate(control: &Control, case: &StreamCase) -> Result<f64, RunError> {
    let sender = &control.sender.0;
    let (sent, end) = all_arrived(control, case)?;
    let messages = sent - sender.first.load(Relaxed);
    Ok(messages as f64 * 1e9 / (end - sender.start_ns.load(Relaxed)) as f64)
}

/// Returns how many messages were sent, and when the last receiver had the last one. Fails if a message was lost or
/// damaged.
fn all_arrived(control: &Control, case: &StreamCase) -> Result<(u64, u64), RunError> {
    let sent = control.sender.0.sent.load(Acquire);
    let mut end = 0;
    for (index, receiver) in control.receivers[..case.receivers].iter().enumerate() {
        let received = receiver.0.received.load(Relaxed);
        let wrong = receiver.0.wrong.load(Relaxed);
        if received != sent || wrong != 0 {
            let text = format!("receiver {index} got {received} of {sent} messages, {wrong} of them wrong");
            return Err(RunError::Failed(text));
        }
        end = end.max(receiver.0.end_ns.load(Acquire));
    }
    Ok((sent, end))
}

/// Measures how late each message was at each receiver, in nanoseconds, when `count` messages are sent at a fixed
/// `rate`. The first tenth is the warm-up and does not count. `count` times the receivers is at most
/// [`MOST_SAMPLES`](crate::control::MOST_SAMPLES).
pub fn lateness(
    control: &'static Control,
    contender: &dyn Contender,
    case: &StreamCase,
    (rate, count): (u64, u64),
    deadline: Duration,
) -> Run<Vec<u32>> {
    control.schedule.0.set(rate, count);
    with_stream(control, contender, case, task::SCHEDULE, |group| {
        let deadline = Instant::now() + deadline;
        start(control, group, case, deadline)?;
        group.finish(control, deadline)?;
        all_arrived(control, case)?;
        let count = count as usize;
        let receivers = control.samples.chunks(count).take(case.receivers);
        Ok(receivers.flat_map(|all| &all[count / 10..]).map(|late| late.load(Relaxed)).collect())
    })
}

/// Returns the messages of each party in each interval of a stream at a fixed rate, whose first receiver pauses: the
/// sender's, then each receiver's.
pub fn slow_reader(
    control: &'static Control,
    contender: &dyn Contender,
    case: &StreamCase,
    (rate, count): (u64, u64),
    deadline: Duration,
) -> Run<Vec<Vec<u32>>> {
    control.schedule.0.set(rate, count);
    with_stream(control, contender, case, task::TIMELINE, |group| {
        let deadline = Instant::now() + deadline;
        start(control, group, case, deadline)?;
        group.finish(control, deadline)?;
        all_arrived(control, case)?;
        Ok(control.timelines[..=case.receivers].iter().map(Timeline::counts).collect())
    })
}

/// The sender's longest pauses, in nanoseconds.
pub struct Pauses {
    /// The longest pause before the kill.
    pub before: f64,
    /// The longest pause after the kill.
    pub after: f64,
}

/// Kills the last receiver in mid-stream, and watches the sender for a while before and after.
pub fn kill(
    control: &'static Control,
    contender: &dyn Contender,
    case: &StreamCase,
    timing: &Timing,
) -> Run<Pauses> {
    contender.mortal()?;
    with_stream(control, contender, case, task::WATCH, |group| {
        let deadline = Instant::now() + timing.deadline;
        start(control, group, case, deadline)?;
        nap(timing.warm_up)?;
        control.advance(phase::MEASURE);
        // The kill must not always come at one point of the stream. The clock's low digits are random enough.
        let jitter = Duration::from_micros(clock::nanoseconds() / 1000 % 2000);
        nap(timing.measure + jitter)?;
        control.killed_at.0.store(clock::nanoseconds(), Relaxed);
        group.kill(case.receivers);
        nap(timing.measure)?;
        control.advance(phase::STOP);
        // A sender that still hangs from here on has had enough time.
        group.finish(control, Instant::now() + timing.patience)?;
        let record = &control.sender.0;
        let pause = |word: &std::sync::atomic::AtomicU64| word.load(Relaxed) as f64;
        Ok(Pauses { before: pause(&record.pause_before), after: pause(&record.pause_after) })
    })
}

/// The party that blocks while its CPU time is measured.
#[derive(Clone, Copy, PartialEq)]
pub enum Blocked {
    Sender,
    Receiver,
}

/// Measures the share of a core, in per cent, that the first blocked party uses.
pub fn idle(
    control: &'static Control,
    contender: &dyn Contender,
    case: &StreamCase,
    blocked: Blocked,
    timing: &Timing,
) -> Run<f64> {
    let task = if blocked == Blocked::Sender { task::HOLD_RECEIVERS } else { task::HOLD_SENDER };
    with_stream(control, contender, case, task, |group| {
        let deadline = Instant::now() + timing.deadline;
        start(control, group, case, deadline)?;
        // Gives the party time to fall asleep.
        nap(timing.warm_up + Duration::from_millis(50))?;
        let pid = group.pid(usize::from(blocked == Blocked::Receiver));
        let cpu = || clock::cpu_time_of(pid).ok_or_else(|| RunError::Failed("ended early".into()));
        let (cpu_before, before) = (cpu()?, Instant::now());
        nap(timing.measure)?;
        let share = (cpu()? - cpu_before).as_secs_f64() / before.elapsed().as_secs_f64();
        control.advance(phase::STOP);
        group.finish(control, deadline)?;
        Ok(share * 100.0)
    })
}

/// Returns the bytes of shared memory that the sender maps in mid-stream.
pub fn memory(
    control: &'static Control,
    contender: &dyn Contender,
    case: &StreamCase,
    timing: &Timing,
) -> Run<f64> {
    let own = std::process::id() as libc::pid_t;
    let known = shared_objects(own);
    let bytes = with_stream(control, contender, case, task::NONE, |group| {
        let deadline = Instant::now() + timing.deadline;
        start(control, group, case, deadline)?;
        nap(timing.warm_up)?;
        let mut mapped = shared_objects(group.pid(0));
        control.advance(phase::STOP);
        group.finish(control, deadline)?;
        mapped.retain(|object, _| !known.contains_key(object));
        Ok(mapped.values().sum::<u64>() as f64)
    })?;
    if bytes == Ok(0.0) {
        Err(Unavailable::cannot("maps nothing: its buffers are the kernel's"))
    } else {
        Ok(bytes)
    }
}

/// Opens a stream, forks its parties (the sender first), lets `steer` do its work, and leaves nothing behind.
fn with_stream<T>(
    control: &'static Control,
    contender: &dyn Contender,
    case: &StreamCase,
    task: u32,
    steer: impl FnOnce(&mut Group) -> Result<T, RunError>,
) -> Run<T> {
    control.reset(task);
    let mut group = Group::new();
    match contender.stream(case)? {
        Stream::Threads(_) if task != task::NONE => {
            return Err(Unavailable::cannot("its parties share a process"));
        }
        Stream::Threads(threads) => group.spawn(control, || {
            let mut pace = Pacer::new(control);
            threads.run(&mut pace, (0..case.receivers).map(|index| Tally::new(control, index)).collect());
            pace.finish();
            Ok(())
        }),
        Stream::Processes(parties) => {
            // Each child takes its own copy of the opened stream. The parent's copy is dropped at the end of this
            // block.
            let mut parties = Some(parties);
            group.spawn(control, || {
                let mut pace = Pacer::new(control);
                parties.take().expect("inherited whole").send(&mut pace);
                pace.finish();
                Ok(())
            });
            for index in 0..case.receivers {
                group.spawn(control, || {
                    let mut tally = Tally::new(control, index);
                    parties.take().expect("inherited whole").receive(index, &mut tally);
                    Ok(())
                });
            }
        }
    }
    let result = steer(&mut group);
    drop(group);
    contender.clean_up();
    Ok(result)
}

/// Waits until all parties are set up, and starts them.
fn start(control: &Control, group: &mut Group, case: &StreamCase, deadline: Instant) -> Result<(), RunError> {
    let parties = case.receivers as u32 + 1;
    group.wait_until(control, deadline, || control.ready.0.load(Acquire) == parties)?;
    control.advance(phase::WARM);
    Ok(())
}

/// Returns the memory objects that a process maps shared, and how many bytes of each from its beginning.
fn shared_objects(pid: libc::pid_t) -> BTreeMap<(String, u64), u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut objects = BTreeMap::new();
    for line in maps.lines() {
        // from-to rwxs offset device inode path
        let mut fields = line.split_whitespace();
        let Some((range, mode, offset, device, inode)) =
            (|| Some((fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?)))()
        else {
            continue;
        };
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let size = range.split_once('-').and_then(|(from, to)| Some(hex(to)? - hex(from)?));
        let end = size.and_then(|size| Some(hex(offset)? + size));
        if let (true, Some(end), Ok(inode)) = (mode.ends_with('s'), end, inode.parse()) {
            let bytes = objects.entry((device.to_string(), inode)).or_insert(0);
            *bytes = end.max(*bytes);
        }
    }
    objects
}
