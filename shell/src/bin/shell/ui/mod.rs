//! What a person sees: the terminal, tables, units, exit codes, logs and completions.

pub mod candidates;
pub mod completion;
pub mod exit;
pub mod logging;
pub mod progress;
pub mod table;
pub mod terminal;
pub mod units;
