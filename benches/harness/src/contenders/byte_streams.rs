//! What pipes and sockets have in common: one descriptor for each receiver, and the kernel copies in and out.

use crate::contender::{LatencyParties, StreamCase, StreamParties};
use crate::latency::{self, Echo, Link, Meter};
use crate::load;
use crate::role::{Pacer, Tally};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};

/// Both ends of every receiver's channel.
pub struct ByteStreams {
    pub writers: Vec<File>,
    pub readers: Vec<File>,
    pub case: StreamCase,
}

/// The most bytes of a write or read, unless one message alone is longer.
const MOST_BYTES: usize = 64 * 1024;

/// Returns how many messages go into one write or read.
fn messages_at_a_time(case: &StreamCase) -> usize {
    (MOST_BYTES / case.size).max(1)
}

impl StreamParties for ByteStreams {
    fn send(mut self: Box<Self>, pace: &mut Pacer) {
        // The sender notices a receiver's death only if no other process holds a reading end.
        self.readers.clear();
        let run = self.case.batch.min(messages_at_a_time(&self.case));
        let mut buffer = vec![0u64; run * self.case.words()];
        pace.ready();
        loop {
            let batch = pace.batch(run);
            for (i, message) in buffer.chunks_exact_mut(self.case.words()).enumerate() {
                load::fill(message, batch.stamp(i));
            }
            self.writers.retain_mut(|writer| match writer.write_all(bytes(&buffer)) {
                Ok(()) => true,
                Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => false,
                Err(e) => panic!("write: {e}"),
            });
            if batch.last {
                return;
            }
        }
    }

    fn receive(mut self: Box<Self>, index: usize, tally: &mut Tally) {
        receive_alone(&mut self.readers, &mut self.writers, index, &self.case, tally);
    }
}

/// Reads and checks messages from one reader until the last message. Closes all other ends in this process.
pub fn receive_alone(
    readers: &mut Vec<File>,
    writers: &mut Vec<File>,
    index: usize,
    case: &StreamCase,
    tally: &mut Tally,
) {
    let mut reader = readers.swap_remove(index);
    readers.clear();
    writers.clear();
    receive(&mut reader, case, tally);
}

/// Reads and checks messages until the last one.
fn receive(reader: &mut File, case: &StreamCase, tally: &mut Tally) {
    let mut buffer = vec![0u64; messages_at_a_time(case) * case.words()];
    tally.ready();
    loop {
        let mut filled = 0;
        while filled == 0 || filled % case.size != 0 {
            let got = reader.read(&mut bytes_mut(&mut buffer)[filled..]).expect("read");
            assert_ne!(got, 0, "the stream ended before its last message");
            filled += got;
        }
        for message in buffer[..filled / 8].chunks_exact(case.words()) {
            if tally.take(message) {
                return;
            }
        }
    }
}

/// A channel back and forth: what the measuring party writes and reads, then what the answering party does.
pub struct Duplex {
    pub ping: (File, File),
    pub pong: (File, File),
}

struct End {
    writer: File,
    reader: File,
}

impl LatencyParties for Duplex {
    fn ping(self: Box<Self>, meter: &mut Meter) {
        let (writer, reader) = self.ping;
        meter.run(&mut End { writer, reader });
    }

    fn pong(self: Box<Self>, echo: &mut Echo) {
        let (writer, reader) = self.pong;
        echo.run(&mut End { writer, reader });
    }
}

impl Link for End {
    fn send(&mut self, stamp: u64) {
        let mut message = [0u64; latency::WORDS];
        load::fill(&mut message, stamp);
        self.writer.write_all(bytes(&message)).expect("write");
    }

    fn receive(&mut self) -> u64 {
        let mut message = [0u64; latency::WORDS];
        self.reader.read_exact(bytes_mut(&mut message)).expect("read");
        latency::verified(&message)
    }
}

pub fn bytes(words: &[u64]) -> &[u8] {
    // SAFETY: this is the memory of `words`, seen as bytes.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

pub fn bytes_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: this is the memory of `words`, seen as bytes; any bytes are valid words.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}
