//! The limit: two processes that only write each 128 KiB chunk of a mapping to all of their files in turn.

use super::timing::{fork, wait_for_all};
use super::{Job, text};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const CHUNK: usize = 128 * 1024;
const PROCESSES: usize = 2;

pub fn copy(job: &Job) -> Result<(), String> {
    let destinations = job.destinations();
    for part in destinations.chunks(destinations.len().div_ceil(PROCESSES)) {
        fork(|| write_all(&job.source, part));
    }
    wait_for_all()
}

fn write_all(source: &Path, destinations: &[PathBuf]) -> Result<(), String> {
    let create = |path: &PathBuf| File::create_new(path).map_err(text("create"));
    let mut files = destinations.iter().map(create).collect::<Result<Vec<_>, _>>()?;
    for chunk in Mapping::of(source)?.bytes().chunks(CHUNK) {
        for file in &mut files {
            file.write_all(chunk).map_err(text("write"))?;
        }
    }
    Ok(())
}

/// A whole file, mapped for reading until the process ends.
pub struct Mapping {
    start: *const u8,
    len: usize,
}

impl Mapping {
    pub fn of(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(text("open the source"))?;
        let len = file.metadata().map_err(text("stat the source"))?.len();
        let len = usize::try_from(len).map_err(|_| "the source is too long to be mapped on this machine")?;
        if len == 0 {
            return Ok(Mapping { start: std::ptr::null(), len });
        }
        let fd = file.as_raw_fd();
        // SAFETY: a fresh mapping, at an address that the kernel chooses.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(text("map the source")(std::io::Error::last_os_error()));
        }
        Ok(Mapping { start: start.cast(), len })
    }

    pub fn bytes(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: mapped with this length, never unmapped; no process writes the bench's source.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}
