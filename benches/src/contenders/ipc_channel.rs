//! ipc-channel: a channel of bytes to each receiver. The sender sends every message once into each.

use crate::contender::{
    Contender, Latency, LatencyCase, LatencyParties, Stream, StreamCase, StreamParties, Unavailable, Wait,
};
use crate::contenders::byte_streams::{bytes, bytes_mut};
use crate::latency::{self, Echo, Link, Meter};
use crate::load;
use crate::role::{Pacer, Tally};
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, bytes_channel};

pub struct IpcChannel;

impl Contender for IpcChannel {
    fn name(&self) -> &'static str {
        "ipc-channel"
    }

    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        let channels: Result<Vec<_>, _> = (0..case.receivers).map(|_| bytes_channel()).collect();
        let (senders, receivers) = channels?.into_iter().unzip();
        Ok(Stream::Processes(Box::new(Parties { senders, receivers, case: *case })))
    }

    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        if case.wait == Wait::Spin {
            return Err(Unavailable::cannot("its receive call sleeps"));
        }
        let (there_sender, there_receiver) = bytes_channel()?;
        let (back_sender, back_receiver) = bytes_channel()?;
        let pair = Pair { ping: (there_sender, back_receiver), pong: (back_sender, there_receiver) };
        Ok(Latency::Processes(Box::new(pair)))
    }
}

struct Parties {
    senders: Vec<IpcBytesSender>,
    receivers: Vec<IpcBytesReceiver>,
    case: StreamCase,
}

impl StreamParties for Parties {
    fn send(self: Box<Self>, pace: &mut Pacer) {
        let Self { mut senders, receivers, case } = *self;
        // The sender notices a receiver's death only if no other process holds its end.
        drop(receivers);
        let mut message = vec![0u64; case.words()];
        pace.ready();
        loop {
            let batch = pace.batch(1);
            load::fill(&mut message, batch.stamp(0));
            senders.retain(|sender| sender.send(bytes(&message)).is_ok());
            if batch.last {
                return;
            }
        }
    }

    fn receive(self: Box<Self>, index: usize, tally: &mut Tally) {
        let Self { senders, mut receivers, case } = *self;
        let receiver = receivers.swap_remove(index);
        drop((senders, receivers));
        let mut words = vec![0u64; case.words()];
        tally.ready();
        while !tally.take(message(&receiver, &mut words)) {}
    }
}

/// Waits for a message, which arrives as bytes without a known alignment.
fn message<'a>(receiver: &IpcBytesReceiver, words: &'a mut [u64]) -> &'a [u64] {
    let message = receiver.recv().expect("a message");
    bytes_mut(words).copy_from_slice(&message);
    words
}

struct Pair {
    ping: (IpcBytesSender, IpcBytesReceiver),
    pong: (IpcBytesSender, IpcBytesReceiver),
}

struct End((IpcBytesSender, IpcBytesReceiver));

impl LatencyParties for Pair {
    fn ping(self: Box<Self>, meter: &mut Meter) {
        meter.run(&mut End(self.ping));
    }

    fn pong(self: Box<Self>, echo: &mut Echo) {
        echo.run(&mut End(self.pong));
    }
}

impl Link for End {
    fn send(&mut self, stamp: u64) {
        let mut words = [0u64; latency::WORDS];
        load::fill(&mut words, stamp);
        self.0.0.send(bytes(&words)).expect("a send");
    }

    fn receive(&mut self) -> u64 {
        latency::verified(message(&self.0.1, &mut [0u64; latency::WORDS]))
    }
}
