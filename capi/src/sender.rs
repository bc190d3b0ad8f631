//! `whorl_sender_*`: the sender of a channel, which receivers find by name.

use crate::support::{
    Failure, bytes, call, give, name, options, peek, place, put_if_wanted, take_back, text, timeout,
    use_handle, whorl_status,
};
use std::ffi::{c_char, c_void};
use std::time::Duration;
use whorl::Sender;

/// The sender of a channel.
pub struct whorl_sender(Sender);

/// How a channel is created. Set `size` to `sizeof(whorl_sender_options)` and every other field that you do not need to 0,
/// which means its default.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct whorl_sender_options {
    /// The size of this struct, which identifies its version.
    pub size: usize,
    /// Bytes of the ring, rounded up to a power of two; the default is 1 MiB. The longest message has half of it less 8 bytes.
    pub ring: u64,
    /// The most receivers at a time; the default is 64.
    pub seats: u32,
    /// Evict a receiver that blocks the sender and makes no progress for this many milliseconds; by default the sender waits.
    pub evict_after_ms: u32,
    /// The directory for the channel's name; by default the user's runtime directory.
    pub runtime_dir: *const c_char,
}

/// How many receivers ended in which way.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct whorl_peer_summary {
    /// Receivers that received everything.
    pub done: u64,
    /// Receivers that left before the end.
    pub left: u64,
    /// Receivers that reported an error of their own.
    pub failed: u64,
    /// Receivers that died.
    pub lost: u64,
    /// Receivers that the sender evicted because they were too slow.
    pub evicted: u64,
}

/// Creates a channel under a name: 1 to 64 letters, digits, dots, hyphens and underscores. On success `*sender` belongs to the
/// caller until `whorl_sender_destroy`.
///
/// # Safety
/// - `name` points to a text that ends with a zero byte.
/// - `options` is null, for the defaults, or points to options whose `size` is right and whose texts end with a zero byte.
/// - `sender` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_sender_create(
    name: *const c_char,
    options: *const whorl_sender_options,
    sender: *mut *mut whorl_sender,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let name = unsafe { self::name(name) }?;
        // SAFETY: the caller's third promise.
        let place = unsafe { place(sender) }?;
        let mut chosen = Sender::options();
        // SAFETY: the caller's second promise; every field of the struct is valid as zero bytes.
        if let Some(given) = unsafe { self::options(options) }? {
            if given.ring > 0 {
                chosen = chosen.ring(given.ring);
            }
            if given.seats > 0 {
                chosen = chosen.seats(given.seats);
            }
            if given.evict_after_ms > 0 {
                chosen = chosen.evict_after(Duration::from_millis(given.evict_after_ms.into()));
            }
            if !given.runtime_dir.is_null() {
                // SAFETY: the caller's second promise.
                chosen = chosen.runtime_dir(unsafe { text(given.runtime_dir, "the runtime directory") }?);
            }
        }
        give(place, whorl_sender(chosen.create(&name)?));
        Ok(())
    })
}

/// Waits until `count` receivers have joined, at most `timeout_ms` milliseconds; a negative time has no limit.
///
/// # Safety
/// - `sender` came from `whorl_sender_create`, was not destroyed, and no other thread uses it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_sender_wait_for_receivers(
    sender: *mut whorl_sender,
    count: u32,
    timeout_ms: i64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's promise.
        let sender = unsafe { use_handle(sender) }?;
        match timeout(timeout_ms) {
            Some(timeout) => sender.0.wait_for_receivers_timeout(count, timeout)?,
            None => sender.0.wait_for_receivers(count)?,
        }
        Ok(())
    })
}

/// Returns the number of receivers that take part now, or 0 if `sender` is null.
///
/// # Safety
/// - `sender` came from `whorl_sender_create`, was not destroyed, and no other thread changes it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_sender_receivers(sender: *const whorl_sender) -> usize {
    // SAFETY: the caller's promise.
    unsafe { peek(sender, |sender| sender.0.receivers()) }.unwrap_or(0)
}

/// Sends one message to every receiver that takes part. Waits for the slowest receiver at most `timeout_ms` milliseconds: 0 does
/// not wait, a negative time has no limit.
///
/// # Safety
/// - `sender` came from `whorl_sender_create`, was not destroyed, and no other thread uses it during the call.
/// - `data` points to `length` bytes; it may be null if `length` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_sender_send(
    sender: *mut whorl_sender,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let sender = unsafe { use_handle(sender) }?;
        // SAFETY: the caller's second promise.
        let message = unsafe { bytes(data, length) }?;
        match timeout(timeout_ms) {
            Some(Duration::ZERO) => sender.0.try_send(message)?,
            Some(timeout) => sender.0.send_timeout(message, timeout)?,
            None => sender.0.send(message)?,
        }
        Ok(())
    })
}

/// Ends the stream, and waits until every receiver has received everything or is gone, at most `timeout_ms` milliseconds. Stores
/// in `*summary` how many receivers ended in which way, if `summary` is not null.
///
/// # Safety
/// - `sender` came from `whorl_sender_create`, was not destroyed, and no other thread uses it during the call.
/// - `summary` is null or points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_sender_finish(
    sender: *mut whorl_sender,
    timeout_ms: i64,
    summary: *mut whorl_peer_summary,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let sender = unsafe { use_handle(sender) }?;
        let found = match timeout(timeout_ms) {
            Some(timeout) => sender.0.finish_timeout(timeout),
            None => sender.0.finish(),
        };
        let found = found.map_err(Failure::from)?;
        let counted = whorl_peer_summary {
            done: found.done,
            left: found.left,
            failed: found.failed.len() as u64,
            lost: found.lost.len() as u64,
            evicted: found.evicted.len() as u64,
        };
        // SAFETY: the caller's second promise.
        unsafe { put_if_wanted(summary, counted) };
        Ok(())
    })
}

/// Destroys a sender. Without `whorl_sender_finish` before, the receivers learn that the stream is not complete. Null is allowed.
///
/// # Safety
/// - `sender` is null, or came from `whorl_sender_create` and was not destroyed; the caller does not use it again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_sender_destroy(sender: *mut whorl_sender) {
    // SAFETY: the caller's promise.
    unsafe { take_back(sender) };
}
