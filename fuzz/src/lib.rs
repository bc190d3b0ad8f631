//! The code that the targets run. `core/tests/hostile_words.rs` and `shell/tests/library/any_bytes.rs` run these functions over
//! seeds and random bytes, so they are also tested without a fuzzer.

#[path = "../../shell/src/bin/shell/cli/mod.rs"]
#[allow(dead_code, reason = "only the parser is used")]
mod cli;
#[path = "../../shell/src/channel/transport/frame.rs"]
mod frame;
#[path = "../../core/tests/hostile/mod.rs"]
pub mod hostile;
#[path = "../../shell/tests/library/inputs/mod.rs"]
pub mod inputs;
#[path = "../../shell/tests/kit"]
#[allow(dead_code, reason = "only what reads conversations is used")]
mod kit {
    pub mod oracle;
    pub mod session;
}
#[path = "../../shell/src/bin/shell/ui"]
#[allow(dead_code, reason = "the parser names some of it")]
mod ui {
    pub mod candidates;
    pub mod terminal;
    pub mod units;
}
#[path = "../../shell/src/discovery/wire.rs"]
#[allow(dead_code, reason = "only what reads is used")]
mod wire;
use whorl::internal::registry;
