//! The commands, one file each: they turn arguments into calls of the library, and results into text.

pub mod bench;
pub mod completions;
pub mod copy;
pub mod dipc;
pub mod doctor;
pub mod ls;
pub mod mail;
pub mod man;
pub mod recv;
pub mod rm;
pub mod send;
pub mod serve;
pub mod servers;
pub mod survey;
pub mod top;
