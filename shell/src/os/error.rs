//! The errors of system calls, as text.

use rustix::io::Errno;
use thiserror::Error;

/// A system call that failed: its purpose, and the kernel's error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("cannot {what}: {}", reason(*.source))]
pub struct OsError {
    what: &'static str,
    source: Errno,
}

impl OsError {
    /// Returns an error that says what failed, in words that follow "cannot".
    pub(crate) fn new(what: &'static str, error: Errno) -> Self {
        Self { what, source: error }
    }

    /// Returns an error that says what failed, from an error of the standard library.
    pub(crate) fn io(what: &'static str, error: &std::io::Error) -> Self {
        Self::new(what, Errno::from_io_error(error).unwrap_or(Errno::AGAIN))
    }

    /// Returns the kernel's error.
    pub(crate) fn errno(&self) -> Errno {
        self.source
    }

    /// Returns the number of the error, as in `errno`.
    pub fn raw_os_error(&self) -> i32 {
        self.source.raw_os_error()
    }
}

impl From<OsError> for std::io::Error {
    fn from(error: OsError) -> Self {
        error.source.into()
    }
}

/// Returns a function for `map_err` that turns a failed system call into an [`OsError`]. `what` follows "cannot".
pub(crate) fn cannot(what: &'static str) -> impl Fn(Errno) -> OsError {
    move |error| OsError::new(what, error)
}

/// Describes an error of the kernel, without its number.
pub fn reason(error: Errno) -> String {
    reason_of(&std::io::Error::from(error))
}

/// Describes an error of the standard library, without its number.
pub fn reason_of(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Returns the error of the last system call that this thread made through the C library.
pub(crate) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn an_error_says_what_failed_and_why_and_keeps_the_kernels_own() {
        let error = cannot("open the log")(Errno::NOENT);
        assert_eq!(error.to_string(), "cannot open the log: no such file or directory");
        assert_eq!(error.raw_os_error(), Errno::NOENT.raw_os_error());
        let source = error.source().and_then(|source| source.downcast_ref::<Errno>());
        assert_eq!(source, Some(&Errno::NOENT));
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
    }
}
