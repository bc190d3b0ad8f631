//! Servers that announce themselves in a directory, and asking all of them.
//!
//! A server writes an information file and gives each client two messages: one over TCP, one through shared memory. What
//! reaches a client says where the server runs: both ways, on this host; the socket alone, in a container that shares
//! its network; neither, on another machine.

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
