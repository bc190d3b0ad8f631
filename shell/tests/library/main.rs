//! The library, used in this process. No test here changes the state of the process: a test that has to, runs itself in another
//! process (`kit::ran_alone`).

#[path = "../kit/mod.rs"]
mod kit;

// The code that reads bytes from outside and is not public, for `any_bytes`.
#[path = "../../src/bin/shell/cli/mod.rs"]
#[allow(dead_code, reason = "only the parser is used")]
mod cli;
#[path = "../../src/channel/transport/frame.rs"]
mod frame;
#[path = "../../src/bin/shell/ui"]
#[allow(dead_code, reason = "the parser names some of it")]
mod ui {
    pub mod candidates;
    pub mod terminal;
    pub mod units;
}
#[path = "../../src/discovery/wire.rs"]
#[allow(dead_code, reason = "only what reads is used")]
mod wire;
use whorl::internal::registry;

mod any_bytes;
mod channel_library;
mod dipc_fork;
mod dipc_wire;
mod futex;
mod hostile_host;
mod inputs;
mod limits;
mod names;
mod race;
mod reclaim;
mod threads;
