//! What every call uses: the checks of its arguments, and the conversion of an error into a status and a text.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use whorl::error::Refusal;
use whorl::error::{BindError, RequestError};
use whorl::{CreateError, JoinError, Name, ReceiveError, SendError};

/// The result of a call.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum whorl_status {
    /// Success.
    WHORL_OK = 0,
    /// An argument is not valid: a null pointer, an invalid name, a size out of range.
    WHORL_ERR_ARGUMENT = 1,
    /// The time limit passed, or there is nothing to receive now.
    WHORL_ERR_TIMED_OUT = 2,
    /// A signal asked the program to stop.
    WHORL_ERR_INTERRUPTED = 3,
    /// `shell rm` asked the channel or the server to end.
    WHORL_ERR_STOPPED = 4,
    /// Another process has the name or the port.
    WHORL_ERR_IN_USE = 5,
    /// There is no such server, mailbox or answer.
    WHORL_ERR_NOT_FOUND = 6,
    /// The message is longer than half of the ring, the mailbox or the buffer. Nothing was sent or received.
    WHORL_ERR_TOO_LONG = 7,
    /// Every seat is taken.
    WHORL_ERR_FULL = 8,
    /// The stream has begun, and its first bytes are gone.
    WHORL_ERR_MISSED = 9,
    /// The sender died before the end.
    WHORL_ERR_SENDER_DIED = 10,
    /// The receiver was too slow, and the sender evicted it.
    WHORL_ERR_EVICTED = 11,
    /// The peer does not follow the protocol.
    WHORL_ERR_CORRUPT = 12,
    /// The handle belongs to the process that forked this one.
    WHORL_ERR_FORKED = 13,
    /// A system call failed; the text says which.
    WHORL_ERR_SYSTEM = 14,
    /// A fault of this library. The caller may destroy the handle, and must not use it otherwise.
    WHORL_ERR_PANIC = 15,
}

use whorl_status::*;

/// The longest text that is kept, with the zero byte that ends it.
const LONGEST: usize = 4096;

thread_local! {
    // It needs no code to initialise and is never destroyed. So it also exists in destructors of threads and in exit
    // handlers.
    static LAST: [Cell<u8>; LONGEST] = const { [const { Cell::new(0) }; LONGEST] };
}

/// Returns the text of the last error of this thread: one line without a line end, or the empty text.
///
/// The text is valid until the next call of this thread fails. A text of more than 4095 bytes is cut.
#[unsafe(no_mangle)]
pub extern "C" fn whorl_last_error() -> *const c_char {
    LAST.with(|text| text.as_ptr().cast())
}

/// Returns the version of the library, for example "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn whorl_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(text) => text,
            Err(_) => panic!("a version has no zero byte"),
        };
    VERSION.as_ptr()
}

/// Why a call failed.
pub struct Failure {
    status: whorl_status,
    text: String,
}

impl Failure {
    pub fn new(status: whorl_status, text: impl ToString) -> Self {
        Self { status, text: text.to_string() }
    }
}

fn store_last(text: &str) {
    let most = (0..=text.len().min(LONGEST - 1)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let bytes = text[..most].bytes().filter(|&byte| byte != 0).chain([0]);
    LAST.with(|last| last.iter().zip(bytes).for_each(|(place, byte)| place.set(byte)));
}

/// Runs the body of a call. Stores a failure's text for `whorl_last_error`, and stops a panic.
pub fn call(body: impl FnOnce() -> Result<(), Failure>) -> whorl_status {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return WHORL_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::new(WHORL_ERR_PANIC, format!("a fault of the library: {}", text_of(&*panic))),
    };
    store_last(&failure.text);
    failure.status
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// Returns a text that the caller passed.
///
/// # Safety
/// `text` is null, or points to a text that ends with a zero byte and stays as it is during the call.
pub unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::new(WHORL_ERR_ARGUMENT, format!("{what} is a null pointer")));
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::new(WHORL_ERR_ARGUMENT, format!("{what} is not UTF-8")))
}

/// Returns a name that the caller passed.
///
/// # Safety
/// As [`text`].
pub unsafe fn name(name: *const c_char) -> Result<Name, Failure> {
    // SAFETY: as the caller vouches.
    let name = unsafe { text(name, "the name") }?;
    name.parse().map_err(|error| Failure::new(WHORL_ERR_ARGUMENT, error))
}

/// Returns bytes that the caller passed.
///
/// # Safety
/// `data` points to `length` bytes that stay as they are during the call; it may be null if `length` is 0.
pub unsafe fn bytes<'a>(data: *const c_void, length: usize) -> Result<&'a [u8], Failure> {
    check_length(data.is_null(), length)?;
    match length {
        0 => Ok(&[]),
        // SAFETY: not null, of a possible length, and the caller vouches for the rest.
        _ => Ok(unsafe { std::slice::from_raw_parts(data.cast(), length) }),
    }
}

/// Returns the caller's buffer, filled with zeros.
///
/// # Safety
/// `data` points to `length` bytes that no other code uses during the call; it may be null if `length` is 0. The caller
/// need not initialise them.
pub unsafe fn room<'a>(data: *mut c_void, length: usize) -> Result<&'a mut [u8], Failure> {
    check_length(data.is_null(), length)?;
    if length == 0 {
        return Ok(&mut []);
    }
    // SAFETY: not null, of a possible length, and the caller's to write.
    unsafe { data.cast::<u8>().write_bytes(0, length) };
    // SAFETY: the same, and initialised just now.
    Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), length) })
}

fn check_length(null: bool, length: usize) -> Result<(), Failure> {
    match length {
        0 => Ok(()),
        _ if null => Err(Failure::new(WHORL_ERR_ARGUMENT, "the data are a null pointer")),
        _ if length > isize::MAX as usize => {
            Err(Failure::new(WHORL_ERR_ARGUMENT, "the length is impossible"))
        }
        _ => Ok(()),
    }
}

/// The options that the caller gave; `None` for a null pointer. An older or a newer program has another size of the struct: the
/// library reads the part that both know, and takes the rest as zero.
///
/// # Safety
/// - `options` is null, or points to a struct that begins with its own size as a `usize` and has that many bytes.
/// - `T` is a C struct that begins with that size, and zero bytes are a valid value of each of its other fields.
pub unsafe fn options<T: Copy>(options: *const T) -> Result<Option<T>, Failure> {
    if options.is_null() {
        return Ok(None);
    }
    // SAFETY: not null, and the struct begins with its size, as the caller vouches.
    let size = unsafe { options.cast::<usize>().read_unaligned() };
    if size < size_of::<usize>() || size > 4096 {
        let text = format!("the options have the size {size}: set `size` to the size of the struct");
        return Err(Failure::new(WHORL_ERR_ARGUMENT, text));
    }
    let mut known = MaybeUninit::<T>::zeroed();
    let length = size.min(size_of::<T>());
    // SAFETY: the struct of the caller has `size` bytes, and `known` has room for all that is copied.
    unsafe { options.cast::<u8>().copy_to_nonoverlapping(known.as_mut_ptr().cast(), length) };
    // SAFETY: each field is either the caller's or zero, and valid, as the caller vouches.
    Ok(Some(unsafe { known.assume_init() }))
}

/// Returns the object behind a handle.
///
/// # Safety
/// `handle` is null, or came from this library, was not destroyed, and no other thread uses it during the call.
pub unsafe fn use_handle<'a, T>(handle: *mut T) -> Result<&'a mut T, Failure> {
    // SAFETY: null, or an object of this library that no other thread borrows, as the caller vouches.
    unsafe { handle.as_mut() }.ok_or_else(null_handle)
}

/// Returns the result of `look` for the object behind a handle, or `None` for a null pointer or a panic.
///
/// # Safety
/// `handle` is null, or came from this library, was not destroyed, and no other thread changes it during the call.
pub unsafe fn peek<T, R>(handle: *const T, look: impl FnOnce(&T) -> R) -> Option<R> {
    let mut found = None;
    call(|| {
        // SAFETY: null, or an object of this library that no thread changes, as the caller vouches.
        let object = unsafe { handle.as_ref() }.ok_or_else(null_handle)?;
        found = Some(look(object));
        Ok(())
    });
    found
}

fn null_handle() -> Failure {
    Failure::new(WHORL_ERR_ARGUMENT, "the handle is a null pointer")
}

/// Returns the place for a result. A call asks for it before it does anything, so that a null pointer loses nothing.
///
/// # Safety
/// `place` is null, or points to room for a `T` that no other code uses during the call.
pub unsafe fn place<'a, T>(place: *mut T) -> Result<&'a mut MaybeUninit<T>, Failure> {
    // SAFETY: null, or room for a `T`, as the caller vouches.
    unsafe { place.cast::<MaybeUninit<T>>().as_mut() }
        .ok_or_else(|| Failure::new(WHORL_ERR_ARGUMENT, "the place for the result is a null pointer"))
}

/// Writes a result, unless the caller passed a null pointer for it.
///
/// # Safety
/// As [`place`].
pub unsafe fn put_if_wanted<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: not null, and room for a `T`, as the caller vouches.
        unsafe { place.write(value) };
    }
}

/// Stores a new handle for the caller.
pub fn give<T>(place: &mut MaybeUninit<*mut T>, value: T) {
    place.write(Box::into_raw(Box::new(value)));
}

/// Destroys the object behind a handle. A null pointer does nothing, and a panic ends here.
///
/// # Safety
/// `handle` is null, or was given by this library and not freed; it is not used again.
pub unsafe fn take_back<T>(handle: *mut T) {
    if !handle.is_null() {
        call(|| {
            // SAFETY: made by `give`, and ended only once, as the caller vouches.
            drop(unsafe { Box::from_raw(handle) });
            Ok(())
        });
    }
}

/// Returns a time in milliseconds, or `None`, which means no limit, for a negative one.
pub fn timeout(milliseconds: i64) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// Returns the end of a time limit, or `None` for no limit and for a time beyond the clock.
pub fn deadline(milliseconds: i64) -> Option<Instant> {
    timeout(milliseconds).and_then(|time| Instant::now().checked_add(time))
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let status = match error {
            SendError::Full | SendError::TimedOut => WHORL_ERR_TIMED_OUT,
            SendError::Interrupted => WHORL_ERR_INTERRUPTED,
            SendError::Stopped => WHORL_ERR_STOPPED,
            SendError::TooLong { .. } => WHORL_ERR_TOO_LONG,
            SendError::Closed => WHORL_ERR_ARGUMENT,
            SendError::Forked => WHORL_ERR_FORKED,
            _ => WHORL_ERR_SYSTEM,
        };
        Self::new(status, error)
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Self {
        let status = match error {
            ReceiveError::Empty | ReceiveError::TimedOut => WHORL_ERR_TIMED_OUT,
            ReceiveError::Interrupted => WHORL_ERR_INTERRUPTED,
            ReceiveError::SenderDied => WHORL_ERR_SENDER_DIED,
            ReceiveError::Evicted => WHORL_ERR_EVICTED,
            ReceiveError::Corrupt => WHORL_ERR_CORRUPT,
            ReceiveError::TooLong { .. } => WHORL_ERR_TOO_LONG,
            ReceiveError::Forked => WHORL_ERR_FORKED,
            _ => WHORL_ERR_SYSTEM,
        };
        Self::new(status, error)
    }
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Self {
        let status = match &error {
            CreateError::Bind(BindError::InUse(_)) => WHORL_ERR_IN_USE,
            CreateError::Bind(BindError::Reserved(_)) | CreateError::Layout(_) => WHORL_ERR_ARGUMENT,
            _ => WHORL_ERR_SYSTEM,
        };
        Self::new(status, error)
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let status = match &error {
            JoinError::TimedOut | JoinError::Talk(RequestError::TimedOut) => WHORL_ERR_TIMED_OUT,
            JoinError::Interrupted | JoinError::Talk(RequestError::Interrupted) => WHORL_ERR_INTERRUPTED,
            JoinError::Stopped => WHORL_ERR_STOPPED,
            JoinError::Refused(Refusal::Full) => WHORL_ERR_FULL,
            JoinError::Refused(Refusal::Missed) => WHORL_ERR_MISSED,
            JoinError::Talk(RequestError::Protocol(_)) => WHORL_ERR_CORRUPT,
            _ => WHORL_ERR_SYSTEM,
        };
        Self::new(status, error)
    }
}
