//! `shell recv`: receives a stream that a process sends under a name.

use crate::cli::recv::{Args, From};
use crate::ui::exit::Exit;
use crate::ui::terminal::{print_error, print_json, print_note, print_summary};
use crate::ui::units::count;
use crate::ui::usage;
use serde::Serialize;
use std::path::Path;
use whorl::error::RequestError;
use whorl::internal::os::escape::shown;
use whorl::internal::os::signal::{catch_stop_signals, stop_signal};
use whorl::internal::os::standard::errors;
use whorl::internal::transfer::{Receipt, RecvError, RecvPlan, WriteOptions, recv};
use whorl::{JoinError, ReceiveError};

/// Runs it.
pub fn run(args: Args) -> Exit {
    if args.verify && args.from == From::Now {
        let why = "--verify does not work with --from now: a receiver that misses the beginning cannot compare the checksum";
        return usage::refuse(&["recv"], why);
    }
    if args.json && writes_to_stdout(&args.target) {
        return usage::refuse(&["recv"], "--json needs a FILE, because the data go to standard output");
    }
    catch_stop_signals();
    let plan = RecvPlan {
        name: args.name.clone(),
        target: args.target.clone(),
        start: args.from.start(),
        timeout: args.timeout,
        write: WriteOptions { verify: args.verify, fsync: args.fsync, no_clobber: args.no_clobber },
    };
    let waiting = || {
        if !args.quiet && errors().is_terminal() {
            print_note(&format!("recv: waiting for a sender of '{}'", args.name));
        }
    };
    let error = match recv(&plan, waiting) {
        Ok(received) => {
            if let Some(warning) = &received.warning {
                print_note(&format!("recv: {}: {warning}", args.name));
            }
            return conclude(&args, &received);
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
    print_error(&format!("recv: {}: {error}", args.name));
    exit
}

/// Returns whether a target is standard output under one of its names.
fn writes_to_stdout(target: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| target == Path::new(name))
}

#[derive(Serialize)]
struct Json {
    path: String,
    bytes: u64,
    warnings: Vec<String>,
}

/// Prints the result: as JSON, or as a last line.
fn conclude(args: &Args, received: &Receipt) -> Exit {
    if args.json {
        let json = Json {
            path: args.target.to_string_lossy().into_owned(),
            bytes: received.bytes,
            warnings: received.warning.iter().map(ToString::to_string).collect(),
        };
        return if print_json(&json) { Exit::Done } else { Exit::Failed };
    }
    if !writes_to_stdout(&args.target) {
        let line = format!("received {} into {}", count(received.bytes, "byte"), shown(&args.target));
        print_summary(args.quiet, &line);
    }
    Exit::Done
}
