//! A program forks. Its child holds none of the locks and sockets that show that the program lives, whatever the
//! program's other threads are doing. The child keeps all other descriptors.

#[path = "../kit/mod.rs"]
mod kit;

mod hard;
mod sweep;
mod victim;
