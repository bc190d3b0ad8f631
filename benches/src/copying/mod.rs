//! Copies of one file to many: what every machine has is `measure`'s; here is what only this package asks.

pub mod baseline;
pub mod command;
pub mod direct;

pub use harness::copying::*;
