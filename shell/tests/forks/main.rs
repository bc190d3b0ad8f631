//! A program forks: its child holds none of the locks and sockets by which others know that the program lives, whatever the
//! program's other threads do just then, and keeps what is not theirs.

#[path = "../common/mod.rs"]
mod common;
#[path = "../dipc_support/mod.rs"]
mod dipc_support;
mod hard;
#[path = "../home/mod.rs"]
mod home;
mod sweep;
mod victim;
