//! `shell recv`: what somebody sends under a name.

use crate::cli::recv::{Args, From};
use crate::ui::exit::Exit;
use crate::ui::terminal::say;
use whorl::os::signal::{catch_stop_signals, stop_signal};
use whorl::os::standard::errors;
use whorl::registry::RequestError;
use whorl::transfer::{RecvError, RecvPlan, WriteOptions, recv};
use whorl::{JoinError, ReceiveError};

/// Runs it.
pub fn run(args: Args) -> Exit {
    if args.verify && args.from == From::Now {
        say(
            "recv: --verify: who joins '--from now' cannot know what it missed, and has nothing to compare with",
        );
        return Exit::Usage;
    }
    catch_stop_signals();
    let plan = RecvPlan {
        name: args.name.clone(),
        target: args.target,
        start: args.from.start(),
        timeout: args.timeout,
        write: WriteOptions { verify: args.verify, fsync: args.fsync, no_clobber: args.no_clobber },
    };
    let waiting = || {
        if !args.quiet && errors().is_terminal() {
            say(&format!("recv: waiting for a sender of '{}'", args.name));
        }
    };
    let error = match recv(&plan, waiting) {
        Ok(received) => {
            if let Some(warning) = received.warning {
                say(&format!("recv: {}: {warning}", args.name));
            }
            return Exit::Done;
        }
        Err(RecvError::Closed) => return Exit::Done,
        Err(error) => error,
    };
    let exit = match &error {
        RecvError::Interrupted
        | RecvError::Join(JoinError::Interrupted | JoinError::Talk(RequestError::Interrupted))
        | RecvError::Receive(ReceiveError::Interrupted) => {
            return Exit::Signal(stop_signal().unwrap_or(15));
        }
        RecvError::Join(JoinError::TimedOut)
        | RecvError::Receive(ReceiveError::SenderDied | ReceiveError::Evicted | ReceiveError::TimedOut) => {
            Exit::Peers
        }
        RecvError::Length { .. } | RecvError::Checksum | RecvError::Receive(ReceiveError::Corrupt) => {
            Exit::Damaged
        }
        _ => Exit::Failed,
    };
    say(&format!("recv: {}: {error}", args.name));
    exit
}
