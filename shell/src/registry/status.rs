//! What an owner says about itself when it is asked.
//!
//! ```text
//! 0 kind   4 state   8 transport   12 wanted   16 memory, 8 bytes   24 sent, 8 bytes   32 rate, 8 bytes
//! 40 messages, 8 bytes   48 message rate, 8 bytes   56 1 if the owner waits for participants
//! 60 how many participants follow   64 connections, 8 bytes       all little-endian
//! each participant: 0 pid   4 state   8 behind, 8 bytes   16 fill
//! ```

use super::protocol::LONGEST;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A broadcast ring, or sockets that do the same.
    Ring,
    /// Mailboxes.
    Mailboxes,
    /// A server that announces itself.
    Server,
}

/// What an owner is up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It waits for participants.
    Waiting,
    /// It is at work.
    Live,
}

/// How the bytes travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportKind {
    /// Through shared memory.
    Shm,
    /// Through sockets.
    Socket,
}

/// How a participant is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// It was let in and has not taken its seat.
    Joining,
    /// It takes part.
    Live,
    /// It was too slow and lost its place.
    Evicted,
    /// It has everything.
    Done,
}

/// One participant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Participant {
    /// Its process id, as the owner knows it; 0 when unknown.
    pub pid: u32,
    /// How it is doing.
    pub standing: PeerState,
    /// How many bytes were sent that it has not taken.
    pub behind: u64,
    /// How much of what the channel can hold that is, in thousandths.
    pub fill: u32,
}

/// What an owner says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What it is.
    pub kind: Kind,
    /// What it is up to.
    pub stage: Phase,
    /// How the bytes travel.
    pub way: TransportKind,
    /// How many participants it wants before it begins.
    pub wanted: u32,
    /// Bytes of memory that the channel takes.
    pub memory: u64,
    /// Bytes sent so far.
    pub sent: u64,
    /// Bytes sent in the last second.
    pub rate: u64,
    /// Messages sent so far; 0 where bytes travel without.
    pub messages: u64,
    /// Messages sent in the last second.
    pub message_rate: u64,
    /// Whether the owner waits for participants, because the channel is full or the stream at its end.
    pub waits: bool,
    /// The clients of a mailbox server; 0 for a channel.
    pub connections: u64,
    /// The receivers that take part.
    pub participants: Vec<Participant>,
}

const HEAD: usize = 72;
const EACH: usize = 20;
/// The most participants that fit a packet, after the record.
const MOST: usize = (LONGEST - 64 - HEAD) / EACH;

impl Report {
    /// Its bytes. Of more participants than fit, the first are told.
    pub fn encode(&self) -> Vec<u8> {
        let told = &self.participants[..self.participants.len().min(MOST)];
        let mut bytes = Vec::with_capacity(HEAD + told.len() * EACH);
        for word in [self.kind as u32, self.stage as u32, self.way as u32, self.wanted] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for number in [self.memory, self.sent, self.rate, self.messages, self.message_rate] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&u32::from(self.waits).to_le_bytes());
        bytes.extend_from_slice(&(told.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.connections.to_le_bytes());
        for participant in told {
            bytes.extend_from_slice(&participant.pid.to_le_bytes());
            bytes.extend_from_slice(&(participant.standing as u32).to_le_bytes());
            bytes.extend_from_slice(&participant.behind.to_le_bytes());
            bytes.extend_from_slice(&participant.fill.to_le_bytes());
        }
        bytes
    }

    /// Reads a report; `None` for what no owner writes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let participants = bytes.get(HEAD..)?.chunks(EACH);
        if participants.len() != word(60)? as usize || !(bytes.len() - HEAD).is_multiple_of(EACH) {
            return None;
        }
        let participants = (0..participants.len()).map(|i| {
            let at = HEAD + i * EACH;
            let all = [PeerState::Joining, PeerState::Live, PeerState::Evicted, PeerState::Done];
            Some(Participant {
                pid: word(at)?,
                standing: one_of(&all, word(at + 4)?)?,
                behind: long(at + 8)?,
                fill: word(at + 16)?,
            })
        });
        Some(Self {
            kind: one_of(&[Kind::Ring, Kind::Mailboxes, Kind::Server], word(0)?)?,
            stage: one_of(&[Phase::Waiting, Phase::Live], word(4)?)?,
            way: one_of(&[TransportKind::Shm, TransportKind::Socket], word(8)?)?,
            wanted: word(12)?,
            memory: long(16)?,
            sent: long(24)?,
            rate: long(32)?,
            messages: long(40)?,
            message_rate: long(48)?,
            waits: word(56)? != 0,
            connections: long(64)?,
            participants: participants.collect::<Option<_>>()?,
        })
    }
}

/// The value whose place in its own enum is `word`.
fn one_of<T: Copy>(all: &[T], word: u32) -> Option<T> {
    all.get(word as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_comes_back_and_cut_reports_do_not() {
        let participant = Participant { pid: 7, standing: PeerState::Evicted, behind: 1 << 40, fill: 1000 };
        let report = Report {
            kind: Kind::Server,
            stage: Phase::Live,
            way: TransportKind::Socket,
            wanted: 3,
            memory: 1 << 33,
            sent: 9,
            rate: 8,
            messages: 1 << 34,
            message_rate: 7,
            waits: true,
            connections: 5,
            participants: vec![participant; 2],
        };
        let bytes = report.encode();
        assert_eq!(Report::decode(&bytes), Some(report.clone()));
        for cut in 0..bytes.len() {
            assert_eq!(Report::decode(&bytes[..cut]), None, "{cut}");
        }
        let crowd = Report { participants: vec![participant; 100_000], ..report };
        assert!(crowd.encode().len() < LONGEST - 32);
        assert!(Report::decode(&crowd.encode()).is_some());
    }
}
