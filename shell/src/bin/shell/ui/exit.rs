//! The exit codes of the command.

use std::process::ExitCode;

/// How a command ends. The codes are the same for every command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed, in whole or in part.
    Failed,
    /// 2: a usage error.
    Usage,
    /// 3: no such channel or server exists, nor its remains.
    Nothing,
    /// 4: receivers were lost, or failed while others succeeded, or a wait timed out.
    Peers,
    /// 5: data were lost, or a checksum does not match.
    Damaged,
    /// The process cleans up and dies of this signal.
    Signal(i32),
}

impl Exit {
    /// Returns the exit code of the process, or dies of the signal.
    pub fn now(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Nothing => 3,
            Self::Peers => 4,
            Self::Damaged => 5,
            Self::Signal(signal) => whorl::internal::os::signal::raise_default(signal),
        })
    }
}
