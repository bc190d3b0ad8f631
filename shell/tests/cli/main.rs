//! The command, started as a child process. No test here changes the state of its own process.

#[path = "../common/mod.rs"]
mod common;
#[path = "../home/mod.rs"]
mod home;
#[path = "../terminal/mod.rs"]
mod terminal;

mod copy_output;
mod copy_refuses;
mod copy_works;
mod doctor;
mod errors;
mod files;
mod help;
mod logs;
mod ls_rm;
mod messages;
mod send_recv;
mod streams;
#[cfg(feature = "cli")]
mod top;
