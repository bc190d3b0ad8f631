//! The control thread of a sender, and what it knows of its receivers.
//!
//! | module | what it is |
//! |---|---|
//! | `thread` | the thread and its loop |
//! | `clients` | the connections to a named channel |
//! | `forked` | receivers that this process has forked |
//! | `state` | the state of the channel, and the reports of it |
//! | `peers` | the table of receivers, and how each ended |
//! | `pending` | connections that have not joined yet |
//! | `progress` | the data thread's counters for the control thread |
//! | `rate` | bytes and messages per second |
//! | `stall` | finds receivers that block the sender |

mod clients;
pub(crate) mod forked;
pub(crate) mod peers;
mod pending;
pub(crate) mod progress;
mod rate;
pub(crate) mod stall;
pub(crate) mod state;
pub(crate) mod thread;
