//! Bytes from outside, and what reads them. `shell/tests/any_bytes.rs` and the fuzz targets (`fuzz/`) run the same
//! functions: each takes any bytes, returns whether they were understood, and panics where they are taken wrongly.
//!
//! Whoever takes this in has, at the crate's root: `cli` and what it needs, `rendezvous`, `frame`, `wire`, and the mailbox
//! protocol's harness and oracle.
#![allow(dead_code, reason = "each user takes a part of it")]

pub mod arguments;
pub mod dipc;
pub mod frames;
pub mod information;
