//! Servers that announce themselves in a directory, and queries to all of them.
//!
//! A server writes an information file and gives each client two messages: one over TCP, one through shared memory.
//! What reaches a client shows where the server runs: both on this host, only TCP in a container that shares its
//! network, and neither on another machine.

mod client;
mod file;
mod options;
mod reachable;
mod server;
mod wire;

pub use client::{Answer, Reach, discover};
pub use file::{FileError, Information};
pub use options::ServerOptions;
pub use server::{Server, ServerError};
