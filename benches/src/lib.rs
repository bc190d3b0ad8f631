//! What the benches share: a harness for measurements between processes, and the rivals of Whorl's ring and copy.
//!
//! `README.md` beside this crate says how to run the benches and what each figure means.
//!
//! A bench forks its parties anew for every single run ([`process`]), before any thread exists; they meet at a barrier in
//! shared memory ([`control`]) and run until the parent says stop ([`party`]), or until a deadline kills them.

pub mod clock;
pub mod collect;
pub mod control;
pub mod copying;
pub mod janitor;
pub mod latency;
pub mod load;
pub mod locks;
pub mod options;
pub mod party;
pub mod process;
pub mod report;
pub mod rival;
pub mod rivals;
pub mod statistics;
pub mod streams;
pub mod targets;
pub mod waiting;
