//! `shell ls`: what exists, who holds it, who is behind.

use crate::cli::ls::Args;
use crate::exit::Exit;
use crate::terminal::{print, say};
use serde::Serialize;
use whorl::channel::{Listed, State, list, mailbox_servers};
use whorl::memory::in_words;
use whorl::rendezvous::RuntimeDir;
use whorl::rendezvous::report::{Kind, Standing};

/// Runs it.
pub fn run(args: Args) -> Exit {
    let found = RuntimeDir::open().map_err(|error| error.to_string()).and_then(|directory| {
        let failed = |error| format!("{}: {}", whorl::shown(directory.path()), whorl::reason(error));
        let mut listed = list(&directory).map_err(failed)?;
        listed.extend(mailbox_servers().map_err(|error| error.to_string())?);
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    });
    let listed = match found {
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
    let text = if args.json {
        let sysv = args.sysv.then_some(sysv);
        serde_json::to_string(&Json { channels, sysv }).expect("plain data")
    } else {
        let lines = channels.iter().flat_map(Channel::lines).chain(sysv.iter().map(Sysv::line));
        lines.collect::<Vec<_>>().join("\n")
    };
    if text.is_empty() || print(&text) { Exit::Done } else { Exit::Failed }
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
            let stopped = pid.is_some_and(is_stopped);
            let state = match peer.standing {
                _ if stopped => "stopped",
                Standing::Joining => "joining",
                Standing::Live => "live",
                Standing::Evicted => "evicted",
                Standing::Done => "done",
            };
            Receiver { pid, command: pid.and_then(command), behind: Some(peer.behind), state }
        });
        let waiting = listed.waiting.iter().map(|&pid| Receiver {
            pid: Some(pid),
            command: command(pid),
            behind: None,
            state: "waiting",
        });
        // What waits for an owner is a receiver, and receivers wait for rings.
        let awaited = (listed.state == State::Waiting).then_some("ring");
        let stale = listed.state == State::Stale;
        Self {
            name: listed.name.to_string(),
            kind: listed.kind.map(kind).or(awaited),
            state: match listed.state {
                State::Live => "live",
                State::Waiting => "waiting",
                State::Stale => "stale",
            },
            owner: listed.owner.map(|pid| Process { pid, command: (!stale).then(|| command(pid)).flatten() }),
            bytes: report.map(|report| report.memory),
            sent: report.map(|report| report.sent),
            rate: report.map(|report| report.rate),
            wanted: report.map(|report| report.wanted),
            receivers: taking_part.chain(waiting).collect(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let owner = match &self.owner {
            Some(Process { pid, command: Some(command) }) => format!("pid {pid} ({command})"),
            Some(Process { pid, command: None }) => format!("pid {pid}"),
            None => "-".into(),
        };
        let mut line = format!("{}\t{}\t{}\t{owner}", self.name, self.kind.unwrap_or("-"), self.state);
        if let (Some(bytes), Some(sent), Some(rate)) = (self.bytes, self.sent, self.rate) {
            let (bytes, sent, rate) = (in_words(bytes), in_words(sent), in_words(rate));
            line += &format!("\t{bytes} of memory, {sent} sent, {rate}/s, {} attached", self.attached());
        }
        let each = self.receivers.iter().map(|peer| {
            let who = match (peer.pid, &peer.command) {
                (Some(pid), Some(command)) => format!("pid {pid} ({command})"),
                (Some(pid), None) => format!("pid {pid}"),
                (None, _) => "a process of another namespace".into(),
            };
            let behind = peer.behind.map_or(String::new(), |behind| match behind {
                0 => "\tup to date".into(),
                behind => format!("\t{} behind", in_words(behind)),
            });
            format!("  {}\t{who}{behind}", peer.state)
        });
        std::iter::once(line).chain(each).collect()
    }

    fn attached(&self) -> usize {
        self.receivers.iter().filter(|peer| peer.behind.is_some()).count()
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Ring => "ring",
        Kind::Mailboxes => "mailboxes",
        Kind::Server => "server",
    }
}

/// What a process was started as, on one line and fit for a terminal.
fn command(pid: u32) -> Option<String> {
    const LONGEST: usize = 80;
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    let text = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ");
    let shown: String = text.escape_debug().take(LONGEST).collect();
    (!shown.is_empty()).then_some(shown)
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
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
        format!(
            "{key}\tsysv\tid {id}\tpid {creator}\t{bytes}, {attached} attached; remove it with ipcrm -m {id}"
        )
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
