//! How a channel's bytes travel.
//!
//! | module | what it is |
//! |---|---|
//! | `ring` | the ring, on the sender's side |
//! | `poll_waiters` | receivers that sleep in poll(2), and are told over their sockets |
//! | `incoming` | the receiver's side of either transport |
//! | `ring_receiver` | a seat in the ring, on the receiver's side |
//! | `stream` | a socket, on the receiver's side |
//! | `frame` | the frames in that socket |
//! | `payload` | what a receiver takes, still where it lies |

pub(crate) mod frame;
pub(crate) mod incoming;
pub(crate) mod payload;
mod poll_waiters;
pub(crate) mod ring;
pub(crate) mod ring_receiver;
pub(crate) mod stream;
