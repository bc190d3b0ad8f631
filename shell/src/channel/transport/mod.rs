//! How a channel's bytes travel.
//!
//! | module | what it is |
//! |---|---|
//! | `ring` | through the shared-memory ring |
//! | `poll_waiters` | receivers that sleep in poll(2), and are told over their sockets |
//! | `stream` | through a socket, on the receiver's side |
//! | `frame` | the frames in that socket |

pub(crate) mod frame;
mod poll_waiters;
pub(crate) mod ring;
pub(crate) mod stream;
