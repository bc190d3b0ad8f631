//! Core's own modules, compiled another time against shuttle, and what its runs in `tests/` need.
//!
//! Loom tries every interleaving of two or three threads; shuttle tries random ones of many, and with its PCT scheduler such
//! as have few, well-placed preemptions. It knows sequential consistency only: orderings and fences are loom's business.
//! The list below names core's files by path, as loom-tests does; [`sync`] is the only module that differs.
//!
//! `cargo test -p shuttle-tests`; `WHORL_SHUTTLE_LONG=1` tries a hundred times as many schedules. A failure prints its
//! schedule, which `shuttle::replay` takes.

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
