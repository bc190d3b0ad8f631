//! `whorl_mailbox_*`: the mailboxes of a server on this machine, through shared memory.

use crate::support::{
    Failure, bytes, call, deadline, give, held, place, put_if_wanted, room, take_back, whorl_status,
};
use std::ffi::c_void;
use whorl::mailbox_server::attach::AttachError;
use whorl::shm::mailboxes::{MailboxError, Mailboxes};
use whorl_core::error::{LockError, MailReadError, MailWriteError, WaitError};
use whorl_status::{
    WHORL_CORRUPT, WHORL_FORKED, WHORL_FULL, WHORL_INTERRUPTED, WHORL_NOTHING, WHORL_SYSTEM, WHORL_TIMED_OUT,
    WHORL_TOO_LONG,
};

/// The mailboxes of a server, for one thread at a time.
pub struct whorl_mailboxes(Mailboxes);

/// Attaches to the mailboxes of this user's server on a port, as `shell dipc` starts one. On success `*mailboxes` is the
/// caller's until `whorl_mailbox_free`.
///
/// # Safety
/// - `mailboxes` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailbox_attach(
    port: u16,
    mailboxes: *mut *mut whorl_mailboxes,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { place(mailboxes) }?;
        let attached = Mailboxes::attach(port).map_err(|error| match &error {
            AttachError::Nothing(_) => Failure::new(WHORL_NOTHING, error),
            AttachError::Mailboxes(MailboxError::Seats(_)) => Failure::new(WHORL_FULL, error),
            _ => Failure::new(WHORL_SYSTEM, error),
        })?;
        give(place, whorl_mailboxes(attached));
        Ok(())
    })
}

/// How many mailboxes there are, numbered from 0; 0 if `mailboxes` is null.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailbox_count(mailboxes: *mut whorl_mailboxes) -> u32 {
    let mut count = 0;
    call(|| {
        // SAFETY: the caller's promise.
        count = unsafe { held(mailboxes) }?.0.count();
        Ok(())
    });
    count
}

/// The most bytes that a message can have; 0 if `mailboxes` is null.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailbox_capacity(mailboxes: *mut whorl_mailboxes) -> usize {
    let mut capacity = 0;
    call(|| {
        // SAFETY: the caller's promise.
        capacity = unsafe { held(mailboxes) }?.0.capacity();
        Ok(())
    });
    capacity
}

/// Copies the latest message of mailbox `index` into `buffer`. `*length` is its length and `*version` its version: 0 for a
/// mailbox that was never written. If the message does not fit, that is `WHORL_TOO_LONG`, and `*length` is how much it needs.
///
/// Waits for at most one writer, at most `timeout_ms` milliseconds; a negative time is for ever.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
/// - `buffer` points to `capacity` bytes that nobody else uses meanwhile; it may be null if `capacity` is 0.
/// - `length` points to room for one; `version` does too, or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailbox_read(
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
        let mailboxes = unsafe { held(mailboxes) }?;
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
/// Waits for the writers that come first and the readers that are in, at most `timeout_ms` milliseconds; a negative time is for
/// ever.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
/// - `data` points to `length` bytes; it may be null if `length` is 0.
/// - `version` is null or points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailbox_write(
    mailboxes: *mut whorl_mailboxes,
    index: u32,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
    version: *mut u64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let mailboxes = unsafe { held(mailboxes) }?;
        // SAFETY: the caller's second promise.
        let message = unsafe { bytes(data, length) }?;
        let written = mailboxes.0.write_until(index, message, deadline(timeout_ms))?;
        // SAFETY: the caller's third promise.
        unsafe { put_if_wanted(version, written) };
        Ok(())
    })
}

/// The version of the latest message of mailbox `index`.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
/// - `version` points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailbox_version(
    mailboxes: *mut whorl_mailboxes,
    index: u32,
    version: *mut u64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let mailboxes = unsafe { held(mailboxes) }?;
        // SAFETY: the caller's second promise.
        let version = unsafe { place(version) }?;
        version.write(mailboxes.0.version(index)?);
        Ok(())
    })
}

/// Waits until mailbox `index` has a newer message than version `than`, at most `timeout_ms` milliseconds; a negative time is
/// for ever. Read it then: by how much its version grew says how many messages were missed.
///
/// # Safety
/// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailbox_wait(
    mailboxes: *mut whorl_mailboxes,
    index: u32,
    than: u64,
    timeout_ms: i64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's promise.
        let mailboxes = unsafe { held(mailboxes) }?;
        match mailboxes.0.wait_for_version(index, than, deadline(timeout_ms))? {
            Some(_) => Ok(()),
            None => Err(Failure::new(WHORL_TIMED_OUT, "timed out waiting for a newer message")),
        }
    })
}

/// Detaches. Null is allowed.
///
/// # Safety
/// - `mailboxes` is null, or came from `whorl_mailbox_attach` and was not freed; it is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_mailbox_free(mailboxes: *mut whorl_mailboxes) {
    // SAFETY: the caller's promise.
    unsafe { take_back(mailboxes) };
}

impl From<MailboxError> for Failure {
    fn from(error: MailboxError) -> Self {
        let status = match &error {
            MailboxError::Read(MailReadError::NoSuchBox)
            | MailboxError::Write(MailWriteError::NoSuchBox)
            | MailboxError::Wait(WaitError::NoSuchBox) => WHORL_NOTHING,
            MailboxError::Read(MailReadError::TooShort(_)) | MailboxError::Write(MailWriteError::TooLong) => {
                WHORL_TOO_LONG
            }
            MailboxError::Read(MailReadError::Corrupt) => WHORL_CORRUPT,
            MailboxError::Wait(WaitError::TimedOut) => WHORL_TIMED_OUT,
            MailboxError::Wait(WaitError::Interrupted) => WHORL_INTERRUPTED,
            MailboxError::Seats(_) => WHORL_FULL,
            MailboxError::Forked => WHORL_FORKED,
            _ => match error.lock_error() {
                Some(LockError::Busy | LockError::TimedOut) => WHORL_TIMED_OUT,
                Some(LockError::Interrupted) => WHORL_INTERRUPTED,
                None => WHORL_SYSTEM,
            },
        };
        Self::new(status, error)
    }
}
