//! What is shown: one row for each channel and server, from what its owner says when it is asked. So a sender pays a few
//! answers a second, given by the thread that gives them anyway.

use super::boxes::{Attached, Boxes};
use crate::commands::survey::{command, in_short, kind, standing, state, survey};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Instant;
use whorl::registry::status::{Kind, Participant, PeerState, TransportKind};
use whorl::registry::{Listed, State};

/// Everything at one time.
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
    /// Bytes in the last second, and in all.
    pub rate: Option<u64>,
    pub sent: Option<u64>,
    /// Messages in the last second, and in all; mailboxes tell the former from the second look on.
    pub message_rate: Option<u64>,
    pub messages: Option<u64>,
    pub memory: Option<u64>,
    /// How many take part.
    pub receivers: usize,
    /// Bytes that the slowest has still to take.
    pub lag: Option<u64>,
    pub slowest: Option<Process>,
    /// Who waits for whom.
    pub waiting: Option<String>,
    pub peers: Vec<Peer>,
    pub mailboxes: Option<Boxes>,
    /// Why its owner says nothing.
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
    pub behind: u64,
    pub fill: f64,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        (pid != 0).then(|| Self { pid, command: command(pid) })
    }
}

/// A process, or what is known of it, in few places.
pub fn short(process: &Option<Process>) -> String {
    process.as_ref().map_or("-".into(), |process| in_short(Some(process.pid), &process.command))
}

/// Looks, and remembers what is needed to say how things move.
#[derive(Default)]
pub struct Sampler {
    servers: HashMap<u16, (Attached, Instant)>,
}

impl Sampler {
    /// How things are now.
    pub fn look(&mut self) -> Result<Figures, String> {
        let listed = survey()?;
        let ports: Vec<_> = listed.iter().filter_map(|channel| channel.name.mailbox_port()).collect();
        self.servers.retain(|port, _| ports.contains(port));
        Ok(Figures { channels: listed.iter().map(|channel| self.row(channel)).collect() })
    }

    fn row(&mut self, listed: &Listed) -> Row {
        let mut row = Row::of(listed);
        if let (Some(port), State::Live) = (listed.name.mailbox_port(), listed.state)
            && let Some((boxes, written)) = self.boxes(port, listed.owner.unwrap_or(0))
        {
            row.message_rate = written;
            row.messages = Some(boxes.versions.iter().sum());
            row.memory = Some(boxes.memory);
            row.receivers = boxes.connections.unwrap_or(0) as usize;
            row.mailboxes = Some(boxes);
        }
        row
    }

    /// A server's mailboxes, and how many messages a second were written since the last look.
    fn boxes(&mut self, port: u16, pid: u32) -> Option<(Boxes, Option<u64>)> {
        if self.servers.get(&port).is_none_or(|(attached, _)| attached.pid != pid || attached.has_ended()) {
            self.servers.insert(port, (Attached::to(port, pid)?, Instant::now()));
        }
        let (attached, since) = self.servers.get_mut(&port)?;
        let (boxes, written) = attached.look();
        let seconds = std::mem::replace(since, Instant::now()).elapsed().as_secs_f64().max(0.001);
        Some((boxes, written.map(|written| (written as f64 / seconds).round() as u64)))
    }
}

impl Row {
    /// The names of the cells.
    pub const HEAD: [&str; 9] =
        ["NAME", "KIND", "FILL", "RATE", "MSG/S", "PEERS", "LAG", "WAITING", "SLOWEST"];

    fn of(listed: &Listed) -> Self {
        let report = listed.report.as_ref();
        let peers = report.map_or(&[][..], |report| &report.participants);
        let slowest = peers.iter().max_by_key(|peer| (peer.fill, peer.behind)).filter(|peer| peer.behind > 0);
        let rings = report.filter(|report| report.kind == Kind::Ring);
        let awaited = (listed.state == State::Waiting && report.is_none()).then_some("ring");
        Self {
            name: listed.name.to_string(),
            kind: listed.kind.map(kind).or(awaited),
            state: state(listed.state),
            owner: listed.owner.filter(|_| listed.state != State::Stale).and_then(Process::of),
            fill: rings.map(|_| slowest.map_or(0.0, fill)),
            rate: rings.map(|report| report.rate),
            sent: rings.map(|report| report.sent),
            message_rate: rings
                .filter(|report| report.way == TransportKind::Shm)
                .map(|report| report.message_rate),
            messages: rings.filter(|report| report.way == TransportKind::Shm).map(|report| report.messages),
            memory: report.map(|report| report.memory),
            receivers: peers.iter().filter(|peer| peer.standing == PeerState::Live).count(),
            lag: rings.map(|_| slowest.map_or(0, |peer| peer.behind)),
            slowest: slowest.and_then(|peer| Process::of(peer.pid)),
            waiting: waiting(listed),
            peers: peers.iter().map(Peer::of).collect(),
            mailboxes: None,
            silent: listed.silent.clone(),
        }
    }

    /// The row in words; the last may be long.
    pub fn cells(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map_or("-".into(), in_thousands);
        let bytes = |bytes: Option<u64>| bytes.map_or("-".into(), in_bytes);
        let fill = self.fill.map_or("-".into(), |fill| format!("{:.0}%", fill * 100.0));
        vec![
            self.name.clone(),
            self.kind.unwrap_or("-").into(),
            fill,
            self.rate.map_or("-".into(), |rate| format!("{}/s", in_bytes(rate))),
            number(self.message_rate),
            self.receivers.to_string(),
            bytes(self.lag),
            self.waiting(),
            short(&self.slowest),
        ]
    }

    /// Who waits for whom, or what else there is to say.
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
    fn of(peer: &Participant) -> Self {
        Self { process: Process::of(peer.pid), state: standing(peer), behind: peer.behind, fill: fill(peer) }
    }
}

fn fill(peer: &Participant) -> f64 {
    f64::from(peer.fill.min(1000)) / 1000.0
}

/// Who waits for whom.
fn waiting(listed: &Listed) -> Option<String> {
    let receivers = listed.waiting.len();
    match (&listed.report, listed.state) {
        (Some(report), State::Waiting) if report.wanted > 0 => Some(format!("for {} peers", report.wanted)),
        (Some(report), State::Live) if report.waits => Some("for slowest".into()),
        _ if receivers > 0 => Some(format!("{receivers} for it")),
        _ => None,
    }
}

/// A number in at most five places: 99999, 1.2M, 34M.
pub fn in_thousands(number: u64) -> String {
    match number {
        ..100_000 => number.to_string(),
        _ => scaled(number, 1000.0, ["k", "M", "G", "T"]),
    }
}

/// So many bytes in at most six places: 999B, 1.2KiB, 34MiB; counted in 1024s, as everywhere else.
pub fn in_bytes(number: u64) -> String {
    match number {
        ..1000 => format!("{number}B"),
        _ => scaled(number, 1024.0, ["KiB", "MiB", "GiB", "TiB"]),
    }
}

/// In the first of these units that needs three digits at most, or else in the last.
fn scaled(number: u64, scale: f64, units: [&str; 4]) -> String {
    let mut value = number as f64 / scale;
    let mut at = 0;
    while value >= 999.5 && at + 1 < units.len() {
        value /= scale;
        at += 1;
    }
    let places = usize::from(value < 9.95);
    format!("{value:.places$}{}", units[at])
}

#[cfg(test)]
mod tests {
    use super::{in_bytes, in_thousands};

    #[test]
    fn numbers_stay_short() {
        for (number, text) in [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100k"),
            (1_234_567, "1.2M"),
            (34_000_000, "34M"),
            (5_000_000_000, "5.0G"),
        ] {
            assert_eq!(in_thousands(number), text);
        }
        for (number, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0KiB"),
            (655_360, "640KiB"),
            (1_047_552, "1.0MiB"),
            (12_345_678, "12MiB"),
        ] {
            assert_eq!(in_bytes(number), text);
        }
    }
}
