//! Bytes from outside, and the code that reads them. `shell/tests/library/any_bytes.rs` and the fuzz targets (`fuzz/`)
//! run the same functions. Each takes any bytes, returns whether they were accepted, and panics if the code handled
//! them wrongly.
//!
//! A crate that includes this module has at its root: `cli` and what it needs, `frame`, `wire`, and the test kit's
//! session and oracle.
#![allow(dead_code, reason = "each user takes a part of it")]

pub mod arguments;
pub mod dipc;
pub mod frames;
pub mod information;
