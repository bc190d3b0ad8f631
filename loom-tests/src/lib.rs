//! Core's own modules, compiled a second time against loom, and the helpers of the models in `tests/`.
//!
//! The list below names core's files by path. [`sync`] is the only module that differs between the two builds, so the
//! models try the code that users run. `layout/` is left out, because it casts bytes, which loom cannot own. No other
//! module of core depends on it.
//!
//! `cargo test -p loom-tests` runs all models. `LOOM_MAX_PREEMPTIONS=N` bounds all of them, `WHORL_LOOM_LONG=1` makes
//! some longer and deeper, and `WHORL_LOOM_ANY_COUNT=1` accepts any number of executions. `loom-tests/mutants` weakens
//! core in every place that matters, and expects a model to fail each time.

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

pub mod lock;
pub mod memory;
pub mod model;
pub mod parking;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod stacks;
pub mod sync;
