//! `whorl_server_*`, `whorl_discover` and `whorl_answers_*`: servers that announce themselves in a directory.

use crate::support::{
    Failure, bytes, call, give, name, options, peek, place, take_back, text, timeout, use_handle,
    whorl_status,
};
use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use whorl::error::FileError;
use whorl::{Answer, Reach, ServerError};
use whorl::{Server, discover};
use whorl_status::{
    WHORL_ERR_ARGUMENT, WHORL_ERR_IN_USE, WHORL_ERR_INTERRUPTED, WHORL_ERR_NOT_FOUND, WHORL_ERR_STOPPED,
    WHORL_ERR_SYSTEM,
};

/// A server that is announced in a directory.
pub struct whorl_server(Server);

/// The answers of all announced servers.
pub struct whorl_answers(Vec<Kept>);

/// Where a server runs, judged by what reaches it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum whorl_reach {
    /// On this host: TCP and shared memory reach it.
    WHORL_REACH_HOST = 0,
    /// In a container that shares the network: only TCP reaches it.
    WHORL_REACH_CONTAINER = 1,
    /// On another machine, or dead: neither reaches it.
    WHORL_REACH_VM = 2,
}

/// The answer of one server. The pointers are valid until `whorl_answers_destroy`. A pointer is null if there is no message or no
/// error.
#[repr(C)]
#[derive(Debug)]
pub struct whorl_answer {
    /// Its information file.
    pub file: *const c_char,
    /// Where it runs.
    pub reach: whorl_reach,
    /// Its message over TCP, `socket_length` bytes.
    pub socket_message: *const u8,
    /// The length of that message.
    pub socket_length: usize,
    /// Its message through shared memory, `shm_length` bytes.
    pub shm_message: *const u8,
    /// The length of that message.
    pub shm_length: usize,
    /// Why TCP or shared memory did not reach it, or what is wrong with its file.
    pub error: *const c_char,
}

/// An answer whose texts end with a zero byte.
struct Kept {
    file: CString,
    answer: Answer,
    error: Option<CString>,
}

/// What a server gives its clients, and where it announces itself. Set `size` to `sizeof(whorl_server_options)`, set
/// `directory`, and set every other field that you do not need to 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct whorl_server_options {
    /// The size of this struct, which identifies its version.
    pub size: usize,
    /// The directory in which the server announces itself; it is created if it does not exist. It must be given.
    pub directory: *const c_char,
    /// The message that each client gets over TCP; by default it is empty.
    pub socket_message: *const c_void,
    /// Its length in bytes, at most 1 MiB.
    pub socket_length: usize,
    /// The message that each client gets through shared memory; by default it is empty.
    pub shm_message: *const c_void,
    /// Its length in bytes, at most 1 MiB.
    pub shm_length: usize,
    /// The address at which the server listens, as text; by default 127.0.0.1.
    pub address: *const c_char,
    /// 1 to serve every user of this machine. The default, 0, serves this process's user and root on loopback.
    pub any_user: c_int,
    /// The directory for the name of the server's channel; by default the user's runtime directory.
    pub runtime_dir: *const c_char,
}

/// Starts a server that is announced in a directory and gives each client two messages: one over TCP, one through shared memory.
/// It serves in threads of its own. On success `*server` belongs to the caller until `whorl_server_destroy`.
///
/// # Safety
/// - `name` points to a text that ends with a zero byte.
/// - `options` points to options whose `size` is right, whose texts end with a zero byte, and whose messages have their lengths.
/// - `server` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_server_start(
    name: *const c_char,
    options: *const whorl_server_options,
    server: *mut *mut whorl_server,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let name = unsafe { self::name(name) }?;
        // SAFETY: the caller's third promise.
        let place = unsafe { place(server) }?;
        // SAFETY: the caller's second promise; every field of the struct is valid as zero bytes.
        let given = unsafe { self::options(options) }?;
        let given =
            given.ok_or_else(|| Failure::new(WHORL_ERR_ARGUMENT, "the options are a null pointer"))?;
        // SAFETY: the caller's second promise.
        let directory = unsafe { text(given.directory, "the directory") }?;
        // SAFETY: the caller's second promise.
        let socket_message = unsafe { bytes(given.socket_message, given.socket_length) }?;
        // SAFETY: the caller's second promise.
        let shm_message = unsafe { bytes(given.shm_message, given.shm_length) }?;
        let mut chosen = Server::options(directory)
            .socket_message(socket_message)
            .shm_message(shm_message)
            .any_user(given.any_user != 0);
        if !given.address.is_null() {
            // SAFETY: the caller's second promise.
            let address = unsafe { text(given.address, "the address") }?;
            let wrong = |_| Failure::new(WHORL_ERR_ARGUMENT, format!("{address} is not an IP address"));
            chosen = chosen.address(address.parse().map_err(wrong)?);
        }
        if !given.runtime_dir.is_null() {
            // SAFETY: the caller's second promise.
            chosen = chosen.runtime_dir(unsafe { text(given.runtime_dir, "the runtime directory") }?);
        }
        give(place, whorl_server(chosen.start(&name)?));
        Ok(())
    })
}

/// Returns the port at which the server listens, or 0 if `server` is null.
///
/// # Safety
/// - `server` came from `whorl_server_start`, was not destroyed, and no other thread uses it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_server_port(server: *const whorl_server) -> u16 {
    // SAFETY: the caller's promise.
    unsafe { peek(server, |server| server.0.address().1) }.unwrap_or(0)
}

/// Returns the number of clients so far, or 0 if `server` is null.
///
/// # Safety
/// - `server` came from `whorl_server_start`, was not destroyed, and no other thread uses it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_server_clients(server: *const whorl_server) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { peek(server, |server| server.0.clients()) }.unwrap_or(0)
}

/// Serves until `clients` clients have come (0: without end), at most `timeout_ms` milliseconds; a negative time has no limit. Both
/// are `WHORL_OK`: `whorl_server_clients` shows which happened.
///
/// # Safety
/// - `server` came from `whorl_server_start`, was not destroyed, and no other thread uses it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_server_wait(
    server: *mut whorl_server,
    clients: u64,
    timeout_ms: i64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's promise.
        let server = unsafe { use_handle(server) }?;
        let clients = (clients > 0).then_some(clients);
        match timeout(timeout_ms) {
            Some(timeout) => server.0.wait_timeout(clients, timeout)?,
            None => server.0.wait(clients)?,
        }
        Ok(())
    })
}

/// Destroys a server and removes its announcement. Null is allowed.
///
/// # Safety
/// - `server` is null, or came from `whorl_server_start` and was not destroyed; the caller does not use it again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_server_destroy(server: *mut whorl_server) {
    // SAFETY: the caller's promise.
    unsafe { take_back(server) };
}

/// Asks every server that is announced in a directory, all at once, for at most `timeout_ms` milliseconds (a negative time is two
/// seconds). On success `*answers` belongs to the caller until `whorl_answers_destroy`.
///
/// # Safety
/// - `directory` points to a text that ends with a zero byte.
/// - `answers` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_discover(
    directory: *const c_char,
    timeout_ms: i64,
    answers: *mut *mut whorl_answers,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let directory = unsafe { text(directory, "the directory") }?;
        // SAFETY: the caller's second promise.
        let place = unsafe { place(answers) }?;
        let patience = timeout(timeout_ms).unwrap_or(Duration::from_secs(2));
        let found = discover(directory.as_ref(), patience)
            .map_err(|error| Failure::new(WHORL_ERR_SYSTEM, format!("{directory}: {error}")))?;
        let kept = found.into_iter().map(|answer| Kept {
            file: for_c(answer.file.as_os_str().as_bytes()),
            error: answer.error.as_ref().map(|error| for_c(error.as_bytes())),
            answer,
        });
        give(place, whorl_answers(kept.collect()));
        Ok(())
    })
}

/// Returns the number of answers, or 0 if `answers` is null.
///
/// # Safety
/// - `answers` came from `whorl_discover`, was not destroyed, and no other thread uses it during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_answers_count(answers: *const whorl_answers) -> usize {
    // SAFETY: the caller's promise.
    unsafe { peek(answers, |answers| answers.0.len()) }.unwrap_or(0)
}

/// Stores the answer with this index in `*answer`. Answers are in the order of the information files.
///
/// # Safety
/// - `answers` came from `whorl_discover`, was not destroyed, and no other thread uses it during the call.
/// - `answer` points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_answers_get(
    answers: *mut whorl_answers,
    index: usize,
    answer: *mut whorl_answer,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let answers = unsafe { use_handle(answers) }?;
        // SAFETY: the caller's second promise.
        let place = unsafe { place(answer) }?;
        let kept = answers
            .0
            .get(index)
            .ok_or_else(|| Failure::new(WHORL_ERR_NOT_FOUND, "there is no such answer"))?;
        let message = |message: &Option<Vec<u8>>| match message {
            Some(bytes) => (bytes.as_ptr(), bytes.len()),
            None => (std::ptr::null(), 0),
        };
        let (socket_message, socket_length) = message(&kept.answer.socket_message);
        let (shm_message, shm_length) = message(&kept.answer.shm_message);
        let seen = whorl_answer {
            file: kept.file.as_ptr(),
            reach: match kept.answer.reach {
                Reach::Host => whorl_reach::WHORL_REACH_HOST,
                Reach::Container => whorl_reach::WHORL_REACH_CONTAINER,
                Reach::Vm => whorl_reach::WHORL_REACH_VM,
            },
            socket_message,
            socket_length,
            shm_message,
            shm_length,
            error: kept.error.as_ref().map_or(std::ptr::null(), |error| error.as_ptr()),
        };
        place.write(seen);
        Ok(())
    })
}

/// Destroys answers, and what they point to. Null is allowed.
///
/// # Safety
/// - `answers` is null, or came from `whorl_discover` and was not destroyed; the caller does not use it again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_answers_destroy(answers: *mut whorl_answers) {
    // SAFETY: the caller's promise.
    unsafe { take_back(answers) };
}

/// Returns a text with a zero byte at its end. No text here holds a zero byte; one that did would lose it.
fn for_c(text: &[u8]) -> CString {
    CString::new(text.iter().copied().filter(|&byte| byte != 0).collect::<Vec<_>>()).unwrap_or_default()
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Create(error) => error.into(),
            ServerError::Send(error) => error.into(),
            ServerError::TooLong => Self::new(WHORL_ERR_ARGUMENT, error),
            ServerError::File { error: FileError::InUse, .. } => Self::new(WHORL_ERR_IN_USE, error),
            ServerError::Interrupted => Self::new(WHORL_ERR_INTERRUPTED, error),
            ServerError::Stopped => Self::new(WHORL_ERR_STOPPED, error),
            _ => Self::new(WHORL_ERR_SYSTEM, error),
        }
    }
}
