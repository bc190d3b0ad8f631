//! The mailbox server: a wire format that can be typed by hand, and what serves it.
//!
//! | module | what it is |
//! |---|---|
//! | [`wire`] | the first line of a request, as a pure function over bytes |
//! | [`reply`] | the lines that go back |
//! | [`budget`] | memory for data in flight, bounded for all connections together |
//! | [`session`] | one connection's dialogue: bytes in, replies out, no socket and no clock |

pub mod budget;
pub mod reply;
pub mod session;
pub mod wire;
