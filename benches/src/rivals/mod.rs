//! The rivals, a file for each, and Whorl itself.

use crate::rival::Rival;

pub mod byte_streams;
pub mod crossbeam;
pub mod disruptor;
pub mod iceoryx;
pub mod ipc_channel;
pub mod no_ring;
pub mod pipes;
pub mod raw_futex;
pub mod raw_word;
pub mod semaphores;
pub mod shaq;
pub mod sockets;
pub mod tee;
pub mod whorl;

/// Everybody, in the order of the tables.
pub fn all() -> Vec<Box<dyn Rival>> {
    vec![
        Box::new(whorl::Whorl),
        Box::new(iceoryx::Iceoryx { events: false }),
        Box::new(iceoryx::Iceoryx { events: true }),
        Box::new(shaq::Shaq { sleeping: true }),
        Box::new(shaq::Shaq { sleeping: false }),
        Box::new(pipes::Pipes),
        Box::new(sockets::Sockets),
        Box::new(tee::Tee),
        Box::new(ipc_channel::IpcChannel),
        Box::new(semaphores::Semaphores),
        Box::new(disruptor::Disruptor),
        Box::new(crossbeam::Crossbeam),
        Box::new(no_ring::NoRing),
        Box::new(raw_word::RawWord),
        Box::new(raw_futex::RawFutex),
    ]
}
