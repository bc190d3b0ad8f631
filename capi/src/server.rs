//! `whorl_server_*` and `whorl_discover*`: servers that announce themselves in a directory, and asking all of them.

use crate::support::{
    Failure, bytes, call, deadline, give, held, name, place, take_back, text, timeout, whorl_status,
};
use std::ffi::{CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;
use whorl::discovery::{Answer, FileError, Reach, ServerError};
use whorl::{Server, ServerOptions, discover};
use whorl_status::{
    WHORL_ARGUMENT, WHORL_IN_USE, WHORL_INTERRUPTED, WHORL_NOTHING, WHORL_STOPPED, WHORL_SYSTEM,
};

/// A server that is announced.
pub struct whorl_server(Server);

/// What every announced server said.
pub struct whorl_answers(Vec<Kept>);

/// Where a server runs, as far as its ways tell.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum whorl_place {
    /// On this host: the socket and shared memory work.
    WHORL_HOST = 0,
    /// In a container that shares the network: the socket alone works.
    WHORL_CONTAINER = 1,
    /// On another machine, or dead: neither works.
    WHORL_VM = 2,
}

/// What one server said. The pointers are good until `whorl_discover_free`; one is null where there was nothing.
#[repr(C)]
#[derive(Debug)]
pub struct whorl_answer {
    /// Its information file.
    pub file: *const c_char,
    /// Where it runs.
    pub place: whorl_place,
    /// What it said over TCP, `socket_length` bytes.
    pub socket_message: *const u8,
    /// How long that is.
    pub socket_length: usize,
    /// What it said through shared memory, `shm_length` bytes.
    pub shm_message: *const u8,
    /// How long that is.
    pub shm_length: usize,
    /// Why a way did not work, or what is wrong with its file.
    pub error: *const c_char,
}

/// An answer whose texts end as C wants them.
struct Kept {
    file: CString,
    answer: Answer,
    error: Option<CString>,
}

/// Announces a server in a directory, which gives each client two messages: one over TCP, one through shared memory. On success
/// `*server` is the caller's until `whorl_server_free`; it serves from then on, in threads of its own.
///
/// # Safety
/// - `name` and `directory` point to texts that end with a zero byte.
/// - `socket_message` points to `socket_length` bytes and `shm_message` to `shm_length`; each may be null if its length is 0.
/// - `server` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_server_start(
    name: *const c_char,
    directory: *const c_char,
    socket_message: *const c_void,
    socket_length: usize,
    shm_message: *const c_void,
    shm_length: usize,
    server: *mut *mut whorl_server,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let name = unsafe { self::name(name) }?;
        // SAFETY: the caller's first promise.
        let directory = unsafe { text(directory, "the directory") }?;
        let mut options = ServerOptions::new(PathBuf::from(directory));
        // SAFETY: the caller's second promise.
        options.socket_message = unsafe { bytes(socket_message, socket_length) }?.to_vec();
        // SAFETY: the caller's second promise.
        options.shm_message = unsafe { bytes(shm_message, shm_length) }?.to_vec();
        // SAFETY: the caller's third promise.
        let place = unsafe { place(server) }?;
        let started = Server::start(&name, &options)?;
        give(place, whorl_server(started));
        Ok(())
    })
}

/// The port it listens at; 0 if `server` is null.
///
/// # Safety
/// - `server` came from `whorl_server_start`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_server_port(server: *mut whorl_server) -> u16 {
    let mut port = 0;
    call(|| {
        // SAFETY: the caller's promise.
        port = unsafe { held(server) }?.0.address().1;
        Ok(())
    });
    port
}

/// How many clients came; 0 if `server` is null.
///
/// # Safety
/// - `server` came from `whorl_server_start`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_server_clients(server: *mut whorl_server) -> u64 {
    let mut clients = 0;
    call(|| {
        // SAFETY: the caller's promise.
        clients = unsafe { held(server) }?.0.clients();
        Ok(())
    });
    clients
}

/// Serves until so many clients came (0: without end), or `timeout_ms` milliseconds passed; a negative time is for ever. Either is
/// `WHORL_OK`: `whorl_server_clients` tells.
///
/// # Safety
/// - `server` came from `whorl_server_start`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_server_wait(
    server: *mut whorl_server,
    clients: u64,
    timeout_ms: i64,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's promise.
        let server = unsafe { held(server) }?;
        Ok(server.0.wait((clients > 0).then_some(clients), deadline(timeout_ms))?)
    })
}

/// Ends a server and takes its announcement away. Null is allowed.
///
/// # Safety
/// - `server` is null, or came from `whorl_server_start` and was not freed; it is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_server_free(server: *mut whorl_server) {
    // SAFETY: the caller's promise.
    unsafe { take_back(server) };
}

/// Asks every server that is announced in a directory, all at once, for at most `timeout_ms` milliseconds (a negative time is two
/// seconds). On success `*answers` is the caller's until `whorl_discover_free`.
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
        let found = discover(directory.as_ref(), patience).map_err(|error| {
            Failure::new(WHORL_SYSTEM, format!("{directory}: {}", whorl::os::error::reason(error)))
        })?;
        let kept = found.into_iter().map(|answer| Kept {
            file: for_c(answer.file.as_os_str().as_bytes()),
            error: answer.error.as_ref().map(|error| for_c(error.as_bytes())),
            answer,
        });
        give(place, whorl_answers(kept.collect()));
        Ok(())
    })
}

/// How many servers there are; 0 if `answers` is null.
///
/// # Safety
/// - `answers` came from `whorl_discover`, was not freed, and is used by no other thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_discover_count(answers: *mut whorl_answers) -> usize {
    let mut count = 0;
    call(|| {
        // SAFETY: the caller's promise.
        count = unsafe { held(answers) }?.0.len();
        Ok(())
    });
    count
}

/// What the server with this index said, in the order of the files.
///
/// # Safety
/// - `answers` came from `whorl_discover`, was not freed, and is used by no other thread meanwhile.
/// - `answer` points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_discover_get(
    answers: *mut whorl_answers,
    index: usize,
    answer: *mut whorl_answer,
) -> whorl_status {
    call(|| {
        // SAFETY: the caller's first promise.
        let answers = unsafe { held(answers) }?;
        // SAFETY: the caller's second promise.
        let place = unsafe { place(answer) }?;
        let kept =
            answers.0.get(index).ok_or_else(|| Failure::new(WHORL_NOTHING, "there is no such answer"))?;
        let message = |message: &Option<Vec<u8>>| match message {
            Some(bytes) => (bytes.as_ptr(), bytes.len()),
            None => (std::ptr::null(), 0),
        };
        let (socket_message, socket_length) = message(&kept.answer.socket_message);
        let (shm_message, shm_length) = message(&kept.answer.shm_message);
        let seen = whorl_answer {
            file: kept.file.as_ptr(),
            place: match kept.answer.place {
                Reach::Host => whorl_place::WHORL_HOST,
                Reach::Container => whorl_place::WHORL_CONTAINER,
                Reach::Vm => whorl_place::WHORL_VM,
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

/// Ends answers, and what they point to. Null is allowed.
///
/// # Safety
/// - `answers` is null, or came from `whorl_discover` and was not freed; it is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn whorl_discover_free(answers: *mut whorl_answers) {
    // SAFETY: the caller's promise.
    unsafe { take_back(answers) };
}

/// A text as C wants it; a zero byte, which nothing here has, would be left out.
fn for_c(text: &[u8]) -> CString {
    CString::new(text.iter().copied().filter(|&byte| byte != 0).collect::<Vec<_>>()).unwrap_or_default()
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Create(error) => error.into(),
            ServerError::Send(error) => error.into(),
            ServerError::TooLong => Self::new(WHORL_ARGUMENT, error),
            ServerError::File { error: FileError::InUse, .. } => Self::new(WHORL_IN_USE, error),
            ServerError::Interrupted => Self::new(WHORL_INTERRUPTED, error),
            ServerError::Stopped => Self::new(WHORL_STOPPED, error),
            _ => Self::new(WHORL_SYSTEM, error),
        }
    }
}
