//! Scenes of names in the runtime directory: listed, removed, waited for.

use super::calls::{Fault, Verdict, end, ends_properly, ensure, lies, nothing_left};
use crate::kit::{Running, SOON, Sandbox, signal, start, until};
use rustix::process::Signal;

/// A live channel and a dead one.
fn living_and_dead(sandbox: &Sandbox) -> Running {
    let dead = sandbox.start_fed("send dead");
    sandbox.until_owned("dead");
    signal(dead.pid(), Signal::KILL);
    let _ = dead.end(SOON);
    let living = sandbox.start_fed("send living");
    sandbox.until_owned("living");
    living
}

pub fn ls(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let living = living_and_dead(sandbox);
    let listed = end(start(&mut fault.shell(sandbox, "ls --json")), "ls")?;
    ends_properly(&listed, fault)?;
    if listed.code() == Some(0) && !lies(fault) {
        let said = listed.json();
        let state = |name: &str| {
            let channels = said["channels"].as_array().cloned().unwrap_or_default();
            channels.iter().find(|channel| channel["name"] == name).map(|channel| channel["state"].clone())
        };
        // A channel that could not be queried is listed as live, with a line on stderr.
        ensure(state("living").is_some_and(|state| state != "stale"), || format!("{listed:?}"))?;
        ensure(state("dead").is_some_and(|state| state == "stale" || !listed.stderr.is_empty()), || {
            format!("{listed:?}")
        })?;
    }
    signal(living.pid(), Signal::TERM);
    end(living, "send")?;
    nothing_left(sandbox, fault, 1)
}

pub fn rm(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let mut living = living_and_dead(sandbox);
    let removed = end(start(&mut fault.shell(sandbox, "rm living")), "rm")?;
    ends_properly(&removed, fault)?;
    if removed.code() == Some(0) && !lies(fault) {
        until(SOON, "its owner has ended", || !living.is_running());
        ensure(!sandbox.left().contains(&"living.sock".into()), || format!("not removed: {removed:?}"))?;
    }
    signal(living.pid(), Signal::TERM);
    end(living, "send")?;
    nothing_left(sandbox, fault, 1)
}

pub fn rm_dead(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let mut living = living_and_dead(sandbox);
    let removed = end(start(&mut fault.shell(sandbox, "rm --dead")), "rm --dead")?;
    ends_properly(&removed, fault)?;
    let there = |name: &str| lies(fault) || sandbox.left().contains(&format!("{name}.sock"));
    ensure(living.is_running() && there("living"), || format!("what lives was removed: {removed:?}"))?;
    ensure(removed.code() != Some(0) || lies(fault) || !there("dead"), || {
        format!("not removed: {removed:?}")
    })?;
    signal(living.pid(), Signal::TERM);
    end(living, "send")?;
    nothing_left(sandbox, fault, 1)
}

/// A receiver that waits for a name until its timeout.
pub fn recv_alone(sandbox: &Sandbox, fault: &Fault) -> Verdict {
    let recv = end(start(&mut fault.shell(sandbox, "recv missing taken --timeout 100ms")), "recv")?;
    ends_properly(&recv, fault)?;
    ensure(recv.code() != Some(0), || format!("{recv:?}"))?;
    nothing_left(sandbox, fault, 1)
}
