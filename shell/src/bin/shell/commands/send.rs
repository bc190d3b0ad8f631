//! `shell send`: one source to whoever asks for it by name.

use crate::cli::send::Args;
use crate::ui::exit::Exit;
use crate::ui::progress::observer;
use crate::ui::terminal::{CopyView, When, say};
use whorl::SendError;
use whorl::channel::PeerSummary;
use whorl::os::pid::pid_in_words;
use whorl::os::signal::{catch_stop_signals, stop_signal};
use whorl::transfer::{SendPlan, SendingError, TransportKind, send};

/// How many receivers are told one by one.
const TOLD: usize = 10;

/// Runs it.
pub fn run(args: Args) -> Exit {
    catch_stop_signals();
    let plan = SendPlan {
        name: args.name.clone(),
        source: args.source,
        transport: if args.socket { TransportKind::Socket } else { TransportKind::Shm },
        peers: args.peers,
        timeout: args.timeout,
        block: args.block,
        slots: args.slots,
        seats: args.seats.max(args.peers),
        verify: args.verify,
        evict_after: args.evict_after,
    };
    let progress = if args.quiet { When::Never } else { args.progress };
    let view = CopyView::new("send", progress).gathers(args.name.as_str(), !args.quiet);
    match send(&plan, observer(view)) {
        Ok(sent) => verdict(&sent.summary),
        Err(SendingError::Interrupted | SendingError::Send(SendError::Interrupted)) => {
            Exit::Signal(stop_signal().unwrap_or(15))
        }
        Err(error) => {
            if let SendingError::NoReceivers(summary) = &error {
                verdict(summary);
            }
            say(&format!("send: {error}"));
            match error {
                SendingError::NoReceivers(_) | SendingError::Send(SendError::TimedOut) => Exit::Peers,
                _ => Exit::Failed,
            }
        }
    }
}

fn verdict(summary: &PeerSummary) -> Exit {
    let troubled = |pids: &[u32], what: &str| {
        for pid in pids.iter().take(TOLD) {
            say(&format!("send: a receiver ({}) {what}", pid_in_words(*pid)));
        }
        if let Some(more) = pids.len().checked_sub(TOLD).filter(|&more| more > 0) {
            say(&format!("send: and {more} more {what}"));
        }
    };
    troubled(&summary.failed, "failed");
    troubled(&summary.lost, "was lost");
    troubled(&summary.evicted, "was thrown out for being too slow");
    let all_well = summary.failed.is_empty() && summary.lost.is_empty() && summary.evicted.is_empty();
    if all_well { Exit::Done } else { Exit::Peers }
}
