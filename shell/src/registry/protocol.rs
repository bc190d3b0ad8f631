//! The control protocol, over the socket of a channel or a mailbox server: fixed little-endian records, one in each packet.
//!
//! ```text
//! every record    0 magic "WHMT"   4 version   8 kind   12 argument   16..32 token
//!
//! a client says   1 join     argument 0: from the first item, 1: from the next; answered by handed, or refused
//!                 2 status   answered by a report
//!                 3 stop     answered by stopping
//!                 4 seated   argument: its seat; "admit me"
//!                 5 armed    the client will wait in its own event loop; answered by told, at once and at each change
//!                 6 bye      argument: how it went (`DisconnectReason`)
//!                 7 attach   to a mailbox server; answered by mailboxes, or refused
//! an owner says   16 ring    argument: a seat to try first; two descriptors: data, control
//!                 17 stream  one descriptor: a stream of frames
//!                 18 refused argument: why (`Refusal`)
//!                 19 report  a record followed by the report's own bytes
//!                 20 stopping
//!                 21 told    look again
//!                 22 evicted it was too slow, and is sent nothing more
//!                 23 mailboxes  one descriptor; the process is attached as long as the connection is open
//! ```
//!
//! The first eight bytes never change their meaning: so a process that meets another version can name both. The token tells the
//! connections of one run of a program from those of others.

use thiserror::Error;

/// The version that this program speaks.
pub const VERSION: u32 = 1;
/// Bytes of a record.
pub const RECORD: usize = 32;
/// The longest packet: a report about as many participants as there can be.
pub const LONGEST: usize = 64 * 1024;

const MAGIC: u32 = u32::from_le_bytes(*b"WHMT");

/// Tells one run of a program from others; zeros: it does not matter.
pub type Token = [u8; 16];

/// Where in the stream a receiver begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// At its first byte, or not at all.
    #[default]
    First,
    /// At whatever comes next.
    Now,
}

/// How it went for a receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DisconnectReason {
    /// It has everything.
    Done,
    /// It had enough.
    Left,
    /// Something on its own side failed.
    Failed,
}

/// Why an owner refuses a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// As many take part as can.
    #[error("every seat is taken")]
    Full,
    /// The beginning, which was asked for, is gone.
    #[error("the stream has begun and its first bytes are gone; --from now joins at what comes next")]
    Missed,
    /// It is over.
    #[error("the stream is ending")]
    Over,
    /// The owner could not do it.
    #[error("its owner has no descriptors or memory left for another receiver")]
    Unable,
    /// The client was connected for too long without a request, or another client needed its place.
    #[error("nothing was asked for in time")]
    Silent,
}

/// A message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlMessage {
    /// Client: let me take part.
    Join(Start),
    /// Client: how are you?
    Status,
    /// Client: please end.
    Stop,
    /// Client: I sit in this seat.
    Seated(u32),
    /// Client: notify me of changes.
    Armed,
    /// Client: it is over for me.
    Bye(DisconnectReason),
    /// Client: hand over the mailboxes.
    Attach,
    /// Owner: here is the ring; try this seat first.
    Ring(u32),
    /// Owner: here is your stream.
    Stream,
    /// Owner: no.
    Refused(Refusal),
    /// Owner: the report follows.
    Report,
    /// Owner: I am ending.
    Stopping,
    /// Owner: something changed.
    Told,
    /// Owner: you were too slow.
    Evicted,
    /// Owner: here are the mailboxes.
    Mailboxes,
}

/// A message with its token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// What is said.
    pub saying: ControlMessage,
    /// By which run.
    pub token: Token,
}

/// The bytes that arrived are not a record of this protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The other side speaks another version.
    #[error(
        "the peer speaks version {0} of the control protocol, this program version {VERSION}; use the same release on both sides"
    )]
    Version(u32),
    /// It is nothing known.
    #[error("the peer does not speak the control protocol")]
    Malformed,
}

impl Record {
    /// A record without a token.
    pub fn plain(saying: ControlMessage) -> Self {
        Self { saying, token: Token::default() }
    }

    /// Its bytes.
    pub fn encode(self) -> [u8; RECORD] {
        let (kind, argument) = match self.saying {
            ControlMessage::Join(from) => (1, u32::from(from == Start::Now)),
            ControlMessage::Status => (2, 0),
            ControlMessage::Stop => (3, 0),
            ControlMessage::Seated(seat) => (4, seat),
            ControlMessage::Armed => (5, 0),
            ControlMessage::Bye(how) => (6, how as u32),
            ControlMessage::Attach => (7, 0),
            ControlMessage::Ring(seat) => (16, seat),
            ControlMessage::Stream => (17, 0),
            ControlMessage::Refused(why) => (18, why as u32),
            ControlMessage::Report => (19, 0),
            ControlMessage::Stopping => (20, 0),
            ControlMessage::Told => (21, 0),
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

    /// Reads the record at the start of a packet.
    ///
    /// # Errors
    /// It is of another version, or nothing known.
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
        let saying = match (word(8)?, word(12)?) {
            (1, 0) => ControlMessage::Join(Start::First),
            (1, 1) => ControlMessage::Join(Start::Now),
            (2, _) => ControlMessage::Status,
            (3, _) => ControlMessage::Stop,
            (4, seat) => ControlMessage::Seated(seat),
            (5, _) => ControlMessage::Armed,
            (6, how) => ControlMessage::Bye(farewell(how).ok_or(ProtocolError::Malformed)?),
            (7, _) => ControlMessage::Attach,
            (16, seat) => ControlMessage::Ring(seat),
            (17, _) => ControlMessage::Stream,
            (18, why) => ControlMessage::Refused(refusal(why).ok_or(ProtocolError::Malformed)?),
            (19, _) => ControlMessage::Report,
            (20, _) => ControlMessage::Stopping,
            (21, _) => ControlMessage::Told,
            (22, _) => ControlMessage::Evicted,
            (23, _) => ControlMessage::Mailboxes,
            _ => return Err(ProtocolError::Malformed),
        };
        Ok(Self { saying, token })
    }
}

fn farewell(word: u32) -> Option<DisconnectReason> {
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
    fn what_was_said_is_understood() {
        let sayings = [
            ControlMessage::Join(Start::First),
            ControlMessage::Join(Start::Now),
            ControlMessage::Status,
            ControlMessage::Stop,
            ControlMessage::Seated(1023),
            ControlMessage::Armed,
            ControlMessage::Bye(DisconnectReason::Done),
            ControlMessage::Bye(DisconnectReason::Left),
            ControlMessage::Bye(DisconnectReason::Failed),
            ControlMessage::Ring(7),
            ControlMessage::Stream,
            ControlMessage::Refused(Refusal::Full),
            ControlMessage::Refused(Refusal::Unable),
            ControlMessage::Refused(Refusal::Silent),
            ControlMessage::Attach,
            ControlMessage::Mailboxes,
            ControlMessage::Report,
            ControlMessage::Stopping,
            ControlMessage::Told,
            ControlMessage::Evicted,
        ];
        for saying in sayings {
            let record = Record { saying, token: [3; 16] };
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn nonsense_and_other_versions_are_told_apart() {
        let mut bytes = Record::plain(ControlMessage::Status).encode();
        bytes[4] = 9;
        assert_eq!(Record::decode(&bytes), Err(ProtocolError::Version(9)));
        assert_eq!(Record::decode(&bytes[..8]), Err(ProtocolError::Version(9)));
        bytes = Record::plain(ControlMessage::Status).encode();
        bytes[8] = 99;
        for nonsense in [&bytes[..], &[0; RECORD], &[0xff; RECORD], &[], &bytes[..31]] {
            assert_eq!(Record::decode(nonsense), Err(ProtocolError::Malformed));
        }
    }
}
