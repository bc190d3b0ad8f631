//! The source, the directory for the copies, and the check of the copies.

use super::{Job, text};
use crate::janitor::Janitor;
use crate::process::is_stopped;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A private directory on some file system. Dropping it removes it with everything in it.
pub struct Place {
    root: PathBuf,
    _janitor: Janitor,
}

impl Place {
    /// # Errors
    /// If the directory cannot be made, or if the file system has less room than `bytes`. The error is a sentence.
    pub fn new(parent: &Path, bytes: u64) -> Result<Self, String> {
        let room = room(parent).map_err(text("statvfs"))?;
        if room < bytes {
            let mib = |bytes| bytes >> 20;
            return Err(format!("{} has {} MiB, {} are needed", parent.display(), mib(room), mib(bytes)));
        }
        let root = parent.join(format!("whorl-bench-{}", std::process::id()));
        std::fs::create_dir(&root).map_err(text("create a directory"))?;
        let all = root.clone();
        let janitor = Janitor::new(move || {
            // A tool whose run was cut short may still be writing.
            for _ in 0..50 {
                if remove(&all).is_ok() && !all.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Ok(Place { root, _janitor: janitor })
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a source of `bytes` bytes that no file system can compress, in the page cache and written back.
    pub fn source(&self, bytes: u64) -> Result<PathBuf, String> {
        let path = self.root.join(format!("source-{bytes}"));
        if !path.exists() {
            write_noise(&path, bytes).map_err(text("write the source"))?;
        }
        Ok(path)
    }

    /// Returns an empty directory for the next copies, and leaves nothing of the last ones to write back. Removing a file drops
    /// what is not written yet, and waits for what is being written. Data of other programs are not flushed, because that can
    /// take a minute in which no signal ends the measurement.
    pub fn fresh_directory(&self) -> Result<PathBuf, String> {
        let path = self.root.join("copies");
        remove(&path).map_err(text("remove the last copies"))?;
        std::fs::create_dir(&path).map_err(text("create a directory"))?;
        let directory = File::open(&path).map_err(text("open a directory"))?;
        directory.sync_all().map_err(text("flush a directory"))?;
        Ok(path)
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn room(path: &Path) -> std::io::Result<u64> {
    // Not libc's statvfs, whose numbers have 32 bits on 32-bit machines.
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Writes a file and flushes it, piece by piece, so that a signal ends it soon.
fn write_noise(path: &Path, bytes: u64) -> std::io::Result<()> {
    const PIECE: usize = 1 << 20;
    let mut file = File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut piece = Vec::with_capacity(PIECE);
    let mut left = usize::try_from(bytes).map_err(std::io::Error::other)?;
    while left > 0 {
        if is_stopped() {
            return Err(std::io::Error::other("the measurement was interrupted"));
        }
        piece.clear();
        while piece.len() < PIECE.min(left) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend_from_slice(&state.to_le_bytes());
        }
        piece.truncate(left);
        file.write_all(&piece)?;
        file.sync_data()?;
        left -= piece.len();
    }
    file.sync_all()
}

/// How many blocks of each copy are compared with the source: the first, the last, and some between.
const SAMPLES: u64 = 32;
const BLOCK: usize = 4096;

/// Checks that the directory holds the right number of copies, each as long as the source and equal to it in every
/// sampled block.
pub fn check(job: &Job) -> Result<(), String> {
    let source = File::open(&job.source).map_err(text("open the source"))?;
    let bytes = source.metadata().map_err(text("stat the source"))?.len();
    let entries = std::fs::read_dir(&job.directory).map_err(text("list the copies"))?;
    let mut copies = 0;
    for entry in entries {
        let path = entry.map_err(text("list the copies"))?.path();
        let copy = File::open(&path).map_err(text("open a copy"))?;
        let len = copy.metadata().map_err(text("stat a copy"))?.len();
        if len != bytes {
            return Err(format!("{} has {len} of {bytes} bytes", path.display()));
        }
        for sample in 0..=SAMPLES {
            let offset = bytes.saturating_sub(BLOCK as u64) / SAMPLES * sample;
            let block = |file: &File| {
                let mut block = [0; BLOCK];
                file.read_at(&mut block, offset).map(|len| (len, block))
            };
            if block(&source).map_err(text("read"))? != block(&copy).map_err(text("read"))? {
                return Err(format!("{} differs at {offset}", path.display()));
            }
        }
        copies += 1;
    }
    if copies == job.copies { Ok(()) } else { Err(format!("{copies} of {} copies", job.copies)) }
}
