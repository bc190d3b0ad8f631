//! What every call is made of: what comes in is checked, what goes wrong becomes a number and a text.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use whorl::registry::protocol::Refusal;
use whorl::registry::{BindError, RequestError};
use whorl::{CreateError, JoinError, Name, ReceiveError, SendError};

/// How a call ended.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum whorl_status {
    /// Done.
    WHORL_OK = 0,
    /// An argument makes no sense: a null pointer, a name that is none, a size out of range.
    WHORL_ARGUMENT = 1,
    /// The time was up.
    WHORL_TIMED_OUT = 2,
    /// A signal asked the program to stop.
    WHORL_INTERRUPTED = 3,
    /// Somebody asked it to end, as `shell rm` does.
    WHORL_STOPPED = 4,
    /// The name or the port belongs to somebody else.
    WHORL_IN_USE = 5,
    /// There is no such server, mailbox or answer.
    WHORL_NOTHING = 6,
    /// The message is longer than what it is to go into; nothing was sent or taken.
    WHORL_TOO_LONG = 7,
    /// Every place is taken.
    WHORL_FULL = 8,
    /// The stream has begun, and its first bytes are gone.
    WHORL_MISSED = 9,
    /// The sender died before the end.
    WHORL_SENDER_DIED = 10,
    /// We were too slow, and the sender went on without us.
    WHORL_EVICTED = 11,
    /// The other side does not keep to the protocol.
    WHORL_CORRUPT = 12,
    /// The handle belongs to the process that forked this one.
    WHORL_FORKED = 13,
    /// The system refused something; the text says what.
    WHORL_SYSTEM = 14,
    /// A mistake in this library. The handle may be freed, and nothing else.
    WHORL_PANIC = 15,
}

use whorl_status::*;

/// The longest text that is kept, with the zero byte that ends it.
const LONGEST: usize = 4096;

thread_local! {
    // Made without running code, and never destroyed: so it is there in destructors of threads and in handlers of exits, too.
    static LAST: [Cell<u8>; LONGEST] = const { [const { Cell::new(0) }; LONGEST] };
}

/// What went wrong in the last call of this thread that did not return `WHORL_OK`: one line, without a line end.
///
/// The text is good until the next call of this thread fails; the empty text if none has. A text of more than 4095 bytes is cut.
#[unsafe(no_mangle)]
pub extern "C" fn whorl_last_error() -> *const c_char {
    LAST.with(|text| text.as_ptr().cast())
}

/// The version of the library, as in "0.1.0".
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

fn remember(text: &str) {
    let most = text.floor_char_boundary(LONGEST - 1);
    let bytes = text[..most].bytes().filter(|&byte| byte != 0).chain([0]);
    LAST.with(|last| last.iter().zip(bytes).for_each(|(place, byte)| place.set(byte)));
}

/// Runs the body of a call: a failure is remembered, and a panic ends here.
pub fn call(body: impl FnOnce() -> Result<(), Failure>) -> whorl_status {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return WHORL_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::new(WHORL_PANIC, format!("a mistake in the library: {}", said(&*panic))),
    };
    remember(&failure.text);
    failure.status
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

/// A text of the caller's.
///
/// # Safety
/// `text` is null, or points to a text that ends with a zero byte and stays as it is during the call.
pub unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::new(WHORL_ARGUMENT, format!("{what} is a null pointer")));
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::new(WHORL_ARGUMENT, format!("{what} is not UTF-8")))
}

/// A name of the caller's.
///
/// # Safety
/// As [`text`].
pub unsafe fn name(name: *const c_char) -> Result<Name, Failure> {
    // SAFETY: as the caller vouches.
    let name = unsafe { text(name, "the name") }?;
    name.parse().map_err(|error| Failure::new(WHORL_ARGUMENT, error))
}

/// Bytes of the caller's.
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

/// Room of the caller's.
///
/// # Safety
/// `data` points to `length` bytes that nobody else uses during the call; it may be null if `length` is 0. They need not be
/// initialised by the caller: they are, here.
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
        _ if null => Err(Failure::new(WHORL_ARGUMENT, "the data are a null pointer")),
        _ if length > isize::MAX as usize => Err(Failure::new(WHORL_ARGUMENT, "the length is impossible")),
        _ => Ok(()),
    }
}

/// What a handle stands for.
///
/// # Safety
/// `handle` is null, or was given by this library, was not freed, and is used by no other thread during the call.
pub unsafe fn held<'a, T>(handle: *mut T) -> Result<&'a mut T, Failure> {
    // SAFETY: null, or a box of ours that is borrowed by nobody else, as the caller vouches.
    unsafe { handle.as_mut() }.ok_or_else(|| Failure::new(WHORL_ARGUMENT, "the handle is a null pointer"))
}

/// Where a result goes. To be asked for before anything is done, so that a null pointer loses nothing.
///
/// # Safety
/// `place` is null, or points to room for a `T` that nobody else uses during the call.
pub unsafe fn place<'a, T>(place: *mut T) -> Result<&'a mut MaybeUninit<T>, Failure> {
    // SAFETY: null, or room for a `T`, as the caller vouches.
    unsafe { place.cast::<MaybeUninit<T>>().as_mut() }
        .ok_or_else(|| Failure::new(WHORL_ARGUMENT, "the place for the result is a null pointer"))
}

/// Writes a result that the caller may not want.
///
/// # Safety
/// As [`place`].
pub unsafe fn put_if_wanted<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: not null, and room for a `T`, as the caller vouches.
        unsafe { place.write(value) };
    }
}

/// Gives a handle out.
pub fn give<T>(place: &mut MaybeUninit<*mut T>, value: T) {
    place.write(Box::into_raw(Box::new(value)));
}

/// Ends a handle; null is nothing to end. A panic on the way ends here.
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

/// A time in milliseconds; negative means for ever.
pub fn timeout(milliseconds: i64) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// When a time is up; a time that no clock reaches is for ever.
pub fn deadline(milliseconds: i64) -> Option<Instant> {
    timeout(milliseconds).and_then(|time| Instant::now().checked_add(time))
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let status = match error {
            SendError::Full | SendError::TimedOut => WHORL_TIMED_OUT,
            SendError::Interrupted => WHORL_INTERRUPTED,
            SendError::Stopped => WHORL_STOPPED,
            SendError::TooLong { .. } => WHORL_TOO_LONG,
            SendError::Closed => WHORL_ARGUMENT,
            SendError::Forked => WHORL_FORKED,
        };
        Self::new(status, error)
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Self {
        let status = match error {
            ReceiveError::Empty | ReceiveError::TimedOut => WHORL_TIMED_OUT,
            ReceiveError::Interrupted => WHORL_INTERRUPTED,
            ReceiveError::SenderDied => WHORL_SENDER_DIED,
            ReceiveError::Evicted => WHORL_EVICTED,
            ReceiveError::Corrupt => WHORL_CORRUPT,
            ReceiveError::TooLong { .. } => WHORL_TOO_LONG,
            ReceiveError::System(_) => WHORL_SYSTEM,
            ReceiveError::Forked => WHORL_FORKED,
        };
        Self::new(status, error)
    }
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Self {
        let status = match &error {
            CreateError::Bind(BindError::InUse(_)) => WHORL_IN_USE,
            CreateError::Bind(BindError::Reserved(_)) | CreateError::Layout(_) => WHORL_ARGUMENT,
            _ => WHORL_SYSTEM,
        };
        Self::new(status, error)
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let status = match &error {
            JoinError::TimedOut | JoinError::Talk(RequestError::TimedOut) => WHORL_TIMED_OUT,
            JoinError::Interrupted | JoinError::Talk(RequestError::Interrupted) => WHORL_INTERRUPTED,
            JoinError::Stopped => WHORL_STOPPED,
            JoinError::Refused(Refusal::Full) => WHORL_FULL,
            JoinError::Refused(Refusal::Missed) => WHORL_MISSED,
            JoinError::Talk(RequestError::Protocol(_)) => WHORL_CORRUPT,
            _ => WHORL_SYSTEM,
        };
        Self::new(status, error)
    }
}
