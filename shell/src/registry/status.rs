//! What an owner reports about itself on request.
//!
//! ```text
//! 0 kind   4 state   8 transport   12 wanted   16 memory, 8 bytes   24 sent, 8 bytes   32 rate, 8 bytes
//! 40 messages, 8 bytes   48 message rate, 8 bytes   56 1 if the owner waits for receivers
//! 60 how many receivers follow   64 connections, 8 bytes       all little-endian
//! each receiver: 0 pid   4 state   8 behind, 8 bytes   16 fill
//! ```

use super::protocol::LONGEST;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A channel.
    Ring,
    /// Mailboxes.
    Mailboxes,
    /// A server that announces itself.
    Server,
}

/// The phase of an owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It waits for receivers.
    Waiting,
    /// It sends or serves.
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

/// The state of a receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// It was granted what it needs to join, and has not taken its seat.
    Joining,
    /// It takes part.
    Live,
    /// It was too slow and was evicted.
    Evicted,
    /// It has the whole stream.
    Done,
}

/// One receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceiverStatus {
    /// Its process id, as the owner sees it; 0 if unknown.
    pub pid: u32,
    /// Its state.
    pub state: PeerState,
    /// The bytes sent that it has not taken yet.
    pub behind: u64,
    /// The same as a part of what the channel can hold, in thousandths.
    pub fill: u32,
}

/// The report of an owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What it is.
    pub kind: Kind,
    /// Its phase.
    pub phase: Phase,
    /// How the bytes travel.
    pub transport: TransportKind,
    /// How many receivers it waits for before it begins.
    pub wanted: u32,
    /// Bytes of memory that the channel uses.
    pub memory: u64,
    /// Bytes sent so far.
    pub sent: u64,
    /// Bytes sent in the last second.
    pub rate: u64,
    /// Messages sent so far; 0 where bytes travel without message boundaries.
    pub messages: u64,
    /// Messages sent in the last second.
    pub message_rate: u64,
    /// Whether the owner waits for receivers, because the channel is full or the stream has ended.
    pub waits: bool,
    /// The clients of a mailbox server; 0 for a channel.
    pub connections: u64,
    /// The receivers that take part.
    pub receivers: Vec<ReceiverStatus>,
}

const HEAD: usize = 72;
const EACH: usize = 20;
/// The most receivers that fit a packet, after the record.
const MOST: usize = (LONGEST - 64 - HEAD) / EACH;

impl Report {
    /// Encodes the report. If there are more receivers than fit, only the first are in it.
    pub fn encode(&self) -> Vec<u8> {
        let listed = &self.receivers[..self.receivers.len().min(MOST)];
        let mut bytes = Vec::with_capacity(HEAD + listed.len() * EACH);
        for word in [self.kind as u32, self.phase as u32, self.transport as u32, self.wanted] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for number in [self.memory, self.sent, self.rate, self.messages, self.message_rate] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&u32::from(self.waits).to_le_bytes());
        bytes.extend_from_slice(&(listed.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.connections.to_le_bytes());
        for receiver in listed {
            bytes.extend_from_slice(&receiver.pid.to_le_bytes());
            bytes.extend_from_slice(&(receiver.state as u32).to_le_bytes());
            bytes.extend_from_slice(&receiver.behind.to_le_bytes());
            bytes.extend_from_slice(&receiver.fill.to_le_bytes());
        }
        bytes
    }

    /// Decodes a report. Returns `None` if no owner writes these bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let receivers = bytes.get(HEAD..)?.chunks(EACH);
        if receivers.len() != word(60)? as usize || !(bytes.len() - HEAD).is_multiple_of(EACH) {
            return None;
        }
        let receivers = (0..receivers.len()).map(|i| {
            let at = HEAD + i * EACH;
            let all = [PeerState::Joining, PeerState::Live, PeerState::Evicted, PeerState::Done];
            Some(ReceiverStatus {
                pid: word(at)?,
                state: one_of(&all, word(at + 4)?)?,
                behind: long(at + 8)?,
                fill: word(at + 16)?,
            })
        });
        Some(Self {
            kind: one_of(&[Kind::Ring, Kind::Mailboxes, Kind::Server], word(0)?)?,
            phase: one_of(&[Phase::Waiting, Phase::Live], word(4)?)?,
            transport: one_of(&[TransportKind::Shm, TransportKind::Socket], word(8)?)?,
            wanted: word(12)?,
            memory: long(16)?,
            sent: long(24)?,
            rate: long(32)?,
            messages: long(40)?,
            message_rate: long(48)?,
            waits: word(56)? != 0,
            connections: long(64)?,
            receivers: receivers.collect::<Option<_>>()?,
        })
    }
}

/// Returns the value at the position `word`.
fn one_of<T: Copy>(all: &[T], word: u32) -> Option<T> {
    all.get(word as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_comes_back_and_cut_reports_do_not() {
        let receiver = ReceiverStatus { pid: 7, state: PeerState::Evicted, behind: 1 << 40, fill: 1000 };
        let report = Report {
            kind: Kind::Server,
            phase: Phase::Live,
            transport: TransportKind::Socket,
            wanted: 3,
            memory: 1 << 33,
            sent: 9,
            rate: 8,
            messages: 1 << 34,
            message_rate: 7,
            waits: true,
            connections: 5,
            receivers: vec![receiver; 2],
        };
        let bytes = report.encode();
        assert_eq!(Report::decode(&bytes), Some(report.clone()));
        for cut in 0..bytes.len() {
            assert_eq!(Report::decode(&bytes[..cut]), None, "{cut}");
        }
        let many = Report { receivers: vec![receiver; 100_000], ..report };
        assert!(many.encode().len() < LONGEST - 32);
        assert!(Report::decode(&many.encode()).is_some());
    }
}
