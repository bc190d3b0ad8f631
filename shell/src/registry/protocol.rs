//! What is said over a rendezvous socket: fixed little-endian records, one in each packet.
//!
//! ```text
//! every record    0 magic "WHMT"   4 version   8 kind   12 argument   16..32 token
//!
//! a client says   1 join     argument 0: from the first item, 1: from the next; answered by handed, or refused
//!                 2 status   answered by a report
//!                 3 stop     answered by stopping
//!                 4 seated   argument: its seat; "admit me"
//!                 5 armed    it will sleep elsewhere: tell it of news by a told
//!                 6 bye      argument: how it went (`Farewell`)
//! an owner says   16 ring    argument: a seat to try first; two descriptors: data, control
//!                 17 stream  one descriptor: a stream of frames
//!                 18 refused argument: why (`Refusal`)
//!                 19 report  a record followed by the report's own bytes
//!                 20 stopping
//!                 21 told    look again
//!                 22 evicted it was too slow, and is sent nothing more
//! ```
//!
//! The first eight bytes never change their meaning: so whoever meets another version can name both. The token tells the
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
pub enum Farewell {
    /// It has everything.
    Done,
    /// It had enough.
    Left,
    /// Something on its own side failed.
    Failed,
}

/// Why nobody can join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// As many take part as can.
    #[error("every seat is taken")]
    Full,
    /// The beginning, which was asked for, is gone.
    #[error("the stream has begun and its first bytes are gone; --from now joins at what comes next")]
    Missed,
    /// It is over.
    #[error("it is just ending")]
    Over,
    /// The owner could not do it.
    #[error("its owner cannot take more: no descriptors or memory")]
    Unable,
}

/// What one side says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saying {
    /// Client: let me take part.
    Join(Start),
    /// Client: how are you?
    Status,
    /// Client: please end.
    Stop,
    /// Client: I sit in this seat.
    Seated(u32),
    /// Client: from now on tell me of news.
    Armed,
    /// Client: it is over for me.
    Bye(Farewell),
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
    /// Owner: there is news.
    Told,
    /// Owner: you were too slow.
    Evicted,
}

/// A saying with what goes with every one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// What is said.
    pub saying: Saying,
    /// By which run.
    pub token: Token,
}

/// What arrived is no record of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Misunderstanding {
    /// The other side speaks another version.
    #[error("the other side speaks version {0} of the rendezvous, this program version {VERSION}")]
    Version(u32),
    /// It is nothing known.
    #[error("the other side does not speak this language")]
    Nonsense,
}

impl Record {
    /// A record without a token.
    pub fn plain(saying: Saying) -> Self {
        Self { saying, token: Token::default() }
    }

    /// Its bytes.
    pub fn encode(self) -> [u8; RECORD] {
        let (kind, argument) = match self.saying {
            Saying::Join(from) => (1, u32::from(from == Start::Now)),
            Saying::Status => (2, 0),
            Saying::Stop => (3, 0),
            Saying::Seated(seat) => (4, seat),
            Saying::Armed => (5, 0),
            Saying::Bye(how) => (6, how as u32),
            Saying::Ring(seat) => (16, seat),
            Saying::Stream => (17, 0),
            Saying::Refused(why) => (18, why as u32),
            Saying::Report => (19, 0),
            Saying::Stopping => (20, 0),
            Saying::Told => (21, 0),
            Saying::Evicted => (22, 0),
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
    pub fn decode(packet: &[u8]) -> Result<Self, Misunderstanding> {
        let word = |at: usize| {
            let four = packet.get(at..at + 4).and_then(|four| four.try_into().ok());
            four.map(u32::from_le_bytes).ok_or(Misunderstanding::Nonsense)
        };
        match (word(0)?, word(4)?) {
            (MAGIC, VERSION) => {}
            (MAGIC, other) => return Err(Misunderstanding::Version(other)),
            _ => return Err(Misunderstanding::Nonsense),
        }
        let token = packet.get(16..RECORD).and_then(|token| token.try_into().ok());
        let token = token.ok_or(Misunderstanding::Nonsense)?;
        let saying = match (word(8)?, word(12)?) {
            (1, 0) => Saying::Join(Start::First),
            (1, 1) => Saying::Join(Start::Now),
            (2, _) => Saying::Status,
            (3, _) => Saying::Stop,
            (4, seat) => Saying::Seated(seat),
            (5, _) => Saying::Armed,
            (6, how) => Saying::Bye(farewell(how).ok_or(Misunderstanding::Nonsense)?),
            (16, seat) => Saying::Ring(seat),
            (17, _) => Saying::Stream,
            (18, why) => Saying::Refused(refusal(why).ok_or(Misunderstanding::Nonsense)?),
            (19, _) => Saying::Report,
            (20, _) => Saying::Stopping,
            (21, _) => Saying::Told,
            (22, _) => Saying::Evicted,
            _ => return Err(Misunderstanding::Nonsense),
        };
        Ok(Self { saying, token })
    }
}

fn farewell(word: u32) -> Option<Farewell> {
    [Farewell::Done, Farewell::Left, Farewell::Failed].into_iter().find(|how| *how as u32 == word)
}

fn refusal(word: u32) -> Option<Refusal> {
    let all = [Refusal::Full, Refusal::Missed, Refusal::Over, Refusal::Unable];
    all.into_iter().find(|why| *why as u32 == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_understood() {
        let sayings = [
            Saying::Join(Start::First),
            Saying::Join(Start::Now),
            Saying::Status,
            Saying::Stop,
            Saying::Seated(1023),
            Saying::Armed,
            Saying::Bye(Farewell::Done),
            Saying::Bye(Farewell::Left),
            Saying::Bye(Farewell::Failed),
            Saying::Ring(7),
            Saying::Stream,
            Saying::Refused(Refusal::Full),
            Saying::Refused(Refusal::Unable),
            Saying::Report,
            Saying::Stopping,
            Saying::Told,
            Saying::Evicted,
        ];
        for saying in sayings {
            let record = Record { saying, token: [3; 16] };
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn nonsense_and_other_versions_are_told_apart() {
        let mut bytes = Record::plain(Saying::Status).encode();
        bytes[4] = 9;
        assert_eq!(Record::decode(&bytes), Err(Misunderstanding::Version(9)));
        assert_eq!(Record::decode(&bytes[..8]), Err(Misunderstanding::Version(9)));
        bytes = Record::plain(Saying::Status).encode();
        bytes[8] = 99;
        for nonsense in [&bytes[..], &[0; RECORD], &[0xff; RECORD], &[], &bytes[..31]] {
            assert_eq!(Record::decode(nonsense), Err(Misunderstanding::Nonsense));
        }
    }
}
