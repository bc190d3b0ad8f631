//! The contenders, one file each, and Whorl itself.

use crate::contender::Contender;

pub mod crossbeam;
pub mod disruptor;
pub mod iceoryx;
pub mod ipc_channel;
pub mod raw_futex;
pub mod raw_word;
pub mod semaphores;
pub mod shaq;

pub use harness::contenders::{byte_streams, no_ring, pipes, sockets, tee};
pub use whorl::internal::contenders::ring as whorl_ring;

/// Returns all contenders, in the order of the tables.
pub fn all() -> Vec<&'static dyn Contender> {
    vec![
        &whorl_ring::Whorl,
        &iceoryx::Iceoryx { events: false },
        &iceoryx::Iceoryx { events: true },
        &shaq::Shaq { sleeping: true },
        &shaq::Shaq { sleeping: false },
        &pipes::Pipes,
        &sockets::Sockets,
        &tee::Tee,
        &ipc_channel::IpcChannel,
        &semaphores::Semaphores,
        &disruptor::Disruptor,
        &crossbeam::Crossbeam,
        &no_ring::NoRing,
        &raw_word::RawWord,
        &raw_futex::RawFutex,
    ]
}
