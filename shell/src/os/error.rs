//! What the kernel said, in words.

use rustix::io::Errno;

/// What the kernel said, in words and without its number.
pub fn reason(error: Errno) -> String {
    reason_of(&std::io::Error::from(error))
}

/// The same of an error of the standard library.
pub fn reason_of(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The error of the system call that this thread made last, by the C library.
pub(crate) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN)
}
