//! Unix stream sockets: one connection for each receiver. The sender writes every message once into each.

use crate::contender::{Contender, Latency, LatencyCase, Stream, StreamCase, Unavailable, Wait};
use crate::contenders::byte_streams::{ByteStreams, Duplex};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

pub struct Sockets;

impl Contender for Sockets {
    fn name(&self) -> &'static str {
        "unix socket"
    }

    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        let (mut readers, mut writers) = (Vec::new(), Vec::new());
        for _ in 0..case.receivers {
            let (reader, writer) = UnixStream::pair()?;
            readers.push(file(reader));
            writers.push(file(writer));
        }
        Ok(Stream::Processes(Box::new(ByteStreams { writers, readers, case: *case })))
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        if case.wait == Wait::Spin {
            return Err(Unavailable::cannot("reads sleep"));
        }
        let (here, there) = UnixStream::pair()?;
        let ping = (file(here.try_clone()?), file(here));
        let pong = (file(there.try_clone()?), file(there));
        Ok(Latency::Processes(Box::new(Duplex { ping, pong })))
    }
}

fn file(socket: UnixStream) -> File {
    File::from(OwnedFd::from(socket))
}
