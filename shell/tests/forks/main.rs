//! A program forks: its child holds none of the locks and sockets by which others know that the program lives, whatever the
//! program's other threads do just then, and keeps what is not theirs.

#[path = "../kit/mod.rs"]
mod kit;

mod hard;
mod sweep;
mod victim;
