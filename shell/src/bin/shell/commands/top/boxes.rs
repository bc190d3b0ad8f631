//! Mailboxes as an onlooker sees them: their versions lie in memory that is mapped once, so looking costs the server
//! nothing.

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use whorl::mailbox_server::attach::attach;
use whorl::mailbox_server::server_registry::ServerRegistry;
use whorl::os::close_on_fork::CloseOnForkFd;
use whorl::os::timeout::NOW;
use whorl::shm::mailboxes::MailSegment;

/// Of more mailboxes not every version is read each time.
const MOST: u32 = 4096;

/// What is known of a server's mailboxes.
#[derive(Clone, Debug, Serialize)]
pub struct Boxes {
    /// How many there are.
    pub boxes: u32,
    /// What one holds.
    pub capacity: u64,
    /// How many connections there are.
    pub connections: Option<u64>,
    /// The version of each, up to some.
    pub versions: Vec<u64>,
    /// Which of them changed since the last look.
    #[serde(skip)]
    pub changed: Vec<bool>,
    /// Bytes of memory.
    #[serde(skip)]
    pub memory: u64,
}

/// A server that was attached to, without a seat.
pub struct Attached {
    /// Its process, 0 if that is not visible: another one is another server.
    pub pid: u32,
    port: u16,
    registry: ServerRegistry,
    segment: MailSegment,
    versions: Vec<u64>,
    /// While it is open the server counts us as attached. A server that ends closes it.
    socket: CloseOnForkFd,
}

impl Attached {
    /// Attaches; nothing if the server does not want that.
    pub fn to(port: u16, pid: u32) -> Option<Self> {
        let registry = ServerRegistry::open().ok()?;
        let (segment, socket) = attach(port).ok()?;
        Some(Self { pid, port, registry, segment, versions: Vec::new(), socket })
    }

    /// Whether the server is gone.
    pub fn has_ended(&self) -> bool {
        let mut heard = [PollFd::new(&self.socket, PollFlags::IN)];
        poll(&mut heard, Some(&NOW)).is_ok_and(|count| count > 0)
    }

    /// Looks. How many messages were written since the last time comes along, from the second time on.
    pub fn look(&mut self) -> (Boxes, Option<u64>) {
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
