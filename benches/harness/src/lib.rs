//! The harness for measurements between processes, and the contenders that every Linux machine has: pipes, sockets, `tee`, `cp`,
//! the C library's lock. `shell bench` and the package `benches` use it; it knows nothing of Whorl, which is one more contender.
//!
//! Parties are forked anew for every single run ([`process`]), before any thread exists; they meet at a barrier in shared
//! memory ([`control`]) and run until the parent says stop ([`role`]), until their schedule ends ([`schedule`]), or until
//! a deadline kills them.

pub mod clock;
pub mod collect;
pub mod contender;
pub mod contenders;
pub mod control;
pub mod copying;
pub mod janitor;
pub mod latency;
pub mod load;
pub mod locks;
pub mod many_connections;
pub mod process;
pub mod role;
pub mod round_trips;
pub mod schedule;
pub mod servers;
pub mod statistics;
pub mod streams;
pub mod timing;
pub mod waiting;
