//! The means that every Linux machine has to carry a stream to many receivers, one file each.

pub mod byte_streams;
pub mod no_ring;
pub mod pipes;
pub mod sockets;
pub mod tee;
