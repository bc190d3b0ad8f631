//! Named channels: one sender and its receivers, which start in any order and find each other by name.
//!
//! ```text
//! receiver                        NAME.sock                    the sender's control thread
//!   connects, sends Join ------------------------------------->  accepts it
//!   <------------------------------ the segment's two objects --
//!   checks their seals, maps them, locks a seat's byte, occupies the seat
//!   sends Seated --------------------------------------------->  admits it
//!   reads the ring; the socket stays silent until the end
//!   sends Disconnect ----------------------------------------->  counts it
//!   (closed without it: the thread checks whether the seat's byte is free, and reclaims the seat)
//! ```
//!
//! Only a socket file or a wait file can outlive its process. The registry recognises each as stale.

mod batch;
mod claim;
pub(crate) mod control;
mod error;
mod join;
mod options;
mod receiver;
mod sender;
pub(crate) mod transport;

pub use batch::Batch;
pub use claim::Claim;
pub use control::peers::PeerSummary;
pub use control::state::{ProgressObserver, Snapshot};
pub use error::{CreateError, JoinError, ReceiveError, SendError};
pub use options::{ReceiverOptions, SenderOptions};
pub use receiver::{Received, Receiver};
pub use sender::Sender;
pub(crate) use sender::SenderSetup;
