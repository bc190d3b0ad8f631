//! The parts of the full benches: the contenders from the registry, the targets, and the tables that compare figures
//! with them.
//!
//! `README.md` beside this crate says how to run the benches and what each figure means. The harness, and the
//! contenders that every machine has, are the package `whorl-harness`, which `shell bench` uses too.

pub mod contenders;
pub mod copying;
pub mod locks;
pub mod options;
pub mod report;
pub mod scale;
pub mod targets;

pub use harness::{
    clock, collect, contender, control, janitor, latency, load, many_connections, process, role, round_trips,
    servers, statistics, streams, waiting,
};
