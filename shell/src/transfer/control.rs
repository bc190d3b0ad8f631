//! The control thread: hears of deaths, reports and newcomers, and tells the data path; shows progress. So a kill is
//! noticed within a millisecond, also while the data path sits in `read`.

use super::report::{MAX_REPORT, Report};
use super::roster::Roster;
use super::{CopyContext, CopyError, lifeline};
use crate::channel::control::progress::Progress;
use crate::os::error::cannot;
use crate::os::event_fd::{EventFd, new_epoll};
use crate::os::signal;
use crate::os::timeout::timespec;
use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// A peer that everybody waits for.
#[derive(Clone, Copy, Debug)]
pub struct Stalled {
    /// Its number.
    pub peer: u32,
    /// Its process id.
    pub pid: i32,
    /// Whether it takes part; if not yet, nothing is sent before it does.
    pub joined: bool,
    /// Bytes published that it has not taken; 0: it has all, and is finishing its file.
    pub behind: u64,
}

/// Hears how a copy goes, in a thread of its own.
pub trait Watch: Send {
    /// So many bytes are sent, of so many if that is known; the slowest peer is so many bytes behind.
    fn progress(&mut self, sent: u64, total: Option<u64>, slowest: Option<Stalled>);
    /// For more than a second nothing moved, because of these peers.
    fn stalled(&mut self, peers: &[Stalled]);
    /// It has not begun: so many peers are there, of so many.
    fn gathering(&mut self, _there: usize, _wanted: u32) {}
}

/// What a transport knows about its peers; seats count from 0.
pub(super) trait Link: Sync {
    /// Somebody new may have arrived. Returns the seats that take part.
    fn welcome(&self) -> Vec<u32>;
    /// The occupant of a seat has ended.
    fn bury(&self, seat: u32);
    /// How many bytes it lies behind.
    fn behind(&self, seat: u32) -> u64;
}

/// How often progress is shown and stalls are looked for.
const TICK: Duration = Duration::from_millis(100);
/// After so long without any movement it is said for whom everybody waits.
const PATIENCE: Duration = Duration::from_secs(1);

const KNOCK: u64 = u64::MAX;
const RESULTS: u64 = u64::MAX - 1;
const STOP: u64 = u64::MAX - 2;

/// The control thread's descriptors.
pub(super) struct Control {
    epoll: OwnedFd,
    pidfds: Vec<OwnedFd>,
}

impl Control {
    /// Watches every receiver; after the last fork, before the thread.
    pub fn new(job: &CopyContext<'_>, roster: &Roster, knock: Option<&EventFd>) -> Result<Self, CopyError> {
        let failed = cannot("watch the receivers");
        let epoll = new_epoll().map_err(&failed)?;
        let add = |fd: rustix::fd::BorrowedFd<'_>, data| {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(data), epoll::EventFlags::IN).map_err(&failed)
        };
        let mut pidfds = Vec::new();
        for (peer, seat) in roster.lock().iter_mut().zip(0..) {
            let pidfd = lifeline::end_of(&peer.child, peer.lifeline.take()).map_err(&failed)?;
            add(pidfd.as_fd(), seat)?;
            pidfds.push(pidfd);
        }
        if let Some(knock) = knock {
            add(knock.as_fd(), KNOCK)?;
        }
        rustix::io::ioctl_fionbio(&job.results.0, true).map_err(&failed)?;
        add(job.results.0.as_fd(), RESULTS)?;
        add(signal::stop_event().map_err(&failed)?, STOP)?;
        Ok(Self { epoll, pidfds })
    }

    /// Runs until every receiver is reaped.
    pub fn run(
        self,
        job: &CopyContext<'_>,
        roster: &Roster,
        link: &impl Link,
        knock: Option<&EventFd>,
        flow: &Progress,
        watch: &mut dyn Watch,
    ) {
        let mut patience = Patience::new();
        let mut last_tick = Instant::now();
        while !roster.nobody_left() {
            let mut events =
                [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
            let count = epoll::wait(&self.epoll, &mut events, Some(&timespec(TICK))).unwrap_or(0); // EINTR: look around
            for event in &events[..count] {
                let data = event.data;
                match data.u64() {
                    KNOCK => {
                        if let Some(knock) = knock {
                            knock.drain();
                        }
                        welcome(roster, link);
                    }
                    RESULTS => collect(job, roster),
                    STOP => {
                        // The main thread sees the signal by itself; this thread only stops hearing of it.
                        if let Ok(stop) = signal::stop_event() {
                            let _ = epoll::delete(&self.epoll, stop);
                        }
                    }
                    seat => self.reap(job, roster, link, seat as u32),
                }
            }
            if last_tick.elapsed() >= TICK {
                last_tick = Instant::now();
                patience.look(flow.sent(), job.length, live(roster, link), flow.is_waiting(), watch);
            }
        }
        watch.progress(flow.sent(), job.length, None);
    }

    fn reap(&self, job: &CopyContext<'_>, roster: &Roster, link: &impl Link, seat: u32) {
        collect(job, roster); // what it said before it ended
        let mut peers = roster.lock();
        let peer = &mut peers[seat as usize];
        let Some(status) = peer.child.try_reap() else { return };
        peer.ended = Some(status);
        let lost = peer.report.is_none();
        let nobody_left = peers.iter().all(|peer| peer.ended.is_some());
        drop(peers);
        let _ = epoll::delete(&self.epoll, &self.pidfds[seat as usize]);
        link.bury(seat);
        if lost {
            job.remove_part(seat + 1);
        }
        if nobody_left {
            job.cancel.signal();
        }
        roster.tell();
    }
}

fn welcome(roster: &Roster, link: &impl Link) {
    let mut peers = roster.lock();
    for seat in link.welcome() {
        if let Some(peer) = peers.get_mut(seat as usize) {
            peer.joined = true;
        }
    }
    roster.tell();
}

fn collect(job: &CopyContext<'_>, roster: &Roster) {
    let mut packet = [0; MAX_REPORT];
    loop {
        match rustix::io::read(&job.results.0, &mut packet) {
            Err(Errno::INTR) => {}
            Err(_) | Ok(0) => return,
            Ok(count) => {
                let Some(report) = Report::decode(&packet[..count]) else { continue };
                if let Some(peer) = roster.lock().get_mut(report.peer.wrapping_sub(1) as usize) {
                    peer.report = Some(report);
                }
            }
        }
    }
}

/// Notices when nothing moves.
pub(super) struct Patience {
    last: (u64, u64, usize),
    since: Instant,
    told: bool,
}

impl Patience {
    pub fn new() -> Self {
        Self { last: (0, 0, 0), since: Instant::now(), told: false }
    }

    /// Shows how things stand: so many bytes sent, of so many; those who are not done; and whether the sender waits.
    pub fn look(
        &mut self,
        sent: u64,
        total: Option<u64>,
        mut left: Vec<Stalled>,
        waiting: bool,
        watch: &mut dyn Watch,
    ) {
        let most = left.iter().map(|peer| peer.behind).max().unwrap_or(0);
        watch.progress(sent, total, left.iter().copied().find(|peer| peer.behind == most));
        let now = (sent, left.iter().map(|peer| peer.behind).sum(), left.len());
        if now != self.last || !waiting {
            *self = Self { last: now, ..Self::new() };
        } else if !self.told && self.since.elapsed() >= PATIENCE && !left.is_empty() {
            self.told = true;
            match left.iter().all(|peer| peer.joined) {
                true => left.retain(|peer| peer.behind == most),
                false => left.retain(|peer| !peer.joined),
            }
            watch.stalled(&left);
        }
    }
}

fn live(roster: &Roster, link: &impl Link) -> Vec<Stalled> {
    let peers = roster.lock();
    let alive = peers.iter().zip(0..).filter(|(peer, _)| peer.ended.is_none());
    alive
        .map(|(peer, seat)| Stalled {
            peer: seat + 1,
            pid: peer.child.pid().as_raw_nonzero().get(),
            joined: peer.joined,
            behind: link.behind(seat),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Vec<usize>);

    impl Watch for Heard {
        fn progress(&mut self, _sent: u64, _total: Option<u64>, _slowest: Option<Stalled>) {}
        fn stalled(&mut self, peers: &[Stalled]) {
            self.0.push(peers.len());
        }
    }

    #[test]
    fn who_holds_everybody_up_is_named_once_and_nobody_is_no_name() {
        let (mut patience, mut heard) = (Patience::new(), Heard::default());
        let peer = Stalled { peer: 1, pid: 1, joined: true, behind: 9 };
        for left in [vec![], vec![peer; 2]] {
            patience.look(1, None, left.clone(), true, &mut heard);
            let Some(long_ago) = Instant::now().checked_sub(PATIENCE) else { return };
            patience.since = long_ago;
            (0..2).for_each(|_| patience.look(1, None, left.clone(), true, &mut heard));
        }
        assert_eq!(heard.0, [2]);
    }
}
