//! The mailboxes of a server. Their versions lie in memory that is mapped once, so reading them costs the server nothing.

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use whorl::MailSegment;
use whorl::internal::mailbox_server::attach::attach;
use whorl::internal::mailbox_server::server_registry::ServerRegistry;
use whorl::internal::os::close_on_fork::CloseOnForkFd;
use whorl::internal::os::timeout::NOW;

/// The most mailboxes whose versions are read.
const MOST: u32 = 4096;

/// A sample of a server's mailboxes.
#[derive(Clone, Debug, Serialize)]
pub struct Boxes {
    /// How many there are.
    pub boxes: u32,
    /// The bytes that one holds.
    #[serde(rename = "capacity_bytes")]
    pub capacity: u64,
    /// How many connections there are.
    pub connections: Option<u64>,
    /// The version of each of the first mailboxes.
    pub versions: Vec<u64>,
    /// Which of them changed since the last sample.
    #[serde(skip)]
    pub changed: Vec<bool>,
    /// The bytes of memory of all mailboxes.
    #[serde(skip)]
    pub memory: u64,
}

/// An attached server. It is attached without a seat.
pub struct Attached {
    /// Its process, or 0 if that is not visible. Another process is another server.
    pub pid: u32,
    port: u16,
    registry: ServerRegistry,
    segment: MailSegment,
    versions: Vec<u64>,
    /// The server counts this process as attached while it is open. A server that ends closes it.
    socket: CloseOnForkFd,
}

impl Attached {
    /// Attaches to a server. Returns `None` if the server refuses.
    pub fn to(port: u16, pid: u32) -> Option<Self> {
        let registry = ServerRegistry::open().ok()?;
        let (segment, socket) = attach(port).ok()?;
        Some(Self { pid, port, registry, segment, versions: Vec::new(), socket })
    }

    /// Returns whether the server has ended.
    pub fn has_ended(&self) -> bool {
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        poll(&mut ready, Some(&NOW)).is_ok_and(|count| count > 0)
    }

    /// Takes a sample. From the second one on it also returns the number of messages since the last one.
    pub fn sample(&mut self) -> (Boxes, Option<u64>) {
        let geometry = self.segment.geometry();
        let boxes = geometry.boxes();
        let version = |index| self.segment.version(index).unwrap_or(0);
        let versions: Vec<u64> = (0..boxes.min(MOST)).map(version).collect();
        let before = std::mem::replace(&mut self.versions, versions.clone());
        let pairs = || versions.iter().zip(&before);
        let written =
            (!before.is_empty()).then(|| pairs().map(|(now, then)| now.saturating_sub(*then)).sum());
        let changed = pairs().map(|(now, then)| now != then).collect();
        let (capacity, memory) = (geometry.capacity().into(), geometry.length());
        (Boxes { boxes, capacity, connections: self.connections(), versions, changed, memory }, written)
    }

    fn connections(&self) -> Option<u64> {
        self.registry.report(self.port).map(|report| report.connections)
    }
}
