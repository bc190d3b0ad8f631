//! Durable copies without the page cache: one file after the other, written with O_DIRECT from a mapping of the source,
//! then synced.

use super::limit::Mapping;
use super::{Job, text};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

const CHUNK: usize = 4 << 20;
/// Lengths and offsets must be multiples of the device's block size. A page always is.
const BLOCK: usize = 4096;

pub fn copy(job: &Job) -> Result<(), String> {
    let mapping = Mapping::of(&job.source)?;
    let (whole, rest) = mapping.bytes().split_at(mapping.bytes().len() / BLOCK * BLOCK);
    for path in job.destinations() {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .map_err(text("open with O_DIRECT"))?;
        for chunk in whole.chunks(CHUNK) {
            file.write_all(chunk).map_err(text("write"))?;
        }
        if !rest.is_empty() {
            let mut file = OpenOptions::new().append(true).open(&path).map_err(text("open"))?;
            file.write_all(rest).map_err(text("write"))?;
        }
        file.sync_all().map_err(text("sync"))?;
    }
    let directory = File::open(&job.directory).map_err(text("open the directory"))?;
    directory.sync_all().map_err(text("sync the directory"))
}
