//! The control protocol, over the socket of a channel or a mailbox server: fixed little-endian records, one in each packet.
//!
//! ```text
//! every record    0 magic "WHMT"   4 version   8 kind   12 argument   16..32 token
//!
//! a client sends  1 join        argument 0: from the first item, 1: from the next; answer: ring, stream or refused
//!                 2 status      answer: report
//!                 3 stop        answer: stopping
//!                 4 seated      argument: the seat that the client has taken; the owner admits it
//!                 5 armed       the client will wait in its own event loop; answer: changed, at once and at each change
//!                 6 disconnect  argument: why (`DisconnectReason`)
//!                 7 attach      to a mailbox server; answer: mailboxes or refused
//! an owner sends  16 ring       argument: a seat to try first; two descriptors: data, control
//!                 17 stream     one descriptor: a stream of frames
//!                 18 refused    argument: why (`Refusal`)
//!                 19 report     the report's own bytes follow the record
//!                 20 stopping   the owner is ending
//!                 21 changed    the client checks its channel again
//!                 22 evicted    the client was too slow and gets nothing more
//!                 23 mailboxes  one descriptor; the process is attached as long as the connection is open
//! ```
//!
//! The first eight bytes never change their meaning. So a process that meets another version can name both versions. All
//! connections of one run of a program carry the same token.

use thiserror::Error;

/// The version that this program speaks.
pub const VERSION: u32 = 1;
/// Bytes of a record.
pub const RECORD: usize = 32;
/// Bytes of the longest packet. Only a report is that long.
pub const LONGEST: usize = 64 * 1024;

const MAGIC: u32 = u32::from_le_bytes(*b"WHMT");

/// Identifies one run of a program. Zeros stand for no particular run.
pub type Token = [u8; 16];

/// Where in the stream a receiver begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// At its first byte. The owner refuses a receiver that comes too late for that.
    #[default]
    First,
    /// At the next item that is sent.
    Now,
}

/// Why a receiver leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DisconnectReason {
    /// It has the whole stream.
    Done,
    /// It wants no more of the stream.
    Left,
    /// It failed on its own side.
    Failed,
}

/// Why an owner refuses a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Every seat is taken.
    #[error("every seat is taken")]
    Full,
    /// The client asked for the first byte, which is gone.
    #[error("the stream has begun and its first bytes are gone; --from now joins at what comes next")]
    Missed,
    /// The stream is ending.
    #[error("the stream is ending")]
    Over,
    /// The owner has no descriptors or memory left.
    #[error("its owner has no descriptors or memory left for another receiver")]
    Unable,
    /// The client was connected for too long without a request, or another client needed its place.
    #[error("nothing was asked for in time")]
    Silent,
}

/// A message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlMessage {
    /// From a client: let it join.
    Join(Start),
    /// From a client: send a report.
    Status,
    /// From a client: end.
    Stop,
    /// From a client: it has taken this seat.
    Seated(u32),
    /// From a client: notify it of changes.
    Armed,
    /// From a client: it leaves.
    Disconnect(DisconnectReason),
    /// From a client: attach it to the mailboxes.
    Attach,
    /// From an owner: the ring, and a seat to try first.
    Ring(u32),
    /// From an owner: the client's own stream.
    Stream,
    /// From an owner: the request is refused.
    Refused(Refusal),
    /// From an owner: a report, which follows the record.
    Report,
    /// From an owner: it is ending.
    Stopping,
    /// From an owner: something changed.
    Changed,
    /// From an owner: the client was too slow and gets nothing more.
    Evicted,
    /// From an owner: the mailboxes.
    Mailboxes,
}

/// A message with its token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The message.
    pub message: ControlMessage,
    /// The run of the program that sends it.
    pub token: Token,
}

/// Why the bytes that arrived are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The peer speaks another version.
    #[error(
        "the peer speaks version {0} of the control protocol, this program version {VERSION}; use the same release on both sides"
    )]
    Version(u32),
    /// They follow no version of this protocol.
    #[error("the peer does not speak the control protocol")]
    Malformed,
}

impl Record {
    /// Returns a record without a token.
    pub fn plain(message: ControlMessage) -> Self {
        Self { message, token: Token::default() }
    }

    /// Encodes the record.
    pub fn encode(self) -> [u8; RECORD] {
        let (kind, argument) = match self.message {
            ControlMessage::Join(from) => (1, u32::from(from == Start::Now)),
            ControlMessage::Status => (2, 0),
            ControlMessage::Stop => (3, 0),
            ControlMessage::Seated(seat) => (4, seat),
            ControlMessage::Armed => (5, 0),
            ControlMessage::Disconnect(how) => (6, how as u32),
            ControlMessage::Attach => (7, 0),
            ControlMessage::Ring(seat) => (16, seat),
            ControlMessage::Stream => (17, 0),
            ControlMessage::Refused(why) => (18, why as u32),
            ControlMessage::Report => (19, 0),
            ControlMessage::Stopping => (20, 0),
            ControlMessage::Changed => (21, 0),
            ControlMessage::Evicted => (22, 0),
            ControlMessage::Mailboxes => (23, 0),
        };
        let mut bytes = [0; RECORD];
        for (to, word) in bytes.chunks_exact_mut(4).zip([MAGIC, VERSION, kind, argument]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes[16..].copy_from_slice(&self.token);
        bytes
    }

    /// Decodes the record at the start of a packet.
    ///
    /// # Errors
    /// The record is of another version, or the bytes are no record.
    pub fn decode(packet: &[u8]) -> Result<Self, ProtocolError> {
        let word = |at: usize| {
            let four = packet.get(at..at + 4).and_then(|four| four.try_into().ok());
            four.map(u32::from_le_bytes).ok_or(ProtocolError::Malformed)
        };
        match (word(0)?, word(4)?) {
            (MAGIC, VERSION) => {}
            (MAGIC, other) => return Err(ProtocolError::Version(other)),
            _ => return Err(ProtocolError::Malformed),
        }
        let token = packet.get(16..RECORD).and_then(|token| token.try_into().ok());
        let token = token.ok_or(ProtocolError::Malformed)?;
        let message = match (word(8)?, word(12)?) {
            (1, 0) => ControlMessage::Join(Start::First),
            (1, 1) => ControlMessage::Join(Start::Now),
            (2, _) => ControlMessage::Status,
            (3, _) => ControlMessage::Stop,
            (4, seat) => ControlMessage::Seated(seat),
            (5, _) => ControlMessage::Armed,
            (6, how) => ControlMessage::Disconnect(disconnect_reason(how).ok_or(ProtocolError::Malformed)?),
            (7, _) => ControlMessage::Attach,
            (16, seat) => ControlMessage::Ring(seat),
            (17, _) => ControlMessage::Stream,
            (18, why) => ControlMessage::Refused(refusal(why).ok_or(ProtocolError::Malformed)?),
            (19, _) => ControlMessage::Report,
            (20, _) => ControlMessage::Stopping,
            (21, _) => ControlMessage::Changed,
            (22, _) => ControlMessage::Evicted,
            (23, _) => ControlMessage::Mailboxes,
            _ => return Err(ProtocolError::Malformed),
        };
        Ok(Self { message, token })
    }
}

fn disconnect_reason(word: u32) -> Option<DisconnectReason> {
    [DisconnectReason::Done, DisconnectReason::Left, DisconnectReason::Failed]
        .into_iter()
        .find(|how| *how as u32 == word)
}

fn refusal(word: u32) -> Option<Refusal> {
    let all = [Refusal::Full, Refusal::Missed, Refusal::Over, Refusal::Unable, Refusal::Silent];
    all.into_iter().find(|why| *why as u32 == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_decoded_as_it_was_encoded() {
        let messages = [
            ControlMessage::Join(Start::First),
            ControlMessage::Join(Start::Now),
            ControlMessage::Status,
            ControlMessage::Stop,
            ControlMessage::Seated(1023),
            ControlMessage::Armed,
            ControlMessage::Disconnect(DisconnectReason::Done),
            ControlMessage::Disconnect(DisconnectReason::Left),
            ControlMessage::Disconnect(DisconnectReason::Failed),
            ControlMessage::Ring(7),
            ControlMessage::Stream,
            ControlMessage::Refused(Refusal::Full),
            ControlMessage::Refused(Refusal::Unable),
            ControlMessage::Refused(Refusal::Silent),
            ControlMessage::Attach,
            ControlMessage::Mailboxes,
            ControlMessage::Report,
            ControlMessage::Stopping,
            ControlMessage::Changed,
            ControlMessage::Evicted,
        ];
        for message in messages {
            let record = Record { message, token: [3; 16] };
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn malformed_bytes_and_other_versions_are_distinct_errors() {
        let mut bytes = Record::plain(ControlMessage::Status).encode();
        bytes[4] = 9;
        assert_eq!(Record::decode(&bytes), Err(ProtocolError::Version(9)));
        assert_eq!(Record::decode(&bytes[..8]), Err(ProtocolError::Version(9)));
        bytes = Record::plain(ControlMessage::Status).encode();
        bytes[8] = 99;
        for malformed in [&bytes[..], &[0; RECORD], &[0xff; RECORD], &[], &bytes[..31]] {
            assert_eq!(Record::decode(malformed), Err(ProtocolError::Malformed));
        }
    }
}
