//! The ring in a program that has nothing else: no standard library, no C library, no runtime, no allocator.
//!
//! It is a Linux program only so that a test can run it. It starts at its own `_start` and makes two system calls: one
//! to print a line and one to end. It sends messages through a ring in a `static` for several laps, checks every byte,
//! and exits with 0. Any error ends it with another code.
#![no_std]
#![no_main]

mod linux;
mod memory;

use core::cell::UnsafeCell;
use core::convert::Infallible;
use core::ptr::NonNull;
use whorl_core::error::{End, ReadError};
use whorl_core::host::{Futex, Host, WaitResult};
use whorl_core::layout::{Geometry, Region, Ring};
use whorl_core::ring::{ClaimSize, PendingReceiver};
use whorl_core::sequence::Sequence;
use whorl_core::sync::{AtomicU32, Ordering};

const GEOMETRY: Geometry = match Geometry::new(128, 2) {
    Ok(geometry) => geometry,
    Err(_) => panic!("impossible measures"),
};
const DATA: usize = (GEOMETRY.data_length() as usize).next_multiple_of(128);
const CONTROL: usize = GEOMETRY.control_length() as usize;
const MESSAGES: u32 = 1000;

#[repr(C, align(128))]
struct Memory(UnsafeCell<[u8; DATA + CONTROL]>);

// SAFETY: there is one thread.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; DATA + CONTROL]));

/// A host for one thread, which never waits. A call that would sleep ends the program.
#[derive(Clone, Copy)]
struct Alone;

impl Futex for Alone {
    type Deadline = Infallible;

    fn wait(&self, word: &AtomicU32, expected: u32, _: Option<Infallible>) -> WaitResult {
        if word.load(Ordering::Relaxed) == expected {
            linux::exit(9);
        }
        core::hint::spin_loop();
        WaitResult::Woken
    }
    fn wake_all(&self, _: &AtomicU32) {}
}

impl Host for Alone {
    fn try_reclaim(&self, _: u32, _: impl FnOnce()) -> bool {
        false
    }
    fn try_sweep(&self, _: impl FnOnce()) {}
    fn owner_is_dead(&self) -> bool {
        false
    }
}

/// Ends the program with this code if the condition does not hold.
fn check(holds: bool, code: i32) {
    if !holds {
        linux::exit(code);
    }
}

fn message(number: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (i, word) in bytes.chunks_exact_mut(4).enumerate() {
        word.copy_from_slice(&number.wrapping_mul(0x9E37_79B9).rotate_left(i as u32).to_le_bytes());
    }
    bytes
}

fn send_around() -> Option<u32> {
    // SAFETY: all of the static, which this function alone uses, once.
    let memory = unsafe { Region::new(NonNull::new(MEMORY.0.get().cast())?, DATA + CONTROL) };
    let (data, control) = memory.split_at(DATA).ok()?;
    // SAFETY: writable, apart, and not used by other code; this host reclaims no participant.
    let mut ring = unsafe { Ring::create(data, control, GEOMETRY, 0, Alone) }.ok()?;
    ring.start_at(Sequence::from_word(0u32.wrapping_sub(MESSAGES / 2)));
    let handle = ring.ring();
    let (mut sender, membership) = ring.into_sender();
    let pending = PendingReceiver::request_seat(handle, 0, true, 0).ok()?;
    check(membership.admit_all() == 1, 2);
    let mut receiver = pending.try_admitted().ok()?;
    let (mut sent, mut received) = (0, 0);
    while received < MESSAGES {
        while sent < MESSAGES {
            let Ok(mut claim) = sender.try_claim(ClaimSize::exactly(16)) else { break };
            claim.writer().write(&message(sent));
            claim.stage(16);
            sent += 1;
        }
        sender.publish();
        let mut batch = receiver.read(None).ok()?;
        while let Some(frame) = batch.next_frame().ok()? {
            let mut bytes = [0; 16];
            check(frame.payload().copy_to(&mut bytes) == Ok(16), 3);
            check(bytes == message(received), 4);
            received += 1;
        }
        batch.release();
    }
    let end = End { total: u64::from(sent) * 16, checksum: None };
    sender.close(end);
    check(receiver.try_read().err() == Some(ReadError::Ended(end)), 5);
    Some(received)
}

/// The entry point in Rust, on a stack that is aligned as functions expect.
extern "C" fn main() -> ! {
    check(send_around() == Some(MESSAGES), 6);
    let said = linux::print("1000 messages through a ring in a static, without a runtime\n");
    linux::exit(if said { 0 } else { 7 })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    linux::exit(8)
}
