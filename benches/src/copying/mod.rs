//! The copiers of this package. `whorl-harness` has the copiers that every machine has.

pub mod baseline;
pub mod command;
pub mod direct;

pub use harness::copying::*;
