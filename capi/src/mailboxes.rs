//! `whorl_mailbox_*`: the mailboxes of a server on this machine, through shared memory.

use crate::support::{
    Failure, bytes, call, deadline, give, peek, place, put_if_wanted, room, take_back, use_handle,
    whorl_status,
};
use std::ffi::c_void;
use whorl::AttachError;
use whorl::{MailboxError, Mailboxes};
use whorl_core::error::{LockError, MailReadError, MailWriteError, WaitError};
use whorl_status::{
    WHORL_ERR_CORRUPT, WHORL_ERR_FORKED, WHORL_ERR_FULL, WHORL_ERR_INTERRUPTED, WHORL_ERR_NOT_FOUND,
    WHORL_ERR_SYSTEM, WHORL_ERR_TIMED_OUT, WHORL_ERR_TOO_LONG,
};

/// The mailboxes of a server, for one thread at a time.
pub struct whorl_mailboxes(Mailboxes);

/// Attaches to the mailboxes of this user's server on a port, as `shell dipc` starts one. On success `*mailboxes` belongs to the
/// caller until `whorl_mailboxes_destroy`.
///
/// # Safety
/// - `mailboxes` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailboxes_attach(
    port: u16,
    mailboxes: *mut *mut whorl_mailboxes,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { place(mailboxes) }?;
        let attached = Mailboxes::attach(port).map_err(|error| match &error {
            AttachError::Nothing(_) => Failure::new(WHORL_ERR_NOT_FOUND, error),
            AttachError::Mailboxes(MailboxError::Seats(_)) => Failure::new(WHORL_ERR_FULL, error),
            _ => Failure::new(WHORL_ERR_SYSTEM, error),
        })?;
        give(place, whorl_mailboxes(attached));
        Ok(())
    })
}

/// Returns the number of mailboxes, which are numbered from 0, or 0 if `mailboxes` is null.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailboxes_count(mailboxes: *const whorl_mailboxes) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { peek(mailboxes, |mailboxes| mailboxes.0.count()) }.unwrap_or(0)
}

/// Returns the most bytes that a message can have, or 0 if `mailboxes` is null.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailboxes_capacity(mailboxes: *const whorl_mailboxes) -> usize {
    // SAFETY: the caller's promise.
    unsafe { peek(mailboxes, |mailboxes| mailboxes.0.capacity()) }.unwrap_or(0)
}

/// Copies the latest message of mailbox `index` into `buffer`. `*length` is its length and `*version` its version: 0 for a
/// mailbox that was never written. If the message does not fit, that is `WHORL_ERR_TOO_LONG`, and `*length` is how much it needs.
///
/// Waits for at most one writer, at most `timeout_ms` milliseconds; a negative time has no limit.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
/// - `buffer` points to `capacity` bytes that no other thread uses during the call; it may be null if `capacity` is 0.
/// - `length` points to room for one; `version` does too, or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailboxes_read(
    mailboxes: *mut whorl_mailboxes,
    index: u32,
    buffer: *mut c_void,
    capacity: usize,
    timeout_ms: i64,
    length: *mut usize,
    version: *mut u64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let mailboxes = unsafe { use_handle(mailboxes) }?;
        // SAFETY: the caller's third promise.
        let length = unsafe { place(length) }?;
        // No message is longer, so no more of the room is touched.
        let capacity = capacity.min(mailboxes.0.capacity());
        // SAFETY: the caller's second promise.
        let buffer = unsafe { room(buffer, capacity) }?;
        let read = mailboxes.0.read_into(index, buffer, deadline(timeout_ms));
        if let Err(MailboxError::Read(MailReadError::TooShort(needed))) = read {
            length.write(needed);
        }
        let (found, count) = read?;
        length.write(count);
        // SAFETY: the caller's third promise.
        unsafe { put_if_wanted(version, found) };
        Ok(())
    })
}

/// Replaces the message of mailbox `index`, as a whole. `*version` is its version, if `version` is not null.
///
/// Waits for the writers that come first and the readers that are in, at most `timeout_ms` milliseconds; a negative
/// time has no limit.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
/// - `data` points to `length` bytes; it may be null if `length` is 0.
/// - `version` is null or points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailboxes_write(
    mailboxes: *mut whorl_mailboxes,
    index: u32,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
    version: *mut u64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let mailboxes = unsafe { use_handle(mailboxes) }?;
        // SAFETY: the caller's second promise.
        let message = unsafe { bytes(data, length) }?;
        let written = mailboxes.0.write_until(index, message, deadline(timeout_ms))?;
        // SAFETY: the caller's third promise.
        unsafe { put_if_wanted(version, written) };
        Ok(())
    })
}

/// Stores the version of the latest message of mailbox `index` in `*version`.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
/// - `version` points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailboxes_version(
    mailboxes: *mut whorl_mailboxes,
    index: u32,
    version: *mut u64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let mailboxes = unsafe { use_handle(mailboxes) }?;
        // SAFETY: the caller's second promise.
        let version = unsafe { place(version) }?;
        version.write(mailboxes.0.version(index)?);
        Ok(())
    })
}

/// Waits until mailbox `index` has a newer message than version `than`, at most `timeout_ms` milliseconds; a negative
/// time has no limit. Then read the mailbox: the growth of its version is the number of messages, missed ones included.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailboxes_wait(
    mailboxes: *mut whorl_mailboxes,
    index: u32,
    than: u64,
    timeout_ms: i64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's promise.
        let mailboxes = unsafe { use_handle(mailboxes) }?;
        match mailboxes.0.wait_for_version(index, than, deadline(timeout_ms))? {
            Some(_) => Ok(()),
            None => Err(Failure::new(WHORL_ERR_TIMED_OUT, "timed out waiting for a newer message")),
        }
    })
}

/// Detaches from the mailboxes. Null is allowed.
///
/// # Safety
/// - `mailboxes` is null, or came from `whorl_mailboxes_attach` and was not destroyed; the caller does not use it again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailboxes_destroy(mailboxes: *mut whorl_mailboxes) {
    // SAFETY: the caller's promise.
    unsafe { take_back(mailboxes) };
}

impl From<MailboxError> for Failure {
    fn from(error: MailboxError) -> Self {
        let status = match &error {
            MailboxError::Read(MailReadError::NoSuchBox)
            | MailboxError::Write(MailWriteError::NoSuchBox)
            | MailboxError::Wait(WaitError::NoSuchBox) => WHORL_ERR_NOT_FOUND,
            MailboxError::Read(MailReadError::TooShort(_)) | MailboxError::Write(MailWriteError::TooLong) => {
                WHORL_ERR_TOO_LONG
            }
            MailboxError::Read(MailReadError::Corrupt) => WHORL_ERR_CORRUPT,
            MailboxError::Wait(WaitError::TimedOut) => WHORL_ERR_TIMED_OUT,
            MailboxError::Wait(WaitError::Interrupted) => WHORL_ERR_INTERRUPTED,
            MailboxError::Seats(_) => WHORL_ERR_FULL,
            MailboxError::Forked => WHORL_ERR_FORKED,
            _ => match error.lock_error() {
                Some(LockError::Busy | LockError::TimedOut) => WHORL_ERR_TIMED_OUT,
                Some(LockError::Interrupted) => WHORL_ERR_INTERRUPTED,
                None => WHORL_ERR_SYSTEM,
            },
        };
        Self::new(status, error)
    }
}
