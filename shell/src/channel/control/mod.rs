//! The control thread of a sender, and what it knows of its receivers.
//!
//! | module | what it is |
//! |---|---|
//! | `thread` | the thread: it admits receivers, reclaims seats, and answers requests |
//! | `peers` | the table of receivers, and how each ended |
//! | `pending` | connections that have not joined yet |
//! | `progress` | what the data thread tells the control thread |
//! | `rate` | bytes and messages per second |
//! | `stall` | finds receivers that block the sender |

pub(crate) mod peers;
mod pending;
pub(crate) mod progress;
mod rate;
pub(crate) mod stall;
pub(crate) mod thread;
