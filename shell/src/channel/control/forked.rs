//! Forked receivers, as the control thread watches them: their ends, their reports, and their requests to be admitted.

use crate::channel::control::peers::PeerTable;
use crate::channel::control::state::ChannelState;
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::{OsError, cannot};
use crate::os::event_fd::{EventFd, watch};
use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::sync::Arc;

/// The most bytes of a report. With the number before it, it is one packet of a pipe.
pub(crate) const MAX_REPORT: usize = 4096 - NUMBER;
/// Bytes of the number.
const NUMBER: usize = 8;

const JOINED: u64 = u64::MAX - 1;
const REPORTS: u64 = u64::MAX - 2;

/// The pipe through which forked receivers report. Each report is one packet: the receiver's number, then the report.
pub(crate) struct ReportPipe {
    /// Children do not inherit this end. If one of them held it, a full pipe would block the receivers of a killed
    /// sender without end.
    reader: CloseOnForkFd,
    writer: OwnedFd,
}

impl ReportPipe {
    pub(crate) fn new() -> Result<Self, Errno> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::DIRECT)?;
        Ok(Self { reader: CloseOnForkFd::of(reader)?, writer })
    }

    /// Sends the report of receiver `id`. A forked receiver calls this. If the parent is gone, the report is dropped.
    pub(crate) fn send(&self, id: u64, report: &[u8]) {
        let packet = [&id.to_le_bytes(), report].concat();
        while let Err(Errno::INTR) = rustix::io::write(&self.writer, &packet) {}
    }

    fn receive(&self, packet: &mut [u8]) -> Option<(u64, Vec<u8>)> {
        loop {
            match rustix::io::read(&self.reader, &mut *packet) {
                Err(Errno::INTR) => {}
                Err(_) | Ok(0) => return None,
                Ok(count) => {
                    let Some((id, report)) = packet[..count].split_first_chunk::<NUMBER>() else { continue };
                    return Some((u64::from_le_bytes(*id), report.to_vec()));
                }
            }
        }
    }
}

/// The forked receivers that the control thread watches.
pub(crate) struct ForkedPeers {
    pub reports: ReportPipe,
    /// A receiver signals it when it waits to be admitted, if the transport admits receivers.
    pub joined: Option<Arc<EventFd>>,
    /// Called with the number of each receiver that ended without a report.
    pub on_lost: Box<dyn Fn(u64) + Send>,
}

/// Watches the forked receivers.
pub(super) struct ForkedWatch {
    peers: ForkedPeers,
    /// A descriptor for each receiver, which becomes readable when it ends.
    ends: Vec<OwnedFd>,
}

impl ForkedWatch {
    /// Watches every receiver in the table, after the last fork.
    pub(super) fn new(peers: ForkedPeers, table: &PeerTable, epoll: &OwnedFd) -> Result<Self, OsError> {
        let failed = cannot("watch the receivers");
        let ends = table.end_events().map_err(&failed)?;
        for (end, id) in ends.iter().zip(0..) {
            watch(epoll, end.as_fd(), id).map_err(&failed)?;
        }
        if let Some(joined) = &peers.joined {
            watch(epoll, joined.as_fd(), JOINED).map_err(&failed)?;
        }
        rustix::io::ioctl_fionbio(&peers.reports.reader, true).map_err(&failed)?;
        watch(epoll, peers.reports.reader.as_fd(), REPORTS).map_err(&failed)?;
        Ok(Self { peers, ends })
    }

    pub(super) fn on_event(&self, state: &ChannelState, epoll: &OwnedFd, event: u64) {
        match event {
            JOINED => {
                self.peers.joined.as_ref().inspect(|joined| joined.drain());
                state.peers.join_forked(&state.transport.admit_new());
            }
            REPORTS => self.collect(state),
            id => self.reap(state, epoll, id),
        }
    }

    fn collect(&self, state: &ChannelState) {
        let mut packet = [0; NUMBER + MAX_REPORT];
        while let Some((id, report)) = self.peers.reports.receive(&mut packet) {
            state.peers.set_report(id, report);
        }
    }

    fn reap(&self, state: &ChannelState, epoll: &OwnedFd, id: u64) {
        self.collect(state); // the report that it sent before it ended
        let Some(has_reported) = state.peers.reap(id) else { return };
        let _ = epoll::delete(epoll, &self.ends[id as usize]);
        state.transport.reclaim(id as u32);
        if !has_reported {
            (self.peers.on_lost)(id);
        }
        state.cancel_if_alone();
    }
}
