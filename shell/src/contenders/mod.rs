//! Whorl as a contender of the package `whorl-harness`, for `shell bench` and the full benches. It uses the library as any other
//! program does.

pub mod lock;
pub mod mailboxes;
pub mod ring;
