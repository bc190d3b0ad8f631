//! `shell ls`: what exists, who holds it, who is behind.

use super::survey::{command, in_short, kind, standing, state, survey};
use crate::cli::ls::Args;
use crate::ui::exit::Exit;
use crate::ui::table::{aligned, terminal_width};
use crate::ui::terminal::{print, print_json, say};
use serde::Serialize;
use whorl::os::escape;
use whorl::os::memory::in_words;
use whorl::registry::{Listed, State};

/// Runs it.
pub fn run(args: Args) -> Exit {
    let listed = match survey() {
        Ok(listed) => listed,
        Err(error) => {
            say(&format!("ls: {error}"));
            return Exit::Failed;
        }
    };
    for silent in listed.iter().filter_map(|channel| Some((&channel.name, channel.silent.as_ref()?))) {
        say(&format!("ls: {}: {}", silent.0, silent.1));
    }
    let sysv = if args.sysv { sysv() } else { Vec::new() };
    let channels: Vec<_> = listed.iter().map(Channel::of).collect();
    let printed = if args.json {
        let sysv = args.sysv.then_some(sysv);
        print_json(&Json { channels, sysv })
    } else {
        let sysv = sysv.iter().map(Sysv::line);
        let text = match terminal_width() {
            Some(width) => table(&channels, width).into_iter().chain(sysv).collect::<Vec<_>>().join("\n"),
            None => channels.iter().flat_map(Channel::lines).chain(sysv).collect::<Vec<_>>().join("\n"),
        };
        text.is_empty() || print(&text)
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
    /// `null` for what a dead owner left: nobody knows.
    kind: Option<&'static str>,
    state: &'static str,
    owner: Option<Process>,
    bytes: Option<u64>,
    sent: Option<u64>,
    rate: Option<u64>,
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
    behind: Option<u64>,
    state: &'static str,
}

impl Channel {
    fn of(listed: &Listed) -> Self {
        let report = listed.report.as_ref();
        let taking_part = report.into_iter().flat_map(|report| &report.participants).map(|peer| {
            let pid = (peer.pid != 0).then_some(peer.pid);
            let state = standing(peer);
            Receiver { pid, command: pid.and_then(command), behind: Some(peer.behind), state }
        });
        let waiting = listed.waiting.iter().map(|&pid| {
            let pid = (pid != 0).then_some(pid);
            Receiver { pid, command: pid.and_then(command), behind: None, state: "waiting" }
        });
        // What waits for an owner is a receiver, and receivers wait for rings.
        let awaited = (listed.state == State::Waiting).then_some("ring");
        let stale = listed.state == State::Stale;
        Self {
            name: listed.name.to_string(),
            kind: listed.kind.map(kind).or(awaited),
            state: state(listed.state),
            owner: listed.owner.map(|pid| Process { pid, command: (!stale).then(|| command(pid)).flatten() }),
            bytes: report.map(|report| report.memory),
            sent: report.map(|report| report.sent),
            rate: report.map(|report| report.rate),
            wanted: report.map(|report| report.wanted),
            receivers: taking_part.chain(waiting).collect(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let owner = self.owner.as_ref().map_or("-".into(), |owner| who(Some(owner.pid), &owner.command));
        let mut line = format!("{}\t{}\t{}\t{owner}", self.name, self.kind.unwrap_or("-"), self.state);
        if let (Some(bytes), Some(sent), Some(rate)) = (self.bytes, self.sent, self.rate) {
            let (bytes, sent, rate) = (in_words(bytes), in_words(sent), in_words(rate));
            line += &format!("\t{bytes} of memory, {sent} sent, {rate}/s, {} attached", self.attached());
        }
        let each = self.receivers.iter().map(|peer| {
            let behind = peer.behind.map_or(String::new(), |behind| format!("\t{}", lag(behind)));
            format!("  {}\t{}{behind}", peer.state, who(peer.pid, &peer.command))
        });
        std::iter::once(line).chain(each).collect()
    }

    fn row(&self) -> Vec<String> {
        let size = |bytes: Option<u64>| bytes.map_or("-".into(), in_words);
        let rate = self.rate.map_or("-".into(), |rate| format!("{}/s", in_words(rate)));
        let state = match self.wanted {
            Some(wanted) if self.state == "waiting" => format!("waits for {wanted}"),
            _ => self.state.into(),
        };
        let (kind, attached) = (self.kind.unwrap_or("-").into(), self.attached().to_string());
        let owner = self.owner.as_ref().map_or("-".into(), |owner| in_short(Some(owner.pid), &owner.command));
        vec![self.name.clone(), kind, state, size(self.sent), rate, attached, size(self.bytes), owner]
    }

    fn attached(&self) -> usize {
        self.receivers.iter().filter(|peer| peer.behind.is_some()).count()
    }
}

fn who(pid: Option<u32>, command: &Option<String>) -> String {
    match (pid, command) {
        (Some(pid), Some(command)) => format!("pid {pid} ({})", escape::line(command)),
        (Some(pid), None) => format!("pid {pid}"),
        (None, _) => "a process of another namespace".into(),
    }
}

fn lag(behind: u64) -> String {
    match behind {
        0 => "up to date".into(),
        behind => format!("{} behind", in_words(behind)),
    }
}

/// For a terminal: columns, and of a long command only the beginning.
fn table(channels: &[Channel], width: usize) -> Vec<String> {
    if channels.is_empty() {
        return Vec::new();
    }
    let head = ["NAME", "KIND", "STATE", "SENT", "RATE", "PEERS", "MEMORY", "OWNER"];
    let rows = std::iter::once(head.map(String::from).to_vec()).chain(channels.iter().map(Channel::row));
    let rows = rows.map(|mut row| {
        if width < 100 {
            row.remove(6); // the memory, which does not change
        }
        row
    });
    let peers = channels.iter().flat_map(|channel| &channel.receivers).map(|peer| {
        let behind = peer.behind.map_or("-".into(), lag);
        vec![format!("  {}", peer.state), behind, in_short(peer.pid, &peer.command)]
    });
    let mut peers = aligned(&peers.collect::<Vec<_>>(), width).into_iter();
    let mut lines = aligned(&rows.collect::<Vec<_>>(), width).into_iter();
    let mut table: Vec<_> = lines.by_ref().take(1).collect();
    for (line, channel) in lines.zip(channels) {
        table.push(line);
        table.extend(peers.by_ref().take(channel.receivers.len()));
    }
    table
}

/// A System V shared memory segment.
#[derive(Serialize)]
struct Sysv {
    id: u64,
    key: String,
    bytes: u64,
    creator: u32,
    attached: u64,
}

impl Sysv {
    fn line(&self) -> String {
        let bytes = in_words(self.bytes);
        let (id, key, creator, attached) = (self.id, &self.key, self.creator, self.attached);
        // A program may need what it is not attached to just now: that is not for us to tell.
        let advice = match attached {
            0 => format!("; if no program needs it, 'ipcrm -m {id}' removes it"),
            _ => String::new(),
        };
        format!("{key}\tsysv\tid {id}\tpid {creator}\t{bytes}, {attached} attached{advice}")
    }
}

/// Those of this user.
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
            bytes: field("size")?.parse().ok()?,
            creator: field("cpid")?.parse().ok()?,
            attached: field("nattch")?.parse().ok()?,
        })
    };
    lines.filter_map(row).collect()
}
