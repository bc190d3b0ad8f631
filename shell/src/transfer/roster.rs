//! The forked receivers: what they report, how they ended, and waiting for them.

use super::checksum::{Sum, hex};
use super::destination::Warning;
use super::lifeline::{self, Lifeline};
use super::report::Report;
use super::{CopyContext, CopyError};
use crate::os::fork;
use crate::os::fork::{Child, Ending};
use crate::os::signal;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::process::Signal;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Why a receiver has no file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Something on its own side, most often the disk.
    Own(String),
    /// What it wrote is not what was sent.
    Checksum,
    /// The sender went away.
    Sender(String),
    /// It was asked to stop.
    Interrupted,
    /// It ended without a report.
    Lost(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own(text) | Self::Sender(text) => f.write_str(text),
            Self::Checksum => f.write_str("the file read back has another checksum than the source"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Lost(how) => write!(f, "lost: {how}"),
        }
    }
}

/// What became of one receiver.
#[derive(Clone, Debug)]
pub struct PeerOutcome {
    /// Its number, from 1.
    pub peer: u32,
    /// Its process id.
    pub pid: i32,
    /// Its file.
    pub path: PathBuf,
    /// Bytes it wrote.
    pub bytes: u64,
    /// The checksum of its file, where one was asked for.
    pub checksum: Option<Sum>,
    /// How long it took.
    pub seconds: f64,
    /// Why it has no file; `None` if it has.
    pub fault: Option<Fault>,
    /// What its file lacks.
    pub warnings: Vec<Warning>,
}

impl PeerOutcome {
    /// The checksum as 32 hex digits.
    pub fn checksum_hex(&self) -> Option<String> {
        self.checksum.map(hex)
    }
}

/// One receiver, as its parent knows it.
pub(super) struct Peer {
    pub child: Child,
    /// What tells of its end where there are no pidfds, until the control thread has it.
    pub lifeline: Option<OwnedFd>,
    pub joined: bool,
    pub report: Option<Report>,
    pub ended: Option<Ending>,
}

/// All receivers, shared between the data path and the control thread.
pub(super) struct Roster {
    peers: Mutex<Vec<Peer>>,
    changed: Condvar,
}

impl Roster {
    /// Forks all receivers. If one cannot be forked, the others are ended again.
    pub fn fork(job: &CopyContext<'_>, receive: impl Fn(u32) -> Report) -> Result<Self, CopyError> {
        let roster = Self { peers: Mutex::new(Vec::new()), changed: Condvar::new() };
        let needs_pipes = lifeline::needs_pipes();
        for peer in 1..=job.plan.peers {
            let lifeline = match Lifeline::prepare(needs_pipes) {
                Ok(lifeline) => lifeline,
                Err(error) => {
                    roster.kill_all(job);
                    return Err(CopyError::Fork { peer, error });
                }
            };
            let child = fork::fork(|| {
                // Without a reader a report has nowhere to go. While anybody holds this end, a full pipe would keep the
                // receivers of a sender that was killed for ever.
                // SAFETY: this forked process never reads reports, and ends without running destructors.
                unsafe { rustix::io::close(job.results.0.as_raw_fd()) };
                let report = receive(peer);
                let failed = report.fault.is_some();
                report.send(&job.results.1);
                failed.into()
            });
            match child {
                Ok(child) => roster.lock().push(Peer {
                    child,
                    lifeline: lifeline.forked(),
                    joined: false,
                    report: None,
                    ended: None,
                }),
                Err(error) => {
                    roster.kill_all(job);
                    return Err(CopyError::Fork { peer, error });
                }
            }
        }
        Ok(roster)
    }

    /// Kills and reaps every receiver, when there is no control thread to do it.
    pub fn kill_all(&self, job: &CopyContext<'_>) {
        let peers = self.lock();
        for peer in peers.iter() {
            peer.child.kill(Signal::KILL);
        }
        for (peer, number) in peers.iter().zip(1..) {
            peer.child.reap();
            job.remove_part(number);
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.peers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Says that something changed under the lock.
    pub fn tell(&self) {
        self.changed.notify_all();
    }

    /// Whether every receiver has ended, so that there is nobody to send to.
    pub fn nobody_left(&self) -> bool {
        self.lock().iter().all(|peer| peer.ended.is_some())
    }

    /// Waits until every receiver takes part or has ended, or a signal asks to stop.
    pub fn wait_joined(&self) {
        self.wait(None, |peer| peer.joined || peer.ended.is_some());
    }

    /// Waits until every receiver has ended, or a signal asks to stop.
    pub fn wait_ended(&self) {
        self.wait(None, |peer| peer.ended.is_some());
    }

    /// Ends every receiver: asks, and a second later insists, for a stopped one does not listen.
    pub fn end_all(&self) {
        let everybody = |signal| {
            for peer in self.lock().iter().filter(|peer| peer.ended.is_none()) {
                peer.child.kill(signal);
            }
        };
        everybody(Signal::TERM);
        let ended = |peer: &Peer| peer.ended.is_some();
        if !self.wait_even_if_stopping(Some(Instant::now() + Duration::from_secs(1)), ended) {
            everybody(Signal::KILL);
            self.wait_even_if_stopping(None, ended);
        }
    }

    fn wait(&self, deadline: Option<Instant>, done: impl Fn(&Peer) -> bool) -> bool {
        self.wait_while(deadline, |peers| signal::stop_signal().is_none() && !peers.iter().all(&done))
    }

    fn wait_even_if_stopping(&self, deadline: Option<Instant>, done: impl Fn(&Peer) -> bool) -> bool {
        self.wait_while(deadline, |peers| !peers.iter().all(&done))
    }

    fn wait_while(&self, deadline: Option<Instant>, unfinished: impl Fn(&[Peer]) -> bool) -> bool {
        let mut peers = self.lock();
        while unfinished(&peers) {
            // The control thread tells of every change; the bound is for signals, which tell nobody.
            let nap = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => left.min(crate::os::futex::POLL_INTERVAL),
                None => crate::os::futex::POLL_INTERVAL,
            };
            let woken =
                self.changed.wait_timeout(peers, nap).unwrap_or_else(std::sync::PoisonError::into_inner);
            peers = woken.0;
        }
        true
    }

    /// What became of everybody.
    pub fn outcomes(self, job: &CopyContext<'_>) -> Vec<PeerOutcome> {
        let peers = self.peers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        peers.into_iter().zip(1..).map(|(peer, number)| outcome(job, number, peer)).collect()
    }
}

fn outcome(job: &CopyContext<'_>, number: u32, peer: Peer) -> PeerOutcome {
    let pid = peer.child.pid().as_raw_nonzero().get();
    let report = peer.report.unwrap_or_else(|| Report {
        peer: number,
        bytes: 0,
        checksum: None,
        seconds: job.started.elapsed().as_secs_f64(),
        warnings: Vec::new(),
        fault: Some(Fault::Lost(peer.ended.map_or_else(|| "it cannot be reaped".into(), how))),
    });
    PeerOutcome {
        peer: number,
        pid,
        path: job.plan.directory.join(job.name(number, pid)),
        bytes: report.bytes,
        checksum: report.checksum,
        seconds: report.seconds,
        fault: report.fault,
        warnings: report.warnings,
    }
}

/// How a process ended, in words.
fn how(ending: Ending) -> String {
    let Ending::Known(status) = ending else { return "ended, and something else has reaped it".into() };
    match (status.terminating_signal(), status.exit_status()) {
        (Some(9), _) => "killed by SIGKILL".into(),
        (Some(15), _) => "killed by SIGTERM".into(),
        (Some(signal), _) => format!("killed by signal {signal}"),
        (_, Some(code)) => format!("ended with code {code} and no report"),
        _ => "ended".into(),
    }
}
