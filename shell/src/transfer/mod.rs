//! One source to many receivers, each of which writes a file or a stream of its own.
//!
//! ```text
//!  copy   plan -> fork -> ring, or sockets        forked:  receive -> destination, report
//!  send   name         -> ring, or sockets        recv:    join, receive -> destination
//!                         send_loop  fan_out
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `copy`, `plan` | one source to forked receivers: the run, and what is checked before the first fork |
//! | `forked`, `report` | the work of a forked receiver, and its report |
//! | `send` | one source to receivers that find it by a name |
//! | `send_loop` | a source into a ring |
//! | `fan_out`, `connections`, `window` | a source into many sockets |
//! | `recv` | a named channel into a file or a descriptor |
//! | `receive` | what every receiver does with a stream |
//! | `source`, `destination`, `names`, `checksum` | where bytes come from and go to |

mod checksum;
mod connections;
mod copy;
mod destination;
mod fan_out;
mod forked;
mod line_loop;
mod names;
mod plan;
mod receive;
mod recv;
mod report;
mod send;
mod send_loop;
mod source;
mod window;

pub use crate::registry::status::TransportKind;
pub use checksum::{Sum, hex};
pub use copy::{Outcome, PeerOutcome, copy};
pub use destination::{DestinationError, Warning, WriteOptions, write_file};
pub use names::{STDIN_NAME, Template, TemplateError};
pub use plan::{CopyError, MAX_PEERS, Plan};
pub use recv::{Receipt, RecvError, RecvPlan, recv};
pub use report::Fault;
pub use send::{SendPlan, SendingError, Sent, send};
pub use source::SourceError;
