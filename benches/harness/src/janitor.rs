//! Cleans up even if the bench is interrupted or killed: a process waits for the bench's end.

use std::io::{PipeWriter, Read, Write};

/// Runs the clean-up when it is dropped, or when the bench dies.
pub struct Janitor {
    alive: Option<PipeWriter>,
    pid: libc::pid_t,
}

impl Janitor {
    /// Forks the process that will clean up. Call it before forking the parties whose traces it removes.
    ///
    /// # Panics
    /// If the system has no pipe or no process left.
    pub fn new(clean: impl FnOnce()) -> Self {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        std::io::stdout().flush().ok();
        // SAFETY: no other thread exists in this process.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid > 0 {
            return Janitor { alive: Some(writer), pid };
        }
        drop(writer);
        // SAFETY: a plain call. An interrupt from the keyboard must not end this process.
        unsafe { libc::setsid() };
        reader.read_to_end(&mut Vec::new()).ok();
        clean();
        // SAFETY: ends this process without the parent's exit handlers.
        unsafe { libc::_exit(0) }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.alive = None;
        let mut status = 0;
        // SAFETY: `status` is writable.
        unsafe { libc::waitpid(self.pid, &mut status, 0) };
    }
}
