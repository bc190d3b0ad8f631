//! The code that the targets run. `core/tests/hostile_words.rs` and `shell/tests/any_bytes.rs` run these functions over
//! seeds and random bytes, so they are also tested without a fuzzer.

#[path = "../../shell/src/bin/shell/cli/mod.rs"]
#[allow(dead_code, reason = "only the parser is used")]
mod cli;
#[path = "../../shell/tests/dipc_harness/mod.rs"]
mod dipc_harness;
#[path = "../../shell/tests/dipc_oracle/mod.rs"]
mod dipc_oracle;
#[path = "../../shell/src/channel/transport/frame.rs"]
mod frame;
#[path = "../../core/tests/hostile/mod.rs"]
pub mod hostile;
#[path = "../../shell/tests/inputs/mod.rs"]
pub mod inputs;
#[path = "../../shell/src/bin/shell/ui"]
#[allow(dead_code, reason = "the parser names some of it")]
mod ui {
    pub mod completion;
    pub mod terminal;
    pub mod units;
}
#[path = "../../shell/src/discovery/wire.rs"]
#[allow(dead_code, reason = "only what reads is used")]
mod wire;
use whorl::registry;
