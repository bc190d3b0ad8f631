//! A harness for measurements between processes, and contenders that every Linux machine has: pipes, sockets, `tee`,
//! `cp`, the C library's lock. `shell bench` and the package `benches` use it. It does not depend on Whorl, which is
//! one more contender.
//!
//! Parties are forked anew for every run ([`process`]), before any thread exists. They meet at a barrier in shared
//! memory ([`control`]). They run until the parent stops them ([`role`]), until their schedule ends ([`schedule`]), or
//! until a deadline kills them.

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
