//! `whorl_send_*`: one sender, whom receivers find by name.

use crate::support::{
    Failure, bytes, call, deadline, give, held, name, place, put_if_wanted, take_back, whorl_status,
};
use std::ffi::{c_char, c_void};
use whorl::{Sender, SenderOptions};

/// The sender of a channel.
pub struct whorl_sender(Sender);

/// What became of the receivers of a channel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct whorl_tally {
    /// How many have everything.
    pub done: u64,
    /// How many had enough before the end.
    pub left: u64,
    /// How many failed on their side, or were thrown out.
    pub failed: u64,
    /// How many went without a word.
    pub lost: u64,
}

/// Opens a channel under a name: 1 to 64 letters, digits, dots, hyphens and underscores.
///
/// `slot_size` is the longest message, `slots` (a power of two) how many fit the ring, `seats` how many may receive at a time;
/// 0 means 80 KiB, 8 and 64. On success `*sender` is the caller's until `whorl_send_free`.
///
/// # Safety
/// - `name` points to a text that ends with a zero byte.
/// - `sender` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_send_create(
    name: *const c_char,
    slot_size: u32,
    slots: u32,
    seats: u32,
    sender: *mut *mut whorl_sender,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let name = unsafe { self::name(name) }?;
        // SAFETY: the caller's second promise.
        let place = unsafe { place(sender) }?;
        let usual = SenderOptions::default();
        let or = |given: u32, usual: u32| if given == 0 { usual } else { given };
        let options = SenderOptions {
            slot_size: or(slot_size, usual.slot_size),
            slots: or(slots, usual.slots),
            seats: or(seats, usual.seats),
            ..usual
        };
        let made = Sender::create(&name, options)?;
        give(place, whorl_sender(made));
        Ok(())
    })
}

/// Waits until `count` receivers take part, at most `timeout_ms` milliseconds; a negative time is for ever.
///
/// # Safety
/// - `sender` came from `whorl_send_create`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_send_wait_receivers(
    sender: *mut whorl_sender,
    count: u32,
    timeout_ms: i64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's promise.
        let sender = unsafe { held(sender) }?;
        Ok(sender.0.wait_for_receivers(count, deadline(timeout_ms))?)
    })
}

/// How many receivers take part now; 0 if `sender` is null.
///
/// # Safety
/// - `sender` came from `whorl_send_create`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_send_receivers(sender: *mut whorl_sender) -> usize {
    let mut count = 0;
    call(|| {
        // SAFETY: the caller's promise.
        count = unsafe { held(sender) }?.0.receivers();
        Ok(())
    });
    count
}

/// Sends one message to every receiver that takes part, waiting for the slowest at most `timeout_ms` milliseconds: 0 does not
/// wait, a negative time is for ever.
///
/// # Safety
/// - `sender` came from `whorl_send_create`, was not freed, and is used by no other thread meanwhile.
/// - `data` points to `length` bytes; it may be null if `length` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_send_message(
    sender: *mut whorl_sender,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let sender = unsafe { held(sender) }?;
        // SAFETY: the caller's second promise.
        let message = unsafe { bytes(data, length) }?;
        Ok(sender.0.send(message, deadline(timeout_ms))?)
    })
}

/// Ends the stream, and waits until every receiver has everything or is gone, at most `timeout_ms` milliseconds. What became of
/// them is put into `*tally`, if `tally` is not null.
///
/// # Safety
/// - `sender` came from `whorl_send_create`, was not freed, and is used by no other thread meanwhile.
/// - `tally` is null or points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_send_finish(
    sender: *mut whorl_sender,
    timeout_ms: i64,
    tally: *mut whorl_tally,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let sender = unsafe { held(sender) }?;
        let found = sender.0.finish(None, deadline(timeout_ms)).map_err(Failure::from)?;
        let counted = whorl_tally {
            done: found.done,
            left: found.left,
            failed: found.failed.len() as u64,
            lost: found.lost.len() as u64,
        };
        // SAFETY: the caller's second promise.
        unsafe { put_if_wanted(tally, counted) };
        Ok(())
    })
}

/// Ends a sender. Without `whorl_send_finish` before, the receivers learn that the stream is not whole. Null is allowed.
///
/// # Safety
/// - `sender` is null, or came from `whorl_send_create` and was not freed; it is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_send_free(sender: *mut whorl_sender) {
    // SAFETY: the caller's promise.
    unsafe { take_back(sender) };
}
