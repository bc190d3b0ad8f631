//! The figures: one row for each channel and server, from its owner's answer. A sender pays only for its control thread's
//! answers.

use super::boxes::{Attached, Boxes};
use crate::commands::survey::{command, in_short, kind, peer_in_short, peer_state, state, survey};
use crate::ui::units::{count, rate, short_number, size};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::time::Instant;
use whorl::internal::registry::status::{Kind, PeerState, ReceiverStatus, TransportKind};
use whorl::internal::registry::{Listed, State};

/// Every channel and server at one time.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub channels: Vec<Row>,
}

/// A channel or server.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub kind: Option<&'static str>,
    pub state: &'static str,
    pub owner: Option<Process>,
    /// How full the channel is for its slowest receiver, 0 to 1.
    pub fill: Option<f64>,
    /// Bytes in the last second, and in total.
    pub rate_bytes_per_s: Option<u64>,
    pub sent_bytes: Option<u64>,
    /// Messages in the last second, and in total. For mailboxes the former needs two samples.
    pub messages_per_s: Option<u64>,
    pub messages: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// The number of live receivers, or of connections to a mailbox server.
    pub attached: usize,
    /// The bytes that the slowest receiver has not taken.
    pub lag_bytes: Option<u64>,
    pub slowest: Option<Process>,
    /// What the owner waits for, or what waits for an owner.
    pub waiting: Option<String>,
    pub receivers: Vec<Peer>,
    pub mailboxes: Option<Boxes>,
    /// Why its owner does not answer.
    pub silent: Option<String>,
}

/// A process.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    pub pid: u32,
    pub command: Option<String>,
}

/// A receiver.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    #[serde(flatten)]
    pub process: Option<Process>,
    pub state: &'static str,
    #[serde(rename = "lag_bytes")]
    pub behind: u64,
    pub fill: f64,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        (pid != 0).then(|| Self { pid, command: command(pid) })
    }
}

/// Describes an owner in a few words.
pub fn short(process: &Option<Process>) -> String {
    process.as_ref().map_or("-".into(), |process| in_short(Some(process.pid), &process.command))
}

/// Describes a receiver in a few words that distinguish it from others.
pub fn peer_short(process: &Option<Process>) -> String {
    process.as_ref().map_or("-".into(), |process| peer_in_short(process.pid, &process.command))
}

/// Takes samples, and keeps from one sample what the next one needs.
#[derive(Default)]
pub struct Sampler {
    servers: HashMap<u16, (Attached, Instant)>,
    /// The channels whose sender waited in the last sample; `None` before the first one.
    waited: Option<HashSet<String>>,
}

impl Sampler {
    /// Takes a sample.
    ///
    /// # Errors
    /// The runtime directory cannot be used.
    pub fn sample(&mut self) -> Result<Figures, String> {
        let listed = survey()?;
        let ports: Vec<_> = listed.iter().filter_map(|channel| channel.name.mailbox_port()).collect();
        self.servers.retain(|port, _| ports.contains(port));
        let waits: HashSet<_> =
            listed.iter().filter(|at| is_blocked(at)).map(|at| at.name.to_string()).collect();
        let waited = self.waited.replace(waits.clone());
        let mut channels: Vec<_> = listed.iter().map(|channel| self.row(channel)).collect();
        for row in &mut channels {
            // A sender that keeps up with its receivers waits for moments. Only a wait that two samples see is shown.
            let lasts =
                waits.contains(&row.name) && waited.as_ref().is_none_or(|waited| waited.contains(&row.name));
            if lasts {
                row.waiting = Some("for slowest".into());
            }
        }
        Ok(Figures { channels })
    }

    fn row(&mut self, listed: &Listed) -> Row {
        let mut row = Row::of(listed);
        if let (Some(port), State::Live) = (listed.name.mailbox_port(), listed.state)
            && let Some((boxes, written)) = self.boxes(port, listed.owner.unwrap_or(0))
        {
            row.messages_per_s = written;
            row.messages = Some(boxes.versions.iter().sum());
            row.memory_bytes = Some(boxes.memory);
            row.attached = boxes.connections.unwrap_or(0) as usize;
            row.mailboxes = Some(boxes);
        }
        row
    }

    /// Returns a server's mailboxes, and the messages per second since the last sample.
    fn boxes(&mut self, port: u16, pid: u32) -> Option<(Boxes, Option<u64>)> {
        if self.servers.get(&port).is_none_or(|(attached, _)| attached.pid != pid || attached.has_ended()) {
            self.servers.insert(port, (Attached::to(port, pid)?, Instant::now()));
        }
        let (attached, since) = self.servers.get_mut(&port)?;
        let (boxes, written) = attached.sample();
        let seconds = std::mem::replace(since, Instant::now()).elapsed().as_secs_f64().max(0.001);
        Some((boxes, written.map(|written| (written as f64 / seconds).round() as u64)))
    }
}

impl Row {
    /// The titles of the cells.
    pub const HEAD: [&str; 9] =
        ["NAME", "KIND", "FILL", "RATE", "MSG/S", "PEERS", "LAG", "WAITING", "SLOWEST"];

    fn of(listed: &Listed) -> Self {
        let report = listed.report.as_ref();
        let peers = report.map_or(&[][..], |report| &report.receivers);
        let slowest = peers.iter().max_by_key(|peer| (peer.fill, peer.behind)).filter(|peer| peer.behind > 0);
        let rings = report.filter(|report| report.kind == Kind::Ring);
        let awaited = (listed.state == State::Waiting && report.is_none()).then_some("ring");
        Self {
            name: listed.name.to_string(),
            kind: listed.kind.map(kind).or(awaited),
            state: state(listed.state),
            owner: listed.owner.filter(|_| listed.state != State::Stale).and_then(Process::of),
            fill: rings.map(|_| slowest.map_or(0.0, fill)),
            rate_bytes_per_s: rings.map(|report| report.rate),
            sent_bytes: rings.map(|report| report.sent),
            messages_per_s: rings
                .filter(|report| report.transport == TransportKind::Shm)
                .map(|report| report.message_rate),
            messages: rings
                .filter(|report| report.transport == TransportKind::Shm)
                .map(|report| report.messages),
            memory_bytes: report.map(|report| report.memory),
            attached: peers.iter().filter(|peer| peer.state == PeerState::Live).count(),
            lag_bytes: rings.map(|_| slowest.map_or(0, |peer| peer.behind)),
            slowest: slowest.and_then(|peer| Process::of(peer.pid)),
            waiting: waiting(listed),
            receivers: peers.iter().map(Peer::of).collect(),
            mailboxes: None,
            silent: listed.silent.clone(),
        }
    }

    /// Returns the row in words. The last cell may be long.
    pub fn cells(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map_or("-".into(), short_number);
        let bytes = |bytes: Option<u64>| bytes.map_or("-".into(), size);
        let fill = self.fill.map_or("-".into(), |fill| format!("{:.0}%", fill * 100.0));
        vec![
            self.name.clone(),
            self.kind.unwrap_or("-").into(),
            fill,
            self.rate_bytes_per_s.map_or("-".into(), rate),
            number(self.messages_per_s),
            self.attached.to_string(),
            bytes(self.lag_bytes),
            self.waiting(),
            peer_short(&self.slowest),
        ]
    }

    /// Returns what the owner waits for, or why there is nothing to show.
    pub fn waiting(&self) -> String {
        match (&self.waiting, self.state) {
            (Some(waiting), _) => waiting.clone(),
            (None, "stale") => "dead".into(),
            (None, _) if self.silent.is_some() => "silent".into(),
            _ => "-".into(),
        }
    }
}

impl Peer {
    fn of(peer: &ReceiverStatus) -> Self {
        Self {
            process: Process::of(peer.pid),
            state: peer_state(peer),
            behind: peer.behind,
            fill: fill(peer),
        }
    }
}

fn fill(peer: &ReceiverStatus) -> f64 {
    f64::from(peer.fill.min(1000)) / 1000.0
}

/// Returns whether a sender is blocked by its slowest receiver: it waits, and its ring is full or nothing has moved for a
/// second. A sender that waits for moments only, as every sender does, is not blocked.
fn is_blocked(listed: &Listed) -> bool {
    let Some(report) = listed.report.as_ref().filter(|_| listed.state == State::Live) else { return false };
    let fullest = report.receivers.iter().map(|peer| peer.fill).max().unwrap_or(0);
    report.waits && (fullest >= 1000 || report.rate == 0)
}

/// Returns what the owner waits for before it begins, or how many receivers wait for an owner.
fn waiting(listed: &Listed) -> Option<String> {
    let receivers = listed.waiting.len();
    match (&listed.report, listed.state) {
        (Some(report), State::Waiting) if report.wanted > 0 => {
            Some(format!("for {}", count(report.wanted.into(), "peer")))
        }
        _ if receivers > 0 => Some(format!("{receivers} for it")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whorl::internal::registry::status::{Phase, Report};

    fn ring(waits: bool, rate: u64, fill: u32) -> Listed {
        let peer = ReceiverStatus { pid: 1, state: PeerState::Live, behind: 1, fill };
        let report = Report {
            kind: Kind::Ring,
            phase: Phase::Live,
            transport: TransportKind::Shm,
            wanted: 1,
            memory: 0,
            sent: 1,
            rate,
            messages: 1,
            message_rate: 0,
            waits,
            receivers: vec![peer],
            connections: 0,
        };
        Listed {
            name: "x".parse().expect("a name"),
            kind: Some(Kind::Ring),
            state: State::Live,
            owner: Some(1),
            report: Some(report),
            waiting: Vec::new(),
            silent: None,
        }
    }

    #[test]
    fn a_sender_is_blocked_by_a_full_ring_or_when_nothing_moves() {
        assert!(is_blocked(&ring(true, 1 << 20, 1000)));
        assert!(is_blocked(&ring(true, 0, 10)), "the end of a stream, which a receiver has still to take");
        assert!(!is_blocked(&ring(true, 1 << 20, 10)), "it waits for a moment");
        assert!(!is_blocked(&ring(false, 0, 1000)));
    }
}
