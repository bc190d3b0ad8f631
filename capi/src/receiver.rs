//! `whorl_receiver_*`: a receiver of a channel.

use crate::support::{
    Failure, call, give, name, options, peek, place, room, take_back, text, timeout, use_handle, whorl_status,
};
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsRawFd;
use std::time::Duration;
use whorl::{Received, Receiver, Start};
use whorl_status::WHORL_ERR_ARGUMENT;

/// A receiver of a channel.
pub struct whorl_receiver(Receiver);

/// Where in the stream a receiver starts.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum whorl_start {
    /// From the first message.
    WHORL_START_FIRST = 0,
    /// From the next message that the sender sends.
    WHORL_START_NOW = 1,
}

/// How a channel is joined. Set `size` to `sizeof(whorl_receiver_options)` and every other field that you do not need to 0,
/// which means its default.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct whorl_receiver_options {
    /// The size of this struct, which identifies its version.
    pub size: usize,
    /// A `whorl_start`; the default is `WHORL_START_FIRST`.
    pub start: c_int,
    /// 1 to receive a hole as `WHORL_MSG_HOLE`. The default, 0, receives its zero bytes, in pieces that fit the buffer.
    pub holes: c_int,
    /// How many milliseconds joining waits for a sender; the default has no limit.
    pub timeout_ms: u64,
    /// The directory for the channel's name; by default the user's runtime directory.
    pub runtime_dir: *const c_char,
}

/// What kind of message was received.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum whorl_message_kind {
    /// `length` bytes, at the start of the buffer.
    WHORL_MSG_BYTES = 0,
    /// `length` zero bytes, which are not in the buffer. Only a receiver that asks for holes gets it.
    WHORL_MSG_HOLE = 1,
    /// The end: the receiver has received everything, `length` bytes in all.
    WHORL_MSG_END = 2,
}

/// The kind and the length of a received message.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct whorl_message {
    /// What kind of message it is.
    pub kind: whorl_message_kind,
    /// Its length in bytes.
    pub length: u64,
}

/// Joins the channel of a name, and waits for its sender as the options say. On success `*receiver` belongs to the caller until
/// `whorl_receiver_destroy`.
///
/// # Safety
/// - `name` points to a text that ends with a zero byte.
/// - `options` is null, for the defaults, or points to options whose `size` is right and whose texts end with a zero byte.
/// - `receiver` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_receiver_join(
    name: *const c_char,
    options: *const whorl_receiver_options,
    receiver: *mut *mut whorl_receiver,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let name = unsafe { self::name(name) }?;
        // SAFETY: the caller's third promise.
        let place = unsafe { place(receiver) }?;
        let mut chosen = Receiver::options();
        // SAFETY: the caller's second promise; every field of the struct is valid as zero bytes.
        if let Some(given) = unsafe { self::options(options) }? {
            chosen = chosen.start(start_of(given.start)?).holes(given.holes != 0);
            if given.timeout_ms > 0 {
                chosen = chosen.timeout(Duration::from_millis(given.timeout_ms));
            }
            if !given.runtime_dir.is_null() {
                // SAFETY: the caller's second promise.
                chosen = chosen.runtime_dir(unsafe { text(given.runtime_dir, "the runtime directory") }?);
            }
        }
        give(place, whorl_receiver(chosen.join(&name)?));
        Ok(())
    })
}

fn start_of(start: c_int) -> Result<Start, Failure> {
    const FIRST: c_int = whorl_start::WHORL_START_FIRST as c_int;
    const NOW: c_int = whorl_start::WHORL_START_NOW as c_int;
    match start {
        FIRST => Ok(Start::First),
        NOW => Ok(Start::Now),
        _ => Err(Failure::new(WHORL_ERR_ARGUMENT, format!("there is no start {start}"))),
    }
}

/// Returns the length of the longest possible message, which is the least buffer that takes every message, or 0 if `receiver` is
/// null.
///
/// # Safety
/// - `receiver` came from `whorl_receiver_join`, was not destroyed, and no other thread changes it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_receiver_max_message_len(receiver: *const whorl_receiver) -> usize {
    // SAFETY: the caller's promise.
    unsafe { peek(receiver, |receiver| receiver.0.max_message_len()) }.unwrap_or(0)
}

/// Receives the next message into `buffer`. Waits at most `timeout_ms` milliseconds: 0 does not wait, a negative time has no
/// limit. A message that does not fit is `WHORL_ERR_TOO_LONG`, and stays for a longer buffer.
///
/// # Safety
/// - `receiver` came from `whorl_receiver_join`, was not destroyed, and no other thread uses it during the call.
/// - `buffer` points to `capacity` bytes that no other thread uses during the call; it may be null if `capacity` is 0.
/// - `message` points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_receiver_recv(
    receiver: *mut whorl_receiver,
    buffer: *mut c_void,
    capacity: usize,
    timeout_ms: i64,
    message: *mut whorl_message,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let receiver = unsafe { use_handle(receiver) }?;
        // SAFETY: the caller's third promise.
        let message = unsafe { place(message) }?;
        // No message is longer, so the call touches no more of the buffer.
        let capacity = capacity.min(receiver.0.max_message_len());
        // SAFETY: the caller's second promise.
        let buffer = unsafe { room(buffer, capacity) }?;
        let received = match timeout(timeout_ms) {
            Some(Duration::ZERO) => receiver.0.try_recv(buffer),
            Some(timeout) => receiver.0.recv_timeout(buffer, timeout),
            None => receiver.0.recv(buffer),
        };
        let (kind, length) = match received? {
            Received::Bytes(length) => (whorl_message_kind::WHORL_MSG_BYTES, length as u64),
            Received::Hole(length) => (whorl_message_kind::WHORL_MSG_HOLE, length),
            Received::End(end) => (whorl_message_kind::WHORL_MSG_END, end.total),
        };
        message.write(whorl_message { kind, length });
        Ok(())
    })
}

/// Returns a descriptor for poll(2), or -1 if `receiver` is null. Call `whorl_receiver_arm` first; if it stores true, wait until
/// the descriptor is readable. The descriptor belongs to the receiver: do not close it.
///
/// # Safety
/// - `receiver` came from `whorl_receiver_join`, was not destroyed, and no other thread changes it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_receiver_fd(receiver: *const whorl_receiver) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { peek(receiver, |receiver| receiver.0.as_raw_fd()) }.unwrap_or(-1)
}

/// Prepares to wait for the descriptor. Stores true in `*armed` if the caller can wait now, or false if there is something to
/// receive already.
///
/// # Safety
/// - `receiver` came from `whorl_receiver_join`, was not destroyed, and no other thread uses it during the call.
/// - `armed` points to room for a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_receiver_arm(receiver: *mut whorl_receiver, armed: *mut bool) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let receiver = unsafe { use_handle(receiver) }?;
        // SAFETY: the caller's second promise.
        let armed = unsafe { place(armed) }?;
        armed.write(receiver.0.arm()?);
        Ok(())
    })
}

/// Leaves the channel and destroys the receiver. Null is allowed.
///
/// # Safety
/// - `receiver` is null, or came from `whorl_receiver_join` and was not destroyed; the caller does not use it again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_receiver_destroy(receiver: *mut whorl_receiver) {
    // SAFETY: the caller's promise.
    unsafe { take_back(receiver) };
}
