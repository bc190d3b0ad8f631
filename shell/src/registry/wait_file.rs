//! Waiting for an owner that does not exist yet: a file that shows that, and a check whenever the directory changes.
//!
//! `NAME.PID.wait` is a [lock file](super::lock_file). Its process waits. The process ends when `shell rm` marks and
//! removes the file, and makes a new file if another program removes it.

use super::lock_file::{LockFile, LockFileEntry, LockFileError, owner_lines};
use super::name::Name;
use super::runtime_dir::RuntimeDir;
use crate::os::timeout::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, Stat, inotify};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How often to check without a noticed change.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long to sleep if a socket refuses, because it may be about to listen.
const SETTLE: Duration = Duration::from_millis(2);

/// The mode that asks a wait file's process to end after the file's removal. A mode needs no space on a full file
/// system.
const CANCELLED: Mode = Mode::RWXU;

/// The file of a waiting process.
#[derive(Debug)]
pub struct WaitFile {
    file: LockFile,
}

/// The contents of a wait file's name. The pid counts in its process's pid namespace, which the file's text names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// The name that it waits for.
    pub name: Name,
    /// The process.
    pub pid: u32,
}

impl Waiter {
    /// Parses a file's name: `NAME.PID.wait`, or `NAME.PID-N.wait` for a second file with that pid.
    pub fn parse(file: &str) -> Option<Self> {
        let (name, who) = file.strip_suffix(".wait")?.rsplit_once('.')?;
        let pid = who.split_once('-').map_or(who, |(pid, _)| pid);
        Some(Self { name: name.parse().ok()?, pid: pid.parse().ok()? })
    }
}

impl WaitFile {
    /// Makes the file, which shows that this process waits for `name`.
    ///
    /// # Errors
    /// A system call failed.
    pub fn create(directory: &RuntimeDir, name: &Name) -> Result<Self, Errno> {
        let pid = std::process::id();
        let text = owner_lines();
        let mut text = text.as_bytes();
        for number in 1..=1000 {
            // Another thread, or a process of another pid namespace, can wait under the same pid.
            let file_name = match number {
                1 => format!("{name}.{pid}.wait"),
                _ => format!("{name}.{pid}-{number}.wait"),
            };
            match LockFile::create(directory, &file_name, text) {
                Ok(file) => return Ok(Self { file }),
                // Try the next name.
                Err(LockFileError::InUse | LockFileError::NotOwned) => {}
                Err(LockFileError::System(error)) => match error.errno() {
                    // The text is only for display.
                    Errno::NOSPC | Errno::DQUOT if !text.is_empty() => text = b"",
                    errno => return Err(errno),
                },
            }
        }
        Err(Errno::EXIST)
    }

    /// Returns whether another program removed the file. That is `shell rm`, which wants this process to
    /// [end](Self::is_cancelled), or a program that cleans up.
    pub fn is_removed(&self) -> bool {
        self.stat().is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Returns whether `shell rm` asked this process to end.
    pub fn is_cancelled(&self) -> bool {
        self.stat().is_ok_and(|stat| stat.st_nlink == 0 && Mode::from_raw_mode(stat.st_mode) == CANCELLED)
    }

    fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::fstat(&self.file)
    }
}

/// Asks the process of a wait file to end. Returns `false` if it has ended already.
pub(crate) fn cancel(directory: &RuntimeDir, name: &str, file: &LockFileEntry) -> Result<bool, Errno> {
    file.remove_marked(directory, name, CANCELLED)
}

/// Why a wait ended without an owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The deadline passed.
    TimedOut,
    /// A signal asked the program to stop.
    Interrupted,
}

/// Notices changes in the directory.
#[derive(Debug)]
pub struct Changes {
    watch: Option<OwnedFd>,
    settling: u32,
}

impl Changes {
    /// Watches a directory. If the kernel has no watch left, [`wait`](Self::wait) checks once a second.
    pub fn of(directory: &RuntimeDir) -> Self {
        use inotify::{CreateFlags, WatchFlags};
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).and_then(|watch| {
            let changes = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
            inotify::add_watch(&watch, directory.path_of("."), changes).map(|_| watch)
        });
        Self { watch: watch.ok(), settling: 0 }
    }

    /// Sleeps until something changed, or a second passed. `refused` means that a socket exists on which no process
    /// listens. It may be about to listen, so the first few sleeps are short.
    ///
    /// # Errors
    /// The deadline passed, or a signal asked the program to stop.
    pub fn wait(&mut self, refused: bool, deadline: Option<Instant>) -> Result<(), Ended> {
        let mut nap = POLL_INTERVAL;
        match (refused, self.settling) {
            (true, ..50) => {
                self.settling += 1;
                nap = SETTLE;
            }
            (false, _) => self.settling = 0,
            _ => {}
        }
        if let Some(deadline) = deadline {
            match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Err(Ended::TimedOut),
                left => nap = nap.min(left),
            }
        }
        if crate::os::signal::stop_signal().is_some() {
            return Err(Ended::Interrupted);
        }
        let watch = self.watch.as_ref().map(AsFd::as_fd);
        let mut ready: Vec<_> = watch
            .into_iter()
            .chain(crate::os::signal::stop_event().ok())
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut ready, Some(&timespec(nap))) {
            Ok(_) | Err(Errno::INTR) => {}
            // A filter forbids it. Check all the time, but do not spin.
            Err(_) => std::thread::sleep(nap.min(SETTLE)),
        }
        if let Some(watch) = &self.watch {
            let mut events = [0; 4096];
            while rustix::io::read(watch, &mut events).is_ok_and(|count| count > 0) {
                self.settling = 0; // another socket may refuse now
            }
        }
        match crate::os::signal::stop_signal() {
            Some(_) => Err(Ended::Interrupted),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_wait_files_are_read_back() {
        let waiter = |text| Waiter::parse(text).map(|waiter| (waiter.name.to_string(), waiter.pid));
        assert_eq!(waiter("a.b.17.wait"), Some(("a.b".into(), 17)));
        assert_eq!(waiter("a.17-2.wait"), Some(("a".into(), 17)));
        for other in ["a.wait", "a.x.wait", ".17.wait", "a.17", "a.sock", "a.-1.wait"] {
            assert_eq!(waiter(other), None, "{other}");
        }
    }

    #[test]
    fn a_waiter_is_seen_while_it_waits_and_ends_when_its_file_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = RuntimeDir::open_in(parent.path(), "whorl").unwrap();
        let name: Name = "x".parse().unwrap();
        let first = WaitFile::create(&directory, &name).unwrap();
        let second = WaitFile::create(&directory, &name).unwrap();
        let pid = std::process::id();
        let (one, two) = (format!("x.{pid}.wait"), format!("x.{pid}-2.wait"));
        let open = |file: &str| LockFileEntry::open(&directory, file).unwrap();
        assert!(open(&one).is_live() && open(&two).is_live());
        assert_eq!(cancel(&directory, &two, &open(&two)), Ok(true));
        assert!(second.is_removed() && second.is_cancelled() && !first.is_removed());
        std::fs::remove_file(directory.path().join(one)).unwrap();
        assert!(first.is_removed() && !first.is_cancelled(), "by a program that cleans up");
        drop((first, second));
        assert_eq!(directory.names().unwrap(), [".", ".."]);
    }
}
