//! Several messages that receivers see together.

use super::error::SendError;
use super::sender::Sender;
use std::fmt;

/// Messages that receivers see together, once the batch is published or dropped. One publish for many messages is cheaper
/// than one for each. A batch that fills the ring is published in parts.
///
/// ```no_run
/// use whorl::Sender;
///
/// let mut sender = Sender::create(&"ticker".parse()?)?;
/// let mut batch = sender.batch();
/// for price in ["17.20", "17.25", "17.10"] {
///     batch.send(price.as_bytes())?;
/// }
/// batch.publish();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Batch<'s> {
    sender: &'s mut Sender,
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("sender", &self.sender).finish()
    }
}

impl Sender {
    /// Starts a batch: messages that receivers see together.
    pub fn batch(&mut self) -> Batch<'_> {
        Batch { sender: self }
    }
}

impl Batch<'_> {
    /// Adds a message.
    ///
    /// # Blocking
    /// As [`Sender::send`]. If there is no room, the messages before this one are published first.
    ///
    /// # Errors
    /// As [`Sender::send`]. The messages before this one stay in the batch.
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let size = self.sender.size_of(message)?;
        self.sender.wait_for_space(size, None)?;
        self.sender.stage(message)
    }

    /// Adds a message if the ring has room. Never waits. If there is no room, the messages before this one are published.
    ///
    /// # Errors
    /// [`SendError::Full`], or an error of [`Sender::send`].
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.stage(message)
    }

    /// Publishes the batch.
    pub fn publish(self) {}
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.sender.publish();
    }
}
