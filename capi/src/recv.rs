//! `whorl_recv_*`: a receiver of a channel.

use crate::support::{call, deadline, give, held, name, place, room, take_back, timeout, whorl_status};
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsRawFd;
use whorl::{JoinOptions, Received, Receiver, Start};

/// A receiver of a channel.
pub struct whorl_receiver(Receiver);

/// What was received.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum whorl_kind {
    /// `length` bytes, at the start of the buffer.
    WHORL_BYTES = 0,
    /// `length` zero bytes, which are not in the buffer.
    WHORL_HOLE = 1,
    /// The end: everything was received, `length` bytes in all.
    WHORL_END = 2,
}

/// A message, but for its bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct whorl_message {
    /// What it is.
    pub kind: whorl_kind,
    /// How long it is.
    pub length: u64,
}

/// Joins the channel of a name, waiting for its sender at most `timeout_ms` milliseconds; a negative time is for ever.
///
/// The stream is received from its first byte, or, if `from_now`, from whatever is sent next. On success `*receiver` is the
/// caller's until `whorl_recv_free`.
///
/// # Safety
/// - `name` points to a text that ends with a zero byte.
/// - `receiver` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_recv_join(
    name: *const c_char,
    from_now: bool,
    timeout_ms: i64,
    receiver: *mut *mut whorl_receiver,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let name = unsafe { self::name(name) }?;
        let from = if from_now { Start::Now } else { Start::First };
        // SAFETY: the caller's second promise.
        let place = unsafe { place(receiver) }?;
        let joined =
            Receiver::join(&name, &JoinOptions { from, timeout: timeout(timeout_ms), confirms: false })?;
        give(place, whorl_receiver(joined));
        Ok(())
    })
}

/// The longest message there can be, which a buffer must hold; 0 if `receiver` is null.
///
/// # Safety
/// - `receiver` came from `whorl_recv_join`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_recv_longest(receiver: *mut whorl_receiver) -> usize {
    let mut longest = 0;
    call(|| {
        // SAFETY: the caller's promise.
        longest = unsafe { held(receiver) }?.0.longest();
        Ok(())
    });
    longest
}

/// Receives the next message into `buffer`, waiting at most `timeout_ms` milliseconds: 0 does not wait, a negative time is for
/// ever. A message that does not fit is `WHORL_TOO_LONG`, and stays.
///
/// # Safety
/// - `receiver` came from `whorl_recv_join`, was not freed, and is used by no other thread meanwhile.
/// - `buffer` points to `capacity` bytes that nobody else uses meanwhile; it may be null if `capacity` is 0.
/// - `message` points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_recv_message(
    receiver: *mut whorl_receiver,
    buffer: *mut c_void,
    capacity: usize,
    timeout_ms: i64,
    message: *mut whorl_message,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let receiver = unsafe { held(receiver) }?;
        // SAFETY: the caller's third promise.
        let message = unsafe { place(message) }?;
        // No message is longer, so no more of the room is touched.
        let capacity = capacity.min(receiver.0.longest());
        // SAFETY: the caller's second promise.
        let buffer = unsafe { room(buffer, capacity) }?;
        let received = match timeout_ms {
            0 => receiver.0.try_receive(buffer),
            _ => receiver.0.receive(buffer, deadline(timeout_ms)),
        };
        let (kind, length) = match received? {
            Received::Bytes(length) => (whorl_kind::WHORL_BYTES, length as u64),
            Received::Hole(length) => (whorl_kind::WHORL_HOLE, length),
            Received::End(end) => (whorl_kind::WHORL_END, end.total),
        };
        message.write(whorl_message { kind, length });
        Ok(())
    })
}

/// A descriptor for poll(2): readable when there may be something to receive, but only after `whorl_recv_arm` said that there is
/// nothing just now. It belongs to the receiver: do not close it. -1 if `receiver` is null.
///
/// # Safety
/// - `receiver` came from `whorl_recv_join`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_recv_fd(receiver: *mut whorl_receiver) -> c_int {
    let mut descriptor = -1;
    call(|| {
        // SAFETY: the caller's promise.
        descriptor = unsafe { held(receiver) }?.0.as_raw_fd();
        Ok(())
    });
    descriptor
}

/// Says that this receiver is about to wait for its descriptor. `*armed` is false if there is something to receive already.
///
/// # Safety
/// - `receiver` came from `whorl_recv_join`, was not freed, and is used by no other thread meanwhile.
/// - `armed` points to room for a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_recv_arm(receiver: *mut whorl_receiver, armed: *mut bool) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let receiver = unsafe { held(receiver) }?;
        // SAFETY: the caller's second promise.
        let armed = unsafe { place(armed) }?;
        armed.write(receiver.0.arm()?);
        Ok(())
    })
}

/// Leaves the channel and ends the receiver. Null is allowed.
///
/// # Safety
/// - `receiver` is null, or came from `whorl_recv_join` and was not freed; it is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_recv_free(receiver: *mut whorl_receiver) {
    // SAFETY: the caller's promise.
    unsafe { take_back(receiver) };
}
