//! The progress of a transfer: how far it is, and which receivers the sender waits for.

use crate::ui::terminal::{CopyView, Stalled};
use std::time::{Duration, Instant};
use whorl::internal::channel::{ProgressObserver, Snapshot};
use whorl::internal::registry::status::{PeerState, ReceiverStatus};

/// After this long without any progress the view names the receivers that the sender waits for.
const LIMIT: Duration = Duration::from_secs(1);

/// Shows a view what the control thread sees.
pub fn observer(mut view: CopyView) -> ProgressObserver {
    let mut stall = StallNotice::new();
    Box::new(move |snapshot: &Snapshot| {
        if let Some(wanted) = snapshot.wanted {
            let is_live = |peer: &&ReceiverStatus| peer.state == PeerState::Live;
            return view.gathering(snapshot.receivers.iter().filter(is_live).count(), wanted);
        }
        let left = unfinished(snapshot);
        let most = left.iter().map(|peer| peer.behind).max().unwrap_or(0);
        view.progress(snapshot.sent, snapshot.total, left.iter().copied().find(|peer| peer.behind == most));
        if let Some(peers) = stall.check(snapshot.sent, snapshot.waiting, left) {
            view.stalled(&peers);
        }
    })
}

fn unfinished(snapshot: &Snapshot) -> Vec<Stalled> {
    let peers = snapshot.receivers.iter().zip(1..);
    let unfinished = peers.filter(|(peer, _)| peer.state != PeerState::Done);
    let stalled = |(peer, number): (&ReceiverStatus, usize)| Stalled {
        peer: number,
        pid: peer.pid,
        joined: peer.state != PeerState::Joining,
        behind: peer.behind,
    };
    unfinished.map(stalled).collect()
}

/// Detects that nothing moves.
struct StallNotice {
    last: (u64, u64, usize),
    since: Instant,
    is_said: bool,
}

impl StallNotice {
    fn new() -> Self {
        Self { last: (0, 0, 0), since: Instant::now(), is_said: false }
    }

    /// Checks the bytes sent, whether the sender waits, and the receivers that are not done. Returns the receivers to name,
    /// once for each stall.
    fn check(&mut self, sent: u64, waiting: bool, mut left: Vec<Stalled>) -> Option<Vec<Stalled>> {
        let now = (sent, left.iter().map(|peer| peer.behind).sum(), left.len());
        if now != self.last || !waiting {
            *self = Self { last: now, ..Self::new() };
        }
        if self.is_said || self.since.elapsed() < LIMIT || left.is_empty() {
            return None;
        }
        self.is_said = true;
        let most = left.iter().map(|peer| peer.behind).max();
        match left.iter().all(|peer| peer.joined) {
            true => left.retain(|peer| Some(peer.behind) == most),
            false => left.retain(|peer| !peer.joined),
        }
        Some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_named_once_and_without_receivers_there_is_none() {
        let mut stall = StallNotice::new();
        let peer = Stalled { peer: 1, pid: 1, joined: true, behind: 9 };
        let mut named = Vec::new();
        for left in [vec![], vec![peer; 2]] {
            named.extend(stall.check(1, true, left.clone()));
            let Some(long_ago) = Instant::now().checked_sub(LIMIT) else { return };
            stall.since = long_ago;
            (0..2).for_each(|_| named.extend(stall.check(1, true, left.clone())));
        }
        assert_eq!(named.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
    }
}
