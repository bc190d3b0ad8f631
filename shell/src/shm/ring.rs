//! A ring in memory objects: create, reserve, seal, map, transfer.
//!
//! A segment is two memfds, so it has no name that could be left behind. Only the sender writes *data*: after it has
//! its mapping, the object is sealed against future writable mappings, so receivers can only read it. All processes
//! write *control*. Both are reserved in full before they are mapped, so that no process is killed by SIGBUS later, and
//! sealed against resizing.

use crate::os::error::OsError;
use crate::os::futex::MAX_YIELDS;
use crate::os::memory;
use crate::os::ofd_lock::ByteLocks;
use crate::shm::liveness::{Owner, SharedHost};
use crate::shm::mapped_ring::{MappedRing, MappedRingOwner};
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, SealFlags};
use rustix::io::Errno;
use std::ptr::NonNull;
use std::sync::Arc;
use thiserror::Error;
use whorl_core::layout::{Geometry, LayoutError, Region, Ring};

/// Why there is no segment.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The machine, or a control group of this process, has not enough memory.
    #[error("not enough memory: needs {}, {} is free", memory::in_words(*needed), memory::in_words(*free))]
    NoMemory {
        /// Bytes needed.
        needed: u64,
        /// Bytes available.
        free: u64,
    },
    /// A system call failed.
    #[error("{error}{hint}", error = .0, hint = hint(.0))]
    System(#[from] OsError),
    /// The objects hold no ring that this process can use.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The peer could still truncate an object that it sent.
    #[error("the shared memory is not sealed against resizing")]
    Unsealed,
}

fn hint(error: &OsError) -> &'static str {
    let is_limited = error.errno() == Errno::FBIG;
    if is_limited { "; the limit of file sizes (ulimit -f) counts for it too" } else { "" }
}

pub(crate) fn system(what: &'static str) -> impl FnOnce(Errno) -> SegmentError {
    move |error| OsError::new(what, error).into()
}

/// The two objects of a ring's segment.
#[derive(Debug)]
pub struct Segment {
    data: OwnedFd,
    control: OwnedFd,
    yields: u32,
}

/// A ring in mapped memory, as receivers see it.
pub type SharedRing = MappedRing<SharedHost, [MmapRaw; 2]>;
/// A ring in mapped memory, as its sender sees it.
pub type OwnedSharedRing = MappedRingOwner<SharedHost, [MmapRaw; 2]>;

impl Segment {
    /// Makes a segment, and the ring in it for its sender: [`reserve`](Self::reserve) and [`own`](Self::own).
    ///
    /// # Errors
    /// There is not enough memory, or a system call failed. Nothing is left then.
    pub fn create(geometry: Geometry) -> Result<(Self, OwnedSharedRing), SegmentError> {
        let segment = Self::reserve(geometry)?;
        let ring = segment.own(geometry)?;
        Ok((segment, ring))
    }

    /// Makes the objects, with all their memory reserved, and nothing in them yet.
    ///
    /// # Errors
    /// There is not enough memory, or a system call failed. Nothing is left then.
    pub fn reserve(geometry: Geometry) -> Result<Self, SegmentError> {
        let needed = geometry.data_length() + geometry.control_length();
        let free = memory::available();
        if needed > free {
            return Err(SegmentError::NoMemory { needed, free });
        }
        Ok(Self {
            data: object("whorl-data", geometry.data_length())?,
            control: object("whorl-control", geometry.control_length())?,
            yields: MAX_YIELDS,
        })
    }

    /// Sets how many times a process that waits in the ring yields before it sleeps.
    #[must_use]
    pub fn with_yields(self, yields: u32) -> Self {
        Self { yields, ..self }
    }

    /// Returns a segment that another process sent. [`attach`](Self::attach) checks it before any part of it is used.
    pub fn received(data: OwnedFd, control: OwnedFd) -> Self {
        Self { data, control, yields: MAX_YIELDS }
    }

    /// Returns the objects to send to another process: data, control.
    pub fn objects(&self) -> [BorrowedFd<'_>; 2] {
        [self.data.as_fd(), self.control.as_fd()]
    }

    /// Makes the ring in a reserved segment and becomes its sender. A forked child does not inherit the sender's writable
    /// mapping of the data, and no process can make another one: a second call fails in every process.
    ///
    /// # Errors
    /// A system call failed.
    pub fn own(&self, geometry: Geometry) -> Result<OwnedSharedRing, SegmentError> {
        let data = MmapOptions::new().map_raw(&self.data).map_err(mapping)?;
        data.advise(Advice::DontFork).map_err(mapping)?;
        let seals = SealFlags::FUTURE_WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&self.data, seals).map_err(system("seal shared memory"))?;
        rustix::fs::fcntl_add_seals(&self.control, SealFlags::SEAL).map_err(system("seal shared memory"))?;
        let control = MmapOptions::new().map_raw(&self.control).map_err(mapping)?;
        let host = self.host(Owner::ThisProcess)?;
        let memory = Arc::new([data, control]);
        let [data, control] = regions(&memory);
        // SAFETY: both mappings are writable and apart. No process uses them yet, because the seals were free a moment
        // ago. They live as long as `memory`, which the result keeps.
        let ring = unsafe { Ring::create(data, control, geometry, nonce(), host) }?;
        // SAFETY: the ring lies in these mappings.
        Ok(unsafe { MappedRingOwner::new(ring, memory) })
    }

    /// Maps the segment for a receiver: the data read-only.
    ///
    /// # Errors
    /// The objects are not sealed, hold no ring, or cannot be mapped.
    pub fn attach(&self, owner: Owner) -> Result<SharedRing, SegmentError> {
        for object in [&self.data, &self.control] {
            let seals =
                rustix::fs::fcntl_get_seals(object).map_err(system("check the seals of shared memory"))?;
            if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
                return Err(SegmentError::Unsealed);
            }
        }
        let data = MmapOptions::new().map_raw_read_only(&self.data).map_err(mapping)?;
        let control = MmapOptions::new().map_raw(&self.control).map_err(mapping)?;
        let host = self.host(owner)?;
        let memory = Arc::new([data, control]);
        let [data, control] = regions(&memory);
        // SAFETY: control is writable. The contents may be any bytes of a peer, and are checked.
        let ring = unsafe { Ring::attach(data, control, host) }?;
        // SAFETY: as above.
        Ok(unsafe { MappedRing::new(ring, memory) })
    }

    /// Opens a new file description of the control object, to hold a seat's or the owner's byte.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn byte_locks(&self) -> Result<ByteLocks, SegmentError> {
        ByteLocks::open(&self.control).map_err(system("open a lock on shared memory"))
    }

    fn host(&self, owner: Owner) -> Result<SharedHost, SegmentError> {
        Ok(SharedHost::new(self.byte_locks()?, owner).with_yields(self.yields))
    }
}

/// Returns a memory object of exactly `length` bytes, all of them reserved.
pub(crate) fn object(name: &str, length: u64) -> Result<OwnedFd, SegmentError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let object = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags), // a kernel before 6.3
        other => other,
    }
    .map_err(system("create shared memory"))?;
    // The default is 0777, and then every user that sees this process's /proc entry could open it.
    rustix::fs::fchmod(&object, Mode::RUSR | Mode::WUSR).map_err(system("protect shared memory"))?;
    rustix::fs::fallocate(&object, FallocateFlags::empty(), 0, length)
        .map_err(system("reserve shared memory"))?;
    rustix::fs::fcntl_add_seals(&object, SealFlags::SHRINK | SealFlags::GROW)
        .map_err(system("seal shared memory"))?;
    Ok(object)
}

/// Returns a number that distinguishes this segment from others. It is no secret.
pub(crate) fn nonce() -> u64 {
    let age = std::time::UNIX_EPOCH.elapsed().map_or(0, |age| age.subsec_nanos());
    u64::from(std::process::id()) << 32 | u64::from(age)
}

pub(crate) fn mapping(error: std::io::Error) -> SegmentError {
    OsError::io("map shared memory", &error).into()
}

/// Returns both mappings as core sees them. The caller keeps `memory` for as long as it uses the regions.
fn regions(memory: &Arc<[MmapRaw; 2]>) -> [Region<'static>; 2] {
    memory.each_ref().map(|map| {
        let start = NonNull::new(map.as_mut_ptr()).expect("a mapping has an address");
        // SAFETY: mapped over its whole length, from an object sealed against shrinking. Only core uses it.
        unsafe { Region::new(start, map.len()) }
    })
}
