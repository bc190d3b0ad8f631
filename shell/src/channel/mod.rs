//! Channels with names: one sender, and receivers that find it, in any order.
//!
//! ```text
//! receiver                        NAME.sock                    the sender's desk (one thread)
//!   connect, "join" ------------------------------------------>  lets it in
//!   <------------------------------ the segment's two objects --
//!   checks their seals, maps them, locks a seat's byte, sits
//!   "seated" ------------------------------------------------->  admits it
//!   reads the ring; nothing more is said until the end
//!   "bye" ---------------------------------------------------->  counts it
//!   (hang-up without a word: looks whether the seat's byte is free, and buries)
//! ```
//!
//! Nothing outlives its process but a socket file or a wait file, each of which is recognised as dead.

mod desk;
mod error;
pub(crate) mod flow;
mod guests;
mod join;
mod newcomers;
mod rate;
mod receiver;
mod ring;
mod sender;
mod sleepers;
mod stream;
mod stuck;
pub(crate) mod transport;

pub use desk::{ProgressObserver, Snapshot};
pub use error::{CreateError, JoinError, ReceiveError, SendError};
pub use guests::PeerSummary;
pub use receiver::{JoinOptions, Received, Receiver};
pub(crate) use receiver::{Patience, Payload};
pub use sender::{Sender, SenderOptions, Slot};

/// What another transport's owner is made of.
pub(crate) mod owner {
    pub(crate) use super::desk::{ControlThread, JoinGrant, Lag, SendStatus, Transport};
    pub(crate) use super::guests::{ClientCounter, PeerTable, WaitEnd};
    pub(crate) use super::stuck::StallDetector;
}
