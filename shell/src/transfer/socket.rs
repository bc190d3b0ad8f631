//! Sockets as transport of a copy: one unix socket for each forked peer.

use super::control::{Link, Watch};
use super::crowd::{FanOutSource, NewPeer, PeerSet, ServeError};
use super::destination::Destination;
use super::receive::receive;
use super::roster::{Fault, PeerOutcome, Roster};
use super::serving::{FanOut, TURN};
use super::source::Source;
use super::{CopyContext, CopyError};
use crate::channel::control::progress::Progress;
use crate::channel::transport::frame::{self, END_BODY, HEAD, Head};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::cannot;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use whorl_core::error::End;

/// Runs the whole copy; returns the bytes sent and what became of each peer.
pub(super) fn run(
    job: &CopyContext<'_>,
    source: &mut Source,
    watch: &mut dyn Watch,
) -> Result<(u64, Vec<PeerOutcome>), CopyError> {
    let pairs = (0..job.plan.peers).map(|_| pair()).collect::<Result<Vec<_>, _>>()?;
    let roster = Roster::fork(job, |peer| receive(job, source, peer, |file| transfer(&pairs, peer, file)))?;
    roster.lock().iter_mut().for_each(|peer| peer.joined = true); // its socket takes bytes before it runs
    // Forked children of ours have their copies by now, and no others are made.
    let newcomers = pairs.into_iter().zip(0..).map(|((socket, _theirs), place)| {
        CloseOnForkFd::of(socket).map(|socket| NewPeer { socket: Arc::new(socket), place, from_first: true })
    });
    let newcomers = match newcomers.collect::<Result<Vec<_>, _>>() {
        Ok(newcomers) => newcomers,
        Err(error) => {
            roster.kill_all(job);
            return Err(cannot("keep the sockets")(error).into());
        }
    };
    let lags =
        Lags { sent: AtomicU64::new(0), positions: (0..job.plan.peers).map(|_| AtomicU64::new(0)).collect() };
    let flow = Progress::default();
    super::run_transfer(job, roster, &lags, None, &flow, watch, |roster| {
        let supply = FanOutSource {
            source,
            block: job.plan.block as usize,
            blocks: job.plan.slots as usize,
            verify: job.plan.care.verify,
            cancel: &job.cancel,
        };
        let family = ForkedPeers { roster, flow: &flow, lags: &lags };
        let served = FanOut::new(supply, &family).and_then(|serving| serving.run(newcomers));
        let end = served.map_err(|error| copy_error(job, error))?;
        flow.waiting(|| roster.wait_ended());
        end.map(|end| end.total).ok_or(CopyError::NobodyLeft)
    })
}

/// The forked receivers, as those who are sent to.
struct ForkedPeers<'a> {
    roster: &'a Roster,
    flow: &'a Progress,
    lags: &'a Lags,
}

impl PeerSet for ForkedPeers<'_> {
    fn nobody_left(&self) -> bool {
        self.roster.nobody_left()
    }
    fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.flow.waiting(wait)
    }
    fn sent(&self, most: u64) {
        self.lags.sent.store(most, Ordering::Relaxed);
        self.flow.set_sent(most);
    }
    fn is_at(&self, place: u32, position: u64) {
        self.lags.positions[place as usize].store(position, Ordering::Relaxed);
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd), CopyError> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    Ok(pair.map_err(cannot("make a socket"))?)
}

/// How far each peer is, for the control thread.
struct Lags {
    sent: AtomicU64,
    positions: Vec<AtomicU64>,
}

impl Link for Lags {
    fn welcome(&self) -> Vec<u32> {
        Vec::new()
    }
    fn bury(&self, _seat: u32) {} // its socket says so
    fn behind(&self, seat: u32) -> u64 {
        let position = self.positions[seat as usize].load(Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed).saturating_sub(position)
    }
}

/// Why a copy's serving ended, in a copy's words.
fn copy_error(job: &CopyContext<'_>, error: ServeError) -> CopyError {
    match error {
        ServeError::Source(error) => job.source_failed(error),
        ServeError::Over => CopyError::NobodyLeft,
        ServeError::Interrupted => CopyError::Interrupted,
        ServeError::TimedOut => unreachable!("a family has patience"),
        ServeError::System(error) => error.into(),
    }
}

/// A receiver's data path: everything that comes out of its socket, up to the end frame.
fn transfer(pairs: &[(OwnedFd, OwnedFd)], peer: u32, file: &mut Destination<'_>) -> Result<End, Fault> {
    let mine = &pairs[peer as usize - 1].1;
    close_all_but(pairs, mine);
    let mut buffer = vec![0; TURN];
    loop {
        let mut head = [0; HEAD];
        read_exact(mine, &mut head)?;
        match Head::decode(&head)
            .ok_or_else(|| Fault::Sender("the sender sent an invalid protocol message".into()))?
        {
            Head::Hole(length) => file.skip(length),
            Head::End(total) => {
                let mut body = [0; END_BODY];
                read_exact(mine, &mut body)?;
                return Ok(frame::decode_end(total, &body));
            }
            Head::Bytes(mut left) => {
                while left > 0 {
                    let room = buffer.len().min(left as usize);
                    let count = read(mine, &mut buffer[..room])?;
                    file.write(&buffer[..count])?;
                    left -= count as u32;
                }
            }
        }
    }
}

/// Closes all other ends that were copied into this process: while the sender's are open here, nobody learns from its
/// socket that the sender is gone.
fn close_all_but(pairs: &[(OwnedFd, OwnedFd)], mine: &OwnedFd) {
    let all = pairs.iter().flat_map(|(ours, theirs)| [ours, theirs]);
    for other in all.filter(|socket| socket.as_raw_fd() != mine.as_raw_fd()) {
        // SAFETY: this forked process never uses them again, and ends without running destructors.
        unsafe { rustix::io::close(other.as_raw_fd()) };
    }
}

fn read_exact(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(), Fault> {
    let mut done = 0;
    while done < buffer.len() {
        done += read(socket, &mut buffer[done..])?;
    }
    Ok(())
}

fn read(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Fault> {
    loop {
        match rustix::io::read(socket, &mut *buffer) {
            Ok(0) => return Err(Fault::Sender("the sender died before the end of the stream".into())),
            Err(Errno::INTR) if crate::os::signal::stop_signal().is_some() => return Err(Fault::Interrupted),
            Err(Errno::INTR) => {}
            other => {
                return other.map_err(|error| {
                    Fault::Own(format!("cannot receive: {}", crate::os::error::reason(error)))
                });
            }
        }
    }
}
