//! How the command ends.

use std::process::ExitCode;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed, in whole or in part.
    Failed,
    /// 2: used wrongly.
    Usage,
    /// 3: there is no such channel or server, nor anything left of one.
    Nothing,
    /// 4: peers were lost, or failed while others succeeded.
    Peers,
    /// 5: data lost, or a checksum that does not match.
    Damaged,
    /// Die of this signal, after cleaning up.
    Signal(i32),
}

impl Exit {
    /// Ends the process so.
    pub fn now(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Nothing => 3,
            Self::Peers => 4,
            Self::Damaged => 5,
            Self::Signal(signal) => whorl::os::signal::raise_default(signal),
        })
    }
}
