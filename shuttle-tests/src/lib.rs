//! Core's own modules, compiled another time against shuttle, and the helpers of the runs in `tests/`.
//!
//! Loom tries every interleaving of two or three threads. Shuttle tries random interleavings of many threads. Its PCT
//! scheduler tries interleavings with few, well-placed preemptions. Shuttle is sequentially consistent, so loom checks
//! the orderings and fences. The list below names core's files by path, as loom-tests does; [`sync`] is the only module
//! that differs.
//!
//! Run it with `cargo test -p shuttle-tests`. `WHORL_SHUTTLE_LONG=1` tries a hundred times as many schedules. A failure
//! prints its schedule, which `shuttle::replay` takes.

#![allow(missing_debug_implementations, reason = "no test prints these")]

#[path = "../../core/src/error.rs"]
pub mod error;
#[path = "../../core/src/event_count.rs"]
pub mod event_count;
#[path = "../../core/src/host.rs"]
pub mod host;
#[path = "../../core/src/mailbox.rs"]
pub mod mailbox;
#[path = "../../core/src/ring/mod.rs"]
pub mod ring;
#[path = "../../core/src/rwlock/mod.rs"]
pub mod rwlock;
#[path = "../../core/src/seat.rs"]
pub mod seat;
#[path = "../../core/src/sequence.rs"]
pub mod sequence;

pub mod memory;
pub mod parking;
pub mod run;
pub mod sync;
