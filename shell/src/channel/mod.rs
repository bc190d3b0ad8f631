//! Named channels: one sender and its receivers, which start in any order and find each other by name.
//!
//! ```text
//! receiver                        NAME.sock                    the sender's control thread
//!   connects, sends Join ------------------------------------->  accepts it
//!   <------------------------------ the segment's two objects --
//!   checks their seals, maps them, locks a seat's byte, occupies the seat
//!   sends Seated --------------------------------------------->  admits it
//!   reads the ring; the socket stays silent until the end
//!   sends Bye ------------------------------------------------>  counts it
//!   (closed without Bye: the thread checks whether the seat's byte is free, and reclaims the seat)
//! ```
//!
//! Only a socket file or a wait file can outlive its process. The registry recognises each as stale.

pub(crate) mod control;
mod error;
mod join;
mod options;
mod receiver;
mod sender;
pub(crate) mod transport;

pub use control::peers::PeerSummary;
pub use control::thread::{ProgressObserver, Snapshot};
pub use error::{CreateError, JoinError, ReceiveError, SendError};
pub use options::{ReceiverOptions, SenderOptions};
pub(crate) use receiver::{Deadline, Payload};
pub use receiver::{Received, Receiver};
pub use sender::{Sender, Slot};

/// What a sender over another transport is built from.
pub(crate) mod owner {
    pub(crate) use crate::channel::control::peers::{ClientCounter, PeerTable, WaitEnd};
    pub(crate) use crate::channel::control::stall::StallDetector;
    pub(crate) use crate::channel::control::thread::{ControlThread, JoinGrant, Lag, SendStatus, Transport};
}
