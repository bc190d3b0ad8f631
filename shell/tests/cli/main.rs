//! The command, started as a child process. No test here changes the state of its own process.

#[path = "../common/mod.rs"]
mod common;
#[path = "../home/mod.rs"]
mod home;
#[cfg(feature = "cli")]
#[path = "../terminal/mod.rs"]
mod terminal;

mod copy_output;
mod copy_refuses;
mod copy_works;
mod doctor;
mod errors;
mod help;
mod ls_rm;
mod send_recv;
#[cfg(feature = "cli")]
mod top;
