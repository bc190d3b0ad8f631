//! `shell copy`: copies one file or stream to many forked receivers.

use crate::cli::copy::{Args, block_in};
use crate::ui::exit::Exit;
use crate::ui::progress::observer;
use crate::ui::terminal::{CopyView, When, print_error, print_json, print_note, print_summary};
use crate::ui::units::{count, elapsed};
use crate::ui::usage;
use serde::Serialize;
use std::ffi::OsStr;
use std::path::Path;
use whorl::internal::os::signal::{catch_stop_signals, stop_signal};
use whorl::internal::transfer::{
    CopyError, Fault, Outcome, PeerOutcome, Plan, Template, TemplateError, TransportKind, Warning,
    WriteOptions, copy,
};

/// How many receivers' failures are printed one by one.
const MAX_SHOWN: usize = 10;

/// Runs it.
pub fn run(args: Args) -> Exit {
    let plan = match plan(&args) {
        Ok(plan) => plan,
        Err(why) => return usage::refuse(&["copy"], &why),
    };
    catch_stop_signals();
    let view = CopyView::new("copy", if args.quiet { When::Never } else { args.progress });
    match copy(&plan, observer(view)) {
        Ok(outcome) => conclude(&args, &plan, &outcome),
        Err(CopyError::Interrupted) => Exit::Signal(stop_signal().unwrap_or(15)),
        Err(CopyError::Template(error)) => usage::refuse(&["copy"], &wrong_name(&args.name, &error)),
        Err(error) => {
            print_error(&format!("copy: {error}"));
            Exit::Failed
        }
    }
}

/// Returns what to do, or what is wrong with the arguments.
fn plan(args: &Args) -> Result<Plan, String> {
    Ok(Plan {
        source: args.source.clone(),
        peers: args.peers,
        directory: args.directory.clone(),
        template: Template::parse(&args.name).map_err(|error| wrong_name(&args.name, &error))?,
        transport: if args.socket { TransportKind::Socket } else { TransportKind::Shm },
        block: block_in((!args.socket).then_some(args.ring), args.block)?,
        ring: args.ring,
        write: WriteOptions { verify: args.verify, fsync: args.fsync, no_clobber: args.no_clobber },
        preserve: args.preserve,
    })
}

fn wrong_name(name: &OsStr, error: &TemplateError) -> String {
    format!("--name {}: {error}", whorl::internal::os::escape::shown(name.as_ref()))
}

fn conclude(args: &Args, plan: &Plan, outcome: &Outcome) -> Exit {
    print_faults(&outcome.peers);
    if args.json && !print_json(&json(plan, outcome)) {
        return Exit::Failed;
    }
    let copies = outcome.peers.iter().filter(|peer| peer.fault.is_none()).count();
    if copies > 0 && !args.json {
        let (copies, bytes) = (count(copies as u64, "copy"), count(outcome.bytes, "byte"));
        let directory = directory_shown(&args.directory);
        print_summary(
            args.quiet,
            &format!("{copies} of {bytes} in {directory}, {}", elapsed(outcome.elapsed)),
        );
    }
    exit_code(&outcome.peers)
}

/// Shows a directory with a slash at its end.
fn directory_shown(path: &Path) -> String {
    let shown = whorl::internal::os::escape::shown(path);
    if shown.ends_with('/') { shown } else { shown + "/" }
}

/// Prints failures and warnings.
fn print_faults(peers: &[PeerOutcome]) {
    let troubled = || peers.iter().filter_map(|peer| Some((peer, peer.fault.as_ref()?)));
    for (peer, fault) in troubled().take(MAX_SHOWN) {
        print_error(&format!("copy: peer {} (pid {}): {fault}", peer.peer, peer.pid));
    }
    if let Some(more) = troubled().count().checked_sub(MAX_SHOWN).filter(|&more| more > 0) {
        print_error(&format!("copy: {} failed", count(more as u64, "more peer")));
    }
    for (warning, lacking) in warnings(peers) {
        let first = lacking.iter().take(MAX_SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let more = match lacking.len().saturating_sub(MAX_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let plural = if lacking.len() == 1 { "" } else { "s" };
        print_note(&format!("copy: peer{plural} {first}{more}: {warning}"));
    }
}

/// Groups the warnings about complete files: each warning with the peers that it is about.
fn warnings(peers: &[PeerOutcome]) -> Vec<(&Warning, Vec<u32>)> {
    let mut found: Vec<(&Warning, Vec<u32>)> = Vec::new();
    for (peer, warning) in
        peers.iter().flat_map(|peer| peer.warnings.iter().map(|warning| (peer.peer, warning)))
    {
        match found.iter_mut().find(|(other, _)| *other == warning) {
            Some((_, lacking)) => lacking.push(peer),
            None => found.push((warning, vec![peer])),
        }
    }
    found
}

/// Returns the exit code. Peers that failed on their own side make the whole fail only if no peer succeeded.
fn exit_code(peers: &[PeerOutcome]) -> Exit {
    let faults = || peers.iter().filter_map(|peer| peer.fault.as_ref());
    let mut warnings = peers.iter().flat_map(|peer| &peer.warnings);
    match faults().count() {
        0 if warnings.any(|warning| matches!(warning, Warning::NotKept(_))) => Exit::Failed,
        0 => Exit::Done,
        _ if faults().any(|fault| *fault == Fault::Checksum) => Exit::Damaged,
        failed if failed == peers.len() && faults().all(|fault| matches!(fault, Fault::Own(_))) => {
            Exit::Failed
        }
        _ => Exit::Peers,
    }
}

#[derive(Serialize)]
struct Json<'a> {
    bytes: u64,
    transport: &'a str,
    seconds: f64,
    receivers: Vec<PeerJson>,
}

#[derive(Serialize)]
struct PeerJson {
    peer: u32,
    pid: i32,
    path: String,
    bytes: u64,
    checksum: Option<String>,
    seconds: f64,
    error: Option<String>,
    warnings: Vec<String>,
}

fn json(plan: &Plan, outcome: &Outcome) -> Json<'static> {
    let peers = outcome.peers.iter().map(|peer| PeerJson {
        peer: peer.peer,
        pid: peer.pid,
        path: peer.path.to_string_lossy().into_owned(),
        bytes: peer.bytes,
        checksum: peer.checksum_hex(),
        seconds: peer.seconds,
        error: peer.fault.as_ref().map(ToString::to_string),
        warnings: peer.warnings.iter().map(ToString::to_string).collect(),
    });
    Json {
        bytes: outcome.bytes,
        transport: match plan.transport {
            TransportKind::Shm => "shm",
            TransportKind::Socket => "socket",
        },
        seconds: outcome.elapsed.as_secs_f64(),
        receivers: peers.collect(),
    }
}
