//! Whorl as one of the parties of the package `measure`: what `shell bench` and the full benches ask, through the library as
//! anybody would use it.

pub mod lock;
pub mod mailboxes;
pub mod ring;
