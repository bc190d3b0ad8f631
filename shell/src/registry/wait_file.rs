//! Waiting for an owner that is not there yet: a file that says so, and a look whenever the directory changes.
//!
//! The file `NAME.PID.wait` is locked for as long as its process waits; the kernel drops the lock of a killed one. It is
//! made, locked and judged under the directory's lock, hence never seen unlocked while its maker lives. Whoever waits ends
//! when `shell rm` marks and removes the file. It makes a new one if anything else removes it.

use super::name::Name;
use super::runtime_dir::{Locked, RuntimeDir};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::file::{FileId, OpenError, make_private, open_regular, remove_if};
use crate::os::pid::{is_own_pid_namespace, pid_namespace};
use crate::os::timeout::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, inotify};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How often to look although nothing was heard.
const LOOK: Duration = Duration::from_secs(1);
/// A socket that refuses may be about to listen.
const SETTLE: Duration = Duration::from_millis(2);

/// The mode of a wait file whose process is to end once the file is removed.
const DISMISSED: Mode = Mode::RUSR;

/// The file of a process that waits.
#[derive(Debug)]
pub struct WaitFile<'d> {
    directory: &'d RuntimeDir,
    file: CloseOnForkFd,
    name: String,
}

/// What a wait file's name says. Its pid counts in its process's pid namespace, of which the file's text tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// What it waits for.
    pub name: Name,
    /// The process.
    pub pid: u32,
}

impl Waiter {
    /// Reads a file's name: `NAME.PID.wait`, or `NAME.PID-N.wait` for a second one with that pid.
    pub fn parse(file: &str) -> Option<Self> {
        let (name, who) = file.strip_suffix(".wait")?.rsplit_once('.')?;
        let pid = who.split_once('-').map_or(who, |(pid, _)| pid);
        Some(Self { name: name.parse().ok()?, pid: pid.parse().ok()? })
    }
}

impl<'d> WaitFile<'d> {
    /// Says that this process waits for `name`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn create(directory: &'d RuntimeDir, name: &Name) -> Result<Self, Errno> {
        let locked = directory.lock()?;
        let pid = std::process::id();
        for number in 1..=1000 {
            // Another thread, or a process of another pid namespace, can wait under the same pid.
            let file_name = match number {
                1 => format!("{name}.{pid}.wait"),
                _ => format!("{name}.{pid}-{number}.wait"),
            };
            if let Some(file) = make(&locked, &file_name)? {
                return Ok(Self { directory, file, name: file_name });
            }
        }
        Err(Errno::EXIST)
    }

    /// Whether somebody removed the file: one that wants us to [end](Self::is_dismissed), or one that cleans up.
    pub fn is_removed(&self) -> bool {
        rustix::fs::fstat(&self.file).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Whether `shell rm` told us to end.
    pub fn is_dismissed(&self) -> bool {
        rustix::fs::fstat(&self.file)
            .is_ok_and(|stat| stat.st_nlink == 0 && Mode::from_raw_mode(stat.st_mode) == DISMISSED)
    }
}

impl Drop for WaitFile<'_> {
    fn drop(&mut self) {
        if !self.file.born().has_forked() && !self.is_removed() {
            // Locked by us, so none of us has taken it for dead and put another in its place.
            let _ = remove_own(self.directory, &self.name, &self.file);
        }
    }
}

fn make(locked: &Locked<'_>, name: &str) -> Result<Option<CloseOnForkFd>, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let create = || rustix::fs::openat(locked.directory(), name, flags, Mode::RUSR | Mode::WUSR);
    let file = match CloseOnForkFd::open(create) {
        Err(Errno::EXIST) => match remove_if_stale(locked, name).map(|_gone| CloseOnForkFd::open(create)) {
            Ok(Ok(file)) => file,
            // In use; or in the way, and whatever that is, there are other names.
            Ok(Err(Errno::EXIST)) | Err(_) => return Ok(None),
            Ok(Err(error)) => return Err(error),
        },
        other => other?,
    };
    let _ = make_private(&file); // whatever the umask: others open it to look
    // For display alone: without it nobody takes the pid for one of their own.
    let namespace = pid_namespace().map_or(String::new(), |number| format!("namespace={number}\n"));
    let _ = rustix::io::write(&file, namespace.as_bytes());
    // Fresh, so only somebody who is just looking whether it is locked (`is_live`) can be in the way, for a moment.
    let lock = || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    for _ in 0..100 {
        match lock() {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(1)),
            Ok(()) => return Ok(Some(file)),
            // Most often a file system without locks.
            Err(error) => {
                let _ = remove_own(locked.directory(), name, &file);
                return Err(error);
            }
        }
    }
    // Who looks was stopped in that moment. It does not look at another file meanwhile.
    let _ = remove_own(locked.directory(), name, &file);
    Ok(None)
}

fn remove_own(directory: &RuntimeDir, name: &str, file: &CloseOnForkFd) -> Result<bool, Errno> {
    remove_if(directory, name, FileId::of(&rustix::fs::fstat(file)?))
}

/// Whether the process of a wait file still waits. "Cannot tell" is true.
pub(crate) fn is_live(directory: &RuntimeDir, name: &str) -> Result<bool, OpenError> {
    judge(directory, name).map(|(is_live, _)| is_live)
}

/// The process of a wait file, as this process can use the pid; 0 if it cannot.
pub(crate) fn visible_pid(directory: &RuntimeDir, file: &str, waiter: &Waiter) -> u32 {
    let mut text = [0; 64];
    let read = open_regular(directory, file, OFlags::RDONLY).ok();
    let read = read.and_then(|(file, _)| rustix::io::read(&file, &mut text).ok()).unwrap_or(0);
    let text = std::str::from_utf8(&text[..read]).ok();
    let number = text.and_then(|text| text.strip_prefix("namespace=")?.strip_suffix('\n')?.parse().ok());
    if is_own_pid_namespace(number) { waiter.pid } else { 0 }
}

fn judge(directory: &RuntimeDir, name: &str) -> Result<(bool, FileId), OpenError> {
    let (file, stat) = open_regular(directory, name, OFlags::RDONLY)?;
    // Shared: two that ask at the same time do not take each other for the one that waits.
    let is_live = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err();
    Ok((is_live, FileId::of(&stat)))
}

/// Removes a wait file whose process is gone; false if it is not gone.
pub(crate) fn remove_if_stale(locked: &Locked<'_>, name: &str) -> Result<bool, OpenError> {
    let (is_live, file) = judge(locked.directory(), name)?;
    Ok(!is_live && remove_if(locked.directory(), name, file)?)
}

/// Tells the process of a wait file to end: marks the file and removes it. False: it is gone already.
pub(crate) fn dismiss(locked: &Locked<'_>, name: &str) -> Result<bool, OpenError> {
    let (file, stat) = open_regular(locked.directory(), name, OFlags::RDONLY)?;
    // A mark that needs no room on a full file system.
    rustix::fs::fchmod(&file, DISMISSED)?;
    Ok(remove_if(locked.directory(), name, FileId::of(&stat))?)
}

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The deadline passed.
    TimedOut,
    /// A signal asked the program to stop.
    Interrupted,
}

/// Hears of changes in the directory.
#[derive(Debug)]
pub struct Changes {
    heard: Option<OwnedFd>,
    settling: u32,
}

impl Changes {
    /// From now on changes are heard. Where the kernel has no watch to give, they are found by looking.
    pub fn of(directory: &RuntimeDir) -> Self {
        use inotify::{CreateFlags, WatchFlags};
        let heard = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).and_then(|watch| {
            let news = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
            inotify::add_watch(&watch, directory.path_of("."), news).map(|_| watch)
        });
        Self { heard: heard.ok(), settling: 0 }
    }

    /// Sleeps until something changed, or a second passed. If `refused`, a socket is there that nobody listens on: then it
    /// may be about to, and the first few times the sleep is short.
    ///
    /// # Errors
    /// The deadline passed, or a signal came.
    pub fn wait(&mut self, refused: bool, deadline: Option<Instant>) -> Result<(), Ended> {
        let mut nap = LOOK;
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
        let heard = self.heard.as_ref().map(AsFd::as_fd);
        let mut ready: Vec<_> = heard
            .into_iter()
            .chain(crate::os::signal::stop_event().ok())
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut ready, Some(&timespec(nap))) {
            Ok(_) | Err(Errno::INTR) => {}
            // A filter forbids it: look around all the time, but do not spin.
            Err(_) => std::thread::sleep(nap.min(SETTLE)),
        }
        if let Some(heard) = &self.heard {
            let mut events = [0; 4096];
            while rustix::io::read(heard, &mut events).is_ok_and(|count| count > 0) {
                self.settling = 0; // perhaps it is another socket that refuses now
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
    fn who_looks_and_does_not_go_on_holds_up_nobody_for_long() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let parent = tempfile::tempdir().unwrap();
        let directory = RuntimeDir::open_in(parent.path(), "whorl").unwrap();
        let name: Name = "x".parse().unwrap();
        let path = directory.path().join(format!("x.{}.wait", std::process::id()));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Looks at the first file in the moment between its making and its lock, and stays there for a while.
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let Ok(file) = std::fs::File::open(&path) else { continue };
                    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
                        std::thread::sleep(Duration::from_millis(500));
                    }
                }
            });
            let until = Instant::now() + Duration::from_secs(20);
            let mut met = false;
            while !met && Instant::now() < until {
                let made = WaitFile::create(&directory, &name);
                met = made.as_ref().map_or(true, |made| made.name.contains('-'));
                assert!(made.is_ok(), "{made:?}");
            }
            over.store(true, Ordering::Relaxed);
            assert!(met, "the two never met: not tried");
        });
    }

    #[test]
    fn a_waiter_is_seen_while_it_waits_and_ends_when_its_file_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = RuntimeDir::open_in(parent.path(), "whorl").unwrap();
        let name: Name = "x".parse().unwrap();
        let first = WaitFile::create(&directory, &name).unwrap();
        let second = WaitFile::create(&directory, &name).unwrap();
        assert_ne!(first.name, second.name);
        assert_eq!(is_live(&directory, &first.name), Ok(true));
        let locked = directory.lock().unwrap();
        assert_eq!(remove_if_stale(&locked, &first.name), Ok(false));
        assert_eq!(dismiss(&locked, &second.name), Ok(true));
        assert!(second.is_removed() && second.is_dismissed() && !first.is_removed());
        std::fs::remove_file(directory.path().join(&first.name)).unwrap();
        assert!(first.is_removed() && !first.is_dismissed(), "by somebody who cleans up");
        drop((first, second));
        assert_eq!(directory.names().unwrap(), [".", ".."]);
        std::fs::write(directory.path().join("x.1.wait"), "").unwrap();
        assert_eq!(remove_if_stale(&locked, "x.1.wait"), Ok(true));
    }
}
