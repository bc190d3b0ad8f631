//! The receiver's end of a channel, over either transport.

use crate::channel::error::ReceiveError;
use crate::channel::transport::payload::{Deadline, Payload, Taken};
use crate::channel::transport::ring_receiver::RingReceiver;
use crate::channel::transport::stream::Stream;
use crate::registry::Client;

/// The source of a receiver's bytes.
pub(crate) enum Incoming {
    Ring(RingReceiver),
    Stream(Stream),
}

impl Incoming {
    /// Passes the next payload to `take`, which may use it only while it runs. If `take` refuses a payload, the next
    /// call passes it again. `client` is the connection to the sender's control thread, if there is one.
    ///
    /// # Blocking
    /// Until `deadline`, for the sender, which may send, end, evict this receiver, or die.
    ///
    /// # Errors
    /// The error of `take`, or the reason that nothing more arrives.
    pub(crate) fn take<T, E: From<ReceiveError>>(
        &mut self,
        client: Option<&Client>,
        deadline: Deadline,
        gathers: bool,
        take: impl FnOnce(Payload<'_>) -> Result<T, E>,
    ) -> Result<Taken<T>, E> {
        match self {
            Self::Ring(ring) => ring.take(client, deadline, gathers, take),
            Self::Stream(stream) => stream.take(client, deadline, take),
        }
    }
}
