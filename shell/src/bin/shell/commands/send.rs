//! `shell send`: sends one source to the receivers that ask for it by name.

use crate::cli::copy::block_in;
use crate::cli::send::Args;
use crate::ui::exit::Exit;
use crate::ui::progress::observer;
use crate::ui::terminal::{CopyView, When, print_error, print_json, print_summary};
use crate::ui::units::{count, elapsed};
use crate::ui::usage;
use serde::Serialize;
use whorl::PeerSummary;
use whorl::SendError;
use whorl::internal::os::pid::pid_in_words;
use whorl::internal::os::signal::{catch_stop_signals, stop_signal};
use whorl::internal::transfer::{SendPlan, SendingError, Sent, TransportKind, send};

/// How many receivers are printed one by one.
const MAX_SHOWN: usize = 10;

/// Runs it.
pub fn run(args: Args) -> Exit {
    catch_stop_signals();
    let block = match block_in((!args.socket).then_some(args.ring), args.block) {
        Ok(block) => block,
        Err(why) => return usage::refuse(&["send"], &why),
    };
    let plan = SendPlan {
        name: args.name.clone(),
        source: args.source.clone(),
        transport: if args.socket { TransportKind::Socket } else { TransportKind::Shm },
        peers: args.peers,
        timeout: args.timeout,
        block,
        ring: args.ring,
        lines: args.lines,
        seats: args.seats.max(args.peers),
        verify: args.verify,
        evict_after: args.evict_after,
    };
    let progress = if args.quiet { When::Never } else { args.progress };
    let view = CopyView::new("send", progress).gathers(args.name.as_str(), !args.quiet);
    match send(&plan, observer(view)) {
        Ok(sent) => {
            let exit = exit_code(&sent.summary);
            conclude(&args, &sent, exit)
        }
        Err(SendingError::Interrupted | SendingError::Send(SendError::Interrupted)) => {
            Exit::Signal(stop_signal().unwrap_or(15))
        }
        Err(error) => {
            if let SendingError::NoReceivers(summary) = &error {
                exit_code(summary);
            }
            print_error(&format!("send: {error}"));
            match error {
                SendingError::NoReceivers(_) | SendingError::Send(SendError::TimedOut) => Exit::Peers,
                _ => Exit::Failed,
            }
        }
    }
}

/// Prints the receivers that do not have everything, and returns the exit code.
fn exit_code(summary: &PeerSummary) -> Exit {
    let troubled = |pids: &[u32], what: &str| {
        for pid in pids.iter().take(MAX_SHOWN) {
            print_error(&format!("send: a receiver ({}) {what}", pid_in_words(*pid)));
        }
        if let Some(more) = pids.len().checked_sub(MAX_SHOWN).filter(|&more| more > 0) {
            print_error(&format!("send: {} {what}", count(more as u64, "more receiver")));
        }
    };
    troubled(&summary.failed, "failed");
    troubled(&summary.lost, "was lost");
    troubled(&summary.evicted, "was evicted for being too slow");
    let all_well = summary.failed.is_empty() && summary.lost.is_empty() && summary.evicted.is_empty();
    if all_well { Exit::Done } else { Exit::Peers }
}

#[derive(Serialize)]
struct Json {
    name: String,
    bytes: u64,
    transport: &'static str,
    seconds: f64,
    /// How many receivers have everything, and how many left before the end.
    done: u64,
    left: u64,
    /// The receivers that failed, were lost or were evicted.
    receivers: Vec<ReceiverJson>,
}

#[derive(Clone, Serialize)]
struct ReceiverJson {
    pid: Option<u32>,
    state: &'static str,
}

/// Prints the result: as JSON, or as a last line.
fn conclude(args: &Args, sent: &Sent, exit: Exit) -> Exit {
    let summary = &sent.summary;
    if args.json {
        let each = |pids: &[u32], state| {
            let receiver = |&pid: &u32| ReceiverJson { pid: (pid != 0).then_some(pid), state };
            pids.iter().map(receiver).collect::<Vec<_>>()
        };
        let json = Json {
            name: args.name.to_string(),
            bytes: sent.bytes,
            transport: if args.socket { "socket" } else { "shm" },
            seconds: sent.elapsed.as_secs_f64(),
            done: summary.done,
            left: summary.left,
            receivers: [
                each(&summary.failed, "failed"),
                each(&summary.lost, "lost"),
                each(&summary.evicted, "evicted"),
            ]
            .concat(),
        };
        return if print_json(&json) { exit } else { Exit::Failed };
    }
    let (bytes, receivers) = (count(sent.bytes, "byte"), count(summary.done, "receiver"));
    print_summary(args.quiet, &format!("sent {bytes} to {receivers}, {}", elapsed(sent.elapsed)));
    exit
}
