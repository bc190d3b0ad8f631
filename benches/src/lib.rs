//! What only the full benches have: the rivals from the registry, the targets, and the tables that hold figures against them.
//!
//! `README.md` beside this crate says how to run the benches and what each figure means. The harness, and the rivals that
//! every machine has, are the package `measure`, which `shell bench` uses too.

pub mod copying;
pub mod locks;
pub mod options;
pub mod report;
pub mod rivals;
pub mod scale;
pub mod targets;

pub use harness::{
    clock, collect, control, crowd, janitor, latency, load, party, process, rival, servers, statistics,
    streams, waiting,
};
