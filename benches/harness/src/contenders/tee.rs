//! tee(2): the sender lends its pages to a pipe (vmsplice), and duplicates that pipe's content into each receiver's
//! pipe without a copy. Receivers read.

use crate::contender::{Contender, Stream, StreamCase, StreamParties, Unavailable};
use crate::contenders::byte_streams;
use crate::contenders::pipes::{pipe, widen};
use crate::control::map_shared;
use crate::load;
use crate::role::{Pacer, Tally};
use std::fs::File;
use std::os::fd::AsRawFd;

const PAGE: usize = 4096;

pub struct Tee;

impl Contender for Tee {
    fn name(&self) -> &'static str {
        "tee(2)"
    }

    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        let (mut readers, mut writers, mut room) = (Vec::new(), Vec::new(), 0);
        for _ in 0..case.receivers {
            let (reader, writer) = pipe()?;
            room = widen(&writer, case.slots * case.size);
            readers.push(reader);
            writers.push(writer);
        }
        let (master_reader, master_writer) = pipe()?;
        Ok(Stream::Processes(Box::new(Parties {
            master: (master_reader, master_writer),
            writers,
            readers,
            room,
            case: *case,
        })))
    }

    fn mortal(&self) -> Result<(), Unavailable> {
        Err(Unavailable::cannot("would repeat the figures of pipes"))
    }
}

struct Parties {
    master: (File, File),
    writers: Vec<File>,
    readers: Vec<File>,
    /// The number of pages that a receiver's pipe holds.
    room: usize,
    case: StreamCase,
}

impl StreamParties for Parties {
    fn send(mut self: Box<Self>, pace: &mut Pacer) {
        self.readers.clear();
        let Self { master, writers, room, case, .. } = *self;
        // Short messages share a page; each page is duplicated whole or not at all.
        let run = case.batch.min(PAGE / case.size).max(1);
        let bytes = run * case.size;
        let pages = bytes.div_ceil(PAGE);
        // A page may be written again once it has left every pipe, which is when `room` later pages have entered each
        // of them.
        let ring = room + 1 + pages;
        let memory = map_shared((ring + pages) * PAGE);
        let mut place = 0;
        pace.ready();
        loop {
            let batch = pace.batch(run);
            // The messages of a batch lie side by side. A batch starts a page and does not wrap.
            // SAFETY: `place + pages` is within the mapping.
            let start = unsafe { memory.add(place * PAGE) };
            for i in 0..run {
                // SAFETY: within the batch's pages, which have left all pipes.
                unsafe { load::fill_at(start.add(i * case.size).cast(), case.words(), batch.stamp(i)) };
            }
            for page in 0..pages {
                let len = PAGE.min(bytes - page * PAGE);
                // SAFETY: within the batch.
                lend(&master.1, unsafe { start.add(page * PAGE) }, len);
                let (last, others) = writers.split_last().expect("a receiver");
                others.iter().for_each(|writer| duplicate(&master.0, writer, len));
                hand_over(&master.0, last, len);
            }
            place = if place + pages >= ring { 0 } else { place + pages };
            if batch.last {
                return;
            }
        }
    }

    fn receive(mut self: Box<Self>, index: usize, tally: &mut Tally) {
        byte_streams::receive_alone(&mut self.readers, &mut self.writers, index, &self.case, tally);
    }
}

fn lend(to: &File, start: *mut u8, len: usize) {
    let range = libc::iovec { iov_base: start.cast(), iov_len: len };
    // SAFETY: the range is mapped for the life of the process.
    let lent = unsafe { libc::vmsplice(to.as_raw_fd(), &range, 1, 0) };
    assert_eq!(lent, len as isize, "vmsplice: {}", std::io::Error::last_os_error());
}

fn duplicate(from: &File, to: &File, len: usize) {
    // SAFETY: a plain call on two pipes.
    let done = unsafe { libc::tee(from.as_raw_fd(), to.as_raw_fd(), len, 0) };
    assert_eq!(done, len as isize, "tee: {}", std::io::Error::last_os_error());
}

fn hand_over(from: &File, to: &File, len: usize) {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: a plain call on two pipes.
    let done = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), len, 0) };
    assert_eq!(done, len as isize, "splice: {}", std::io::Error::last_os_error());
}
