//! Two threads, each bound to its own core, poll two rings in one anonymous mapping. Programs that bypass the kernel
//! use the core like this. No thread sleeps, and while the threads run they allocate nothing and make no system call.
//! Prints the latency.
//!
//! ```sh
//! cargo run --release -p whorl-core --example polled_ring
//! ```
//!
//! The mapping uses a huge page if the machine has a free one (`sysctl vm.nr_hugepages=1`), and ordinary pages
//! otherwise.

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::ptr::NonNull;
use std::time::{Duration, Instant};
use whorl_core::error::End;
use whorl_core::host::{Futex, Host, WaitResult};
use whorl_core::layout::{Geometry, OwnedRing, Region, Ring};
use whorl_core::ring::{ClaimSize, PendingReceiver, Receiver, Sender};
use whorl_core::sync::{AtomicU32, Ordering};

const GEOMETRY: Geometry = match Geometry::new(4096, 1) {
    Ok(geometry) => geometry,
    Err(_) => panic!("impossible measures"),
};
const ROUNDS: usize = 200_000;
const HUGE: usize = 2 << 20;

/// A host that polls. No thread sleeps, so waking does nothing.
#[derive(Clone, Copy)]
struct Poll;

impl Futex for Poll {
    /// There is no clock: waits have no deadline.
    type Deadline = core::convert::Infallible;

    fn spin(&self, attempt: u32, _: Option<Self::Deadline>) -> bool {
        core::hint::spin_loop();
        attempt < 1_000_000
    }
    fn wait(&self, word: &AtomicU32, expected: u32, _: Option<Self::Deadline>) -> WaitResult {
        while word.load(Ordering::Relaxed) == expected {
            core::hint::spin_loop();
        }
        WaitResult::Woken
    }
    fn wake_all(&self, _: &AtomicU32) {}
}

impl Host for Poll {
    fn try_reclaim(&self, _: u32, _: impl FnOnce()) -> bool {
        false
    }
    fn try_sweep(&self, _: impl FnOnce()) {}
    fn owner_is_dead(&self) -> bool {
        false
    }
}

type Ends = (Sender<OwnedRing<'static, Poll>>, Receiver<Ring<'static, Poll>>);

/// Makes a ring with one receiver at the beginning of `memory`. Returns its two ends and the rest of the memory.
fn ring(memory: Region<'static>) -> (Ends, Region<'static>) {
    let length = |length: u64| (length as usize).next_multiple_of(4096);
    let (data, rest) = memory.split_at(length(GEOMETRY.data_length())).expect("room for the data");
    let (control, rest) =
        rest.split_at(length(GEOMETRY.control_length())).expect("and for the control words");
    // SAFETY: writable, apart, and not used by other code; this host reclaims no participant.
    let ring = unsafe { Ring::create(data, control, GEOMETRY, 0, Poll) }.expect("aligned and long enough");
    let pending = PendingReceiver::request_seat(ring.ring(), 0, true, 0).expect("the seat is free");
    let (sender, membership) = ring.into_sender();
    membership.admit_all();
    let Ok(receiver) = pending.try_admitted() else { panic!("admitted just now") };
    ((sender, receiver), rest)
}

fn memory() -> (Region<'static>, &'static str) {
    let map = |flags| {
        // SAFETY: a new mapping, at an address that the kernel chooses.
        unsafe { mmap_anonymous(std::ptr::null_mut(), HUGE, ProtFlags::READ | ProtFlags::WRITE, flags) }
    };
    let (start, pages) = match map(MapFlags::SHARED | MapFlags::HUGETLB) {
        Ok(start) => (start, "a huge page"),
        Err(_) => (map(MapFlags::SHARED).expect("two megabytes"), "ordinary pages"),
    };
    let start = NonNull::new(start.cast()).expect("a mapping has an address");
    // SAFETY: all of the mapping, which is never unmapped.
    (unsafe { Region::new(start, HUGE) }, pages)
}

/// Binds this thread to the `nth` processor that it may use. Returns whether there is one.
fn tie_to(nth: usize) -> bool {
    let allowed = sched_getaffinity(None).expect("this thread's affinity");
    let Some(processor) = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).nth(nth) else {
        return false;
    };
    let mut one = CpuSet::new();
    one.set(processor);
    sched_setaffinity(None, &one).is_ok()
}

fn send(sender: &mut Sender<OwnedRing<'static, Poll>>, message: &[u8; 64]) {
    let mut claim = sender.claim(ClaimSize::exactly(64), None).expect("no deadline");
    claim.writer().write(message);
    claim.publish(64);
}

/// Receives one message. Returns false at the end of the stream.
fn receive(receiver: &mut Receiver<Ring<'static, Poll>>, message: &mut [u8; 64]) -> bool {
    let Ok(mut batch) = receiver.read(None) else { return false };
    let frame = batch.next_frame().expect("an honest sender").expect("a message");
    frame.payload().copy_to(message).expect("64 bytes");
    batch.release();
    true
}

fn main() {
    let (memory, pages) = memory();
    let ((mut ping, mut ping_out), rest) = ring(memory);
    let ((mut pong, mut pong_out), _) = ring(rest);
    let echo = std::thread::spawn(move || {
        let tied = tie_to(1);
        let mut message = [0; 64];
        while receive(&mut ping_out, &mut message) {
            send(&mut pong, &message);
        }
        tied
    });
    let tied = tie_to(0);
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    let mut message = [0; 64];
    for round in 0..ROUNDS {
        let sent = [round as u8; 64];
        let start = Instant::now();
        send(&mut ping, &sent);
        assert!(receive(&mut pong_out, &mut message), "the echo thread is running");
        times.push(start.elapsed());
        assert_eq!(message, sent);
    }
    ping.close(End { total: 64 * ROUNDS as u64, checksum: None });
    let tied = tied & echo.join().expect("it does not panic");
    times.sort_unstable();
    let [median, tail] = [ROUNDS / 2, ROUNDS * 999 / 1000].map(|at| times[at].as_nanos());
    let cores = if tied {
        "each thread on its own core"
    } else {
        "threads share a core, so these are times of the scheduler"
    };
    println!(
        "{ROUNDS} round trips of 64 bytes in {pages}, {cores}: median {median} ns, 99.9 % within {tail} ns"
    );
}
