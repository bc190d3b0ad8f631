//! A file system in memory that lacks the operations that a test chooses, mounted with FUSE. Network disks, foreign
//! disks and layered file systems each lack something that a local disk has.
//!
//! The mount lies in a mount namespace of the test's thread and of the processes that the thread starts. It disappears with
//! them, however the test ends. The file system has no unnamed files (`O_TMPFILE`), as no FUSE file system in use has.

#![allow(dead_code)] // every test file uses a part of it

mod server;
mod tree;

use crate::kit::skip;
use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use server::Server;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What a file system can refuse.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// What close(2) asks of it: network disks report a full disk only here.
    Flush,
    /// Making a hard link.
    Link,
    /// Renaming with flags, such as `RENAME_NOREPLACE`. Renaming without flags works.
    RenameWithFlags,
    /// Making a socket.
    MakeSocket,
    /// Setting times.
    SetTimes,
    /// Setting the length of a file, other than by writing.
    SetLength,
    /// Setting permissions.
    SetMode,
    /// Locking a file. Directories are locked by the kernel alone. To be refused from the mount on.
    Lock,
    /// Setting an extended attribute.
    SetAttribute,
    /// fsync of a file.
    Sync,
    /// fsync of a directory.
    SyncDirectory,
    /// Writing.
    Write,
}

/// What a file system refuses now, and how often each operation was requested.
#[derive(Debug, Default)]
pub struct Lacks {
    refused: HashMap<Operation, Errno>,
    asked: HashMap<Operation, u32>,
    splits_links: bool,
}

impl Lacks {
    /// Counts the request. Returns the error of an operation that the file system lacks.
    fn ask(&mut self, operation: Operation) -> Result<(), Errno> {
        *self.asked.entry(operation).or_default() += 1;
        self.refused.get(&operation).map_or(Ok(()), |error| Err(*error))
    }
}

/// A mounted file system. Dropping it unmounts it.
pub struct StrangeFs {
    path: PathBuf,
    lacks: Arc<Mutex<Lacks>>,
    _session: BackgroundSession,
}

impl StrangeFs {
    /// Mounts a file system on `path`, a directory, for the calling thread and the processes that it starts from now
    /// on. If that is not possible, returns `None` and prints that `what` is skipped.
    #[track_caller]
    pub fn mount(path: PathBuf, what: &str) -> Option<Self> {
        Self::mount_with(path, what, Lacks::default())
    }

    /// Mounts a file system that refuses locks with this error, like [`mount`](Self::mount).
    #[track_caller]
    pub fn mount_without_locks(path: PathBuf, what: &str, error: Errno) -> Option<Self> {
        let refused = HashMap::from([(Operation::Lock, error)]);
        Self::mount_with(path, what, Lacks { refused, ..Lacks::default() })
    }

    #[track_caller]
    fn mount_with(path: PathBuf, what: &str, lacks: Lacks) -> Option<Self> {
        let lacks = Arc::new(Mutex::new(lacks));
        match own_mounts().and_then(|()| serve(&path, &lacks)) {
            Ok(session) => Some(Self { path, lacks, _session: session }),
            Err(why) => {
                skip(what, &why);
                None
            }
        }
    }

    /// From now on the file system refuses this operation with this error.
    pub fn refuse(&self, operation: Operation, error: Errno) -> &Self {
        self.lacks.lock().expect("the list").refused.insert(operation, error);
        self
    }

    /// From now on the file system knows this operation again.
    pub fn allow(&self, operation: Operation) -> &Self {
        self.lacks.lock().expect("the list").refused.remove(&operation);
        self
    }

    /// From now on a hard link is a file of its own with the same contents, as on FUSE file systems that identify files
    /// by their paths.
    pub fn split_links(&self) -> &Self {
        self.lacks.lock().expect("the list").splits_links = true;
        self
    }

    /// How often this operation was requested.
    pub fn asked(&self, operation: Operation) -> u32 {
        self.lacks.lock().expect("the list").asked.get(&operation).copied().unwrap_or(0)
    }

    /// A path in the file system.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for StrangeFs {
    fn drop(&mut self) {
        // Also while a process that hangs still uses it. The session's own unmount then finds nothing to do.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// Gives this thread a mount namespace of its own.
pub fn own_mounts() -> Result<(), String> {
    // SAFETY: only the flag `FILES` would change descriptors that other code uses, and it is not set. Other threads
    // resolve paths in their own namespace.
    let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
    let failed = |error: Errno| format!("no mount namespace: {error}");
    unshared.map_err(failed)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).map_err(failed)
}

fn serve(path: &Path, lacks: &Arc<Mutex<Lacks>>) -> Result<BackgroundSession, String> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("strange".into()), MountOption::DefaultPermissions];
    config.acl = SessionACL::All; // the others are other users, for the tests that become one
    fuser::spawn_mount(Server::new(lacks.clone()), path, &config)
        .map_err(|error| format!("no FUSE mount: {error}"))
}
