//! A ring in a `static` array: no allocation, no operating system, and no participant sleeps.
//!
//! For embedded use keep the code above `main`; only `println!` needs `std`. A program decides three things:
//!
//! - **Where the ring lies.** Here: a `static` of [`DATA`] plus [`CONTROL`] bytes, aligned to 128. Both are constants
//!   of the geometry. So the compiler reserves exactly what the ring needs, and refuses an impossible geometry. The
//!   ring may also lie in its own linker section, or in memory that two cores share.
//! - **How a participant waits.** A [`Host`](whorl_core::host::Host) decides it; here it is [`SpinHost`]. A host for a
//!   microcontroller may execute `wfe` in `wait` and `sev` in the wakes, or switch tasks. The `try_` functions never
//!   wait, so an interrupt handler can call `try_claim` and `try_read`.
//! - **Which participants die.** Without processes, none: [`SpinHost`] never runs the closure of `try_reclaim`.
//!
//! The sender and each receiver may run on different cores or in an interrupt handler. Only one of them uses each
//! handle at a time.
#![expect(clippy::disallowed_types, reason = "a static that the ring writes to needs interior mutability")]

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use whorl_core::error::{End, ReadError};
use whorl_core::host::SpinHost;
use whorl_core::layout::{Geometry, Region, Ring};
use whorl_core::ring::{ClaimSize, PendingReceiver, Receiver};

/// 256 bytes for messages, for up to two receivers.
const GEOMETRY: Geometry = match Geometry::new(256, 2) {
    Ok(geometry) => geometry,
    Err(_) => panic!("impossible measures"),
};
/// Both lengths are multiples of 128, so the second region is aligned like the first.
const DATA: usize = (GEOMETRY.data_length() as usize).next_multiple_of(128);
const CONTROL: usize = GEOMETRY.control_length() as usize;

/// The ring's memory.
#[repr(C, align(128))]
struct Memory(UnsafeCell<[u8; DATA + CONTROL]>);

// SAFETY: reached only through the ring, which decides which participant touches which bytes.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; DATA + CONTROL]));

fn main() {
    let start = NonNull::new(MEMORY.0.get().cast::<u8>()).expect("a static has an address");
    // SAFETY: all of the static, which lives forever, and `main` runs once.
    let memory = unsafe { Region::new(start, DATA + CONTROL) };
    let (data, control) = memory.split_at(DATA).expect("both fit");
    // SAFETY: writable, apart, and not used by other code yet; this host reclaims no participant.
    let ring = unsafe { Ring::create(data, control, GEOMETRY, 0, SpinHost::new()) }
        .expect("aligned and long enough");
    let handle = ring.ring();
    let (mut sender, membership) = ring.into_sender();

    let [first, second] = [0, 1].map(|seat| {
        let pending = PendingReceiver::request_seat(handle.clone(), seat, true, 0);
        pending.unwrap_or_else(|why| panic!("seat {seat}: {why}"))
    });
    membership.admit_all();
    let mut receivers = [first, second].map(|pending| match pending.try_admitted() {
        Ok(receiver) => receiver,
        Err((why, _)) => panic!("{why}"),
    });

    let messages = ["one turn", "of the spiral", "is a whorl"];
    for message in messages {
        let length = message.len() as u32;
        let mut claim = sender.claim(ClaimSize::exactly(length), None).expect("no deadline");
        claim.writer().write(message.as_bytes());
        claim.publish(length);
    }
    sender.close(End { total: messages.iter().map(|message| message.len() as u64).sum(), checksum: None });

    for receiver in &mut receivers {
        print_all(receiver);
    }
}

fn print_all(receiver: &mut Receiver<Ring<'static, SpinHost>>) {
    let seat = receiver.seat();
    loop {
        let mut batch = match receiver.read(None) {
            Ok(batch) => batch,
            Err(ReadError::Ended(end)) => break println!("receiver {seat}: end after {} bytes", end.total),
            Err(why) => panic!("{why}"),
        };
        while let Some(frame) = batch.next_frame().expect("an honest sender") {
            let mut buffer = [0; 32];
            let length = frame.payload().copy_to(&mut buffer).expect("no longer message was sent");
            println!("receiver {seat}: {}", String::from_utf8_lossy(&buffer[..length]));
        }
        batch.release();
    }
}
