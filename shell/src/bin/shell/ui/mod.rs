//! What a person sees: the terminal, tables, units, usage errors, exit codes, logs and completions.

pub mod base64;
pub mod candidates;
pub mod completion;
pub mod exit;
pub mod logging;
pub mod progress;
pub mod table;
pub mod terminal;
pub mod units;
pub mod usage;
