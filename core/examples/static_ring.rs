//! A ring in a `static` array: no allocation, no operating system, nobody sleeps.
//!
//! For embedded use keep what is above `main`; the only thing here that needs `std` is `println!`. What to decide:
//!
//! - **Where it lies.** A `static` of [`DATA`] plus [`CONTROL`] bytes, aligned to 128. Both are constants of the geometry,
//!   so the compiler reserves exactly what the ring needs, and refuses a geometry that is impossible. The ring may as
//!   well lie in a linker section of its own, or in memory that two cores share.
//! - **How to wait.** A [`Host`](whorl_core::host::Host). Here it is [`SpinHost`]. On a microcontroller a host of its own
//!   executes `wfe` in `wait` and `sev` in the wakes, or switches tasks. The `try_` functions never wait, so an interrupt handler can call
//!   `try_claim` and `try_read`.
//! - **Who dies.** Nobody does where there are no processes: [`SpinHost`] never runs the closure of `try_reclaim`.
//!
//! The sender and each receiver may live on different cores or in an interrupt handler; each handle is used by one at a time.
#![expect(clippy::disallowed_types, reason = "a static that the ring writes to needs interior mutability")]

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use whorl_core::error::{End, ReadError};
use whorl_core::host::SpinHost;
use whorl_core::layout::{Geometry, Region, Ring};
use whorl_core::ring::{PendingReceiver, Receiver};

/// Eight slots of 32 bytes, for up to two receivers.
const GEOMETRY: Geometry = match Geometry::new(32, 8, 2) {
    Ok(geometry) => geometry,
    Err(_) => panic!("impossible measures"),
};
/// Both lengths are multiples of 128, so the second region is aligned like the first.
const DATA: usize = (GEOMETRY.data_length() as usize).next_multiple_of(128);
const CONTROL: usize = GEOMETRY.control_length() as usize;

/// The ring's memory.
#[repr(C, align(128))]
struct Memory(UnsafeCell<[u8; DATA + CONTROL]>);

// SAFETY: reached only through the ring, which decides who touches what.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; DATA + CONTROL]));

fn main() {
    let start = NonNull::new(MEMORY.0.get().cast::<u8>()).expect("a static has an address");
    // SAFETY: all of the static, which lives for ever, and `main` runs once.
    let memory = unsafe { Region::new(start, DATA + CONTROL) };
    let (data, control) = memory.split_at(DATA).expect("both fit");
    // SAFETY: writable, apart, used by nobody else yet; nobody is ever reclaimed.
    let ring = unsafe { Ring::create(data, control, GEOMETRY, 0, SpinHost::new()) }
        .expect("aligned and long enough");
    let handle = ring.ring();
    let (mut sender, membership) = ring.into_sender();

    let [first, second] = [0, 1].map(|seat| {
        let applicant = PendingReceiver::request_seat(handle.clone(), seat, true, 0);
        applicant.unwrap_or_else(|why| panic!("seat {seat}: {why}"))
    });
    membership.admit_all();
    let mut receivers = [first, second].map(|applicant| match applicant.try_admitted() {
        Ok(receiver) => receiver,
        Err((why, _)) => panic!("{why}"),
    });

    let messages = ["one turn", "of the spiral", "is a whorl"];
    for message in messages {
        let mut claim = sender.claim(1, None).expect("no deadline");
        claim.slot(0).write(message.as_bytes()).expect("it fits");
        claim.publish(1);
    }
    sender.close(End { total: messages.iter().map(|message| message.len() as u64).sum(), checksum: None });

    for receiver in &mut receivers {
        print_all(receiver);
    }
}

fn print_all(receiver: &mut Receiver<Ring<'static, SpinHost>>) {
    let seat = receiver.seat();
    loop {
        let run = match receiver.read(None) {
            Ok(run) => run,
            Err(ReadError::Ended(end)) => break println!("receiver {seat}: end after {} bytes", end.total),
            Err(why) => panic!("{why}"),
        };
        for i in 0..run.len() {
            let mut buffer = [0; 32];
            let length =
                run.item(i).copy_to(&mut buffer).expect("an honest sender").expect("as long as a slot");
            println!("receiver {seat}: {}", String::from_utf8_lossy(&buffer[..length]));
        }
        let count = run.len();
        run.release(count);
    }
}
