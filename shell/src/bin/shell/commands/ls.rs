//! `shell ls`: lists channels and servers with their owners and receivers.

use super::survey::{command, in_short, kind, peer_state, state, survey};
use crate::cli::ls::Args;
use crate::ui::exit::Exit;
use crate::ui::table::{aligned, terminal_width};
use crate::ui::terminal::{Colour, print, print_error, print_json, print_painted};
use crate::ui::units::{rate, size};
use serde::Serialize;
use whorl::internal::os::escape;
use whorl::internal::os::standard::output;
use whorl::internal::registry::{Listed, State};

/// Runs it.
pub fn run(args: Args) -> Exit {
    let listed = match survey() {
        Ok(listed) => listed,
        Err(error) => {
            print_error(&format!("ls: {error}"));
            return Exit::Failed;
        }
    };
    for silent in listed.iter().filter_map(|channel| Some((&channel.name, channel.silent.as_ref()?))) {
        print_error(&format!("ls: {}: {}", silent.0, silent.1));
    }
    let sysv = if args.sysv { sysv() } else { Vec::new() };
    let channels: Vec<_> = listed.iter().map(Channel::of).collect();
    let printed = if args.json {
        let sysv = args.sysv.then_some(sysv);
        print_json(&Json { channels, sysv })
    } else {
        let sysv = sysv.iter().map(|segment| (None, segment.line()));
        let lines: Vec<_> = match terminal_width() {
            Some(width) => table(&channels, width).into_iter().chain(sysv).collect(),
            None => channels.iter().flat_map(Channel::lines).map(|line| (None, line)).chain(sysv).collect(),
        };
        match lines.is_empty() {
            true if output().is_terminal() => {
                print("No channels or servers. 'shell send NAME' starts a channel.")
            }
            true => true,
            false => print_painted(&lines),
        }
    };
    if printed { Exit::Done } else { Exit::Failed }
}

#[derive(Serialize)]
struct Json {
    channels: Vec<Channel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sysv: Option<Vec<Sysv>>,
}

#[derive(Serialize)]
struct Channel {
    name: String,
    /// `null` for what a dead owner left, because its kind is unknown.
    kind: Option<&'static str>,
    state: &'static str,
    owner: Option<Process>,
    memory_bytes: Option<u64>,
    sent_bytes: Option<u64>,
    rate_bytes_per_s: Option<u64>,
    /// How many receivers the owner waits for before it begins.
    wanted: Option<u32>,
    receivers: Vec<Receiver>,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
    command: Option<String>,
}

#[derive(Serialize)]
struct Receiver {
    pid: Option<u32>,
    command: Option<String>,
    lag_bytes: Option<u64>,
    state: &'static str,
}

impl Channel {
    fn of(listed: &Listed) -> Self {
        let report = listed.report.as_ref();
        let taking_part = report.into_iter().flat_map(|report| &report.receivers).map(|peer| {
            let pid = (peer.pid != 0).then_some(peer.pid);
            let state = peer_state(peer);
            Receiver { pid, command: pid.and_then(command), lag_bytes: Some(peer.behind), state }
        });
        let waiting = listed.waiting.iter().map(|&pid| {
            let pid = (pid != 0).then_some(pid);
            Receiver { pid, command: pid.and_then(command), lag_bytes: None, state: "waiting" }
        });
        // A process that waits for an owner is a receiver, and receivers wait for rings.
        let awaited = (listed.state == State::Waiting).then_some("ring");
        let stale = listed.state == State::Stale;
        Self {
            name: listed.name.to_string(),
            kind: listed.kind.map(kind).or(awaited),
            state: state(listed.state),
            owner: listed.owner.map(|pid| Process { pid, command: (!stale).then(|| command(pid)).flatten() }),
            memory_bytes: report.map(|report| report.memory),
            sent_bytes: report.map(|report| report.sent),
            rate_bytes_per_s: report.map(|report| report.rate),
            wanted: report.map(|report| report.wanted),
            receivers: taking_part.chain(waiting).collect(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let owner =
            self.owner.as_ref().map_or("-".into(), |owner| process_shown(Some(owner.pid), &owner.command));
        let mut line = format!("{}\t{}\t{}\t{owner}", self.name, self.kind.unwrap_or("-"), self.state);
        if let (Some(bytes), Some(sent), Some(per_s)) =
            (self.memory_bytes, self.sent_bytes, self.rate_bytes_per_s)
        {
            let (bytes, sent, per_s) = (size(bytes), size(sent), rate(per_s));
            line += &format!("\t{bytes} of memory, {sent} sent, {per_s}, {} attached", self.attached());
        }
        let each = self.receivers.iter().map(|peer| {
            let behind = peer.lag_bytes.map_or(String::new(), |behind| format!("\t{}", lag(behind)));
            format!("  {}\t{}{behind}", peer.state, process_shown(peer.pid, &peer.command))
        });
        std::iter::once(line).chain(each).collect()
    }

    fn row(&self) -> Vec<String> {
        let size = |bytes: Option<u64>| bytes.map_or("-".into(), size);
        let rate = self.rate_bytes_per_s.map_or("-".into(), rate);
        let state = match self.wanted {
            Some(wanted) if self.state == "waiting" => format!("waits for {wanted}"),
            _ => self.state.into(),
        };
        let (kind, attached) = (self.kind.unwrap_or("-").into(), self.attached().to_string());
        let owner = self.owner.as_ref().map_or("-".into(), |owner| in_short(Some(owner.pid), &owner.command));
        vec![
            self.name.clone(),
            kind,
            state,
            size(self.sent_bytes),
            rate,
            attached,
            size(self.memory_bytes),
            owner,
        ]
    }

    fn attached(&self) -> usize {
        self.receivers.iter().filter(|peer| peer.lag_bytes.is_some()).count()
    }
}

fn process_shown(pid: Option<u32>, command: &Option<String>) -> String {
    match (pid, command) {
        (Some(pid), Some(command)) => format!("pid {pid} ({})", escape::line(command)),
        (Some(pid), None) => format!("pid {pid}"),
        (None, _) => "a process of another namespace".into(),
    }
}

fn lag(behind: u64) -> String {
    match behind {
        0 => "up to date".into(),
        behind => format!("{} behind", size(behind)),
    }
}

/// Formats the list for a terminal: aligned columns, in which a long command is cut, and colours.
fn table(channels: &[Channel], width: usize) -> Vec<(Option<Colour>, String)> {
    if channels.is_empty() {
        return Vec::new();
    }
    let head = ["NAME", "KIND", "STATE", "SENT", "RATE", "PEERS", "MEMORY", "OWNER"];
    let rows = std::iter::once(head.map(String::from).to_vec()).chain(channels.iter().map(Channel::row));
    let rows = rows.map(|mut row| {
        if width < 100 {
            row.remove(6); // the memory, which never changes
        }
        row
    });
    let peers = channels.iter().flat_map(|channel| &channel.receivers).map(|peer| {
        let behind = peer.lag_bytes.map_or("-".into(), lag);
        vec![format!("  {}", peer.state), behind, in_short(peer.pid, &peer.command)]
    });
    let mut peers = aligned(&peers.collect::<Vec<_>>(), width).into_iter();
    let mut lines = aligned(&rows.collect::<Vec<_>>(), width).into_iter();
    let mut table: Vec<_> = lines.by_ref().take(1).map(|head| (None, head)).collect();
    for (line, channel) in lines.zip(channels) {
        table.push((colour(channel.state), line));
        let states = channel.receivers.iter().map(|peer| colour(peer.state));
        table.extend(states.zip(peers.by_ref()));
    }
    table
}

fn colour(state: &str) -> Option<Colour> {
    match state {
        "live" => Some(Colour::Green),
        "waiting" | "stopped" => Some(Colour::Yellow),
        "stale" | "evicted" => Some(Colour::Red),
        _ => None,
    }
}

/// A System V shared memory segment.
#[derive(Serialize)]
struct Sysv {
    id: u64,
    key: String,
    memory_bytes: u64,
    creator: u32,
    attached: u64,
}

impl Sysv {
    fn line(&self) -> String {
        let bytes = size(self.memory_bytes);
        let (id, key, creator, attached) = (self.id, &self.key, self.creator, self.attached);
        // A program may still need a segment to which no process is attached.
        let advice = match attached {
            0 => format!("; if no program needs it, 'ipcrm -m {id}' removes it"),
            _ => String::new(),
        };
        format!("{key}\tsysv\tid {id}\tpid {creator}\t{bytes}, {attached} attached{advice}")
    }
}

/// Returns the segments of this user.
fn sysv() -> Vec<Sysv> {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let mut lines = table.lines();
    let columns: Vec<_> = lines.next().unwrap_or_default().split_whitespace().collect();
    let me = rustix::process::geteuid().as_raw().to_string();
    let row = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let field = |name| fields.get(columns.iter().position(|column| *column == name)?).copied();
        if field("uid")? != me {
            return None;
        }
        Some(Sysv {
            id: field("shmid")?.parse().ok()?,
            key: format!("{:#010x}", field("key")?.parse::<i64>().ok()? as u32),
            memory_bytes: field("size")?.parse().ok()?,
            creator: field("cpid")?.parse().ok()?,
            attached: field("nattch")?.parse().ok()?,
        })
    };
    lines.filter_map(row).collect()
}
