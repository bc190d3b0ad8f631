//! The rounds: each starts processes, kills some, and checks what the others received.

use crate::actors::{NO_SENDER, SENDER_DIED};
use crate::soak::{Cast, Random, Round, Soak};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// All kinds of rounds, with their names.
pub const ALL: &[(&str, Round)] =
    &[("copy", copy), ("channel", channel), ("ring", ring), ("mailboxes", mailboxes)];

fn transport(random: &mut Random) -> &'static str {
    if random.below(2) == 0 { "--shm" } else { "--socket" }
}

/// Copies a file to some forked receivers. The round may kill a receiver or the sender.
fn copy(soak: &Soak, place: &Path, random: &mut Random) -> Result<()> {
    let length = random.below(4 << 20) as usize;
    let (bytes, peers) = (random.bytes(length), 1 + random.below(8));
    fs::write(place.join("source"), &bytes)?;
    let copy = soak.shell(place, &format!("copy {} -n {peers} -q source", transport(random)))?;
    let victims = random.below(3); // 0: none, 1: a receiver, 2: the sender
    if victims > 0 {
        random.nap(20_000);
        let children = copy.children();
        match victims {
            1 if !children.is_empty() => soak.kill(children[random.below(children.len() as u64) as usize]),
            2 => soak.kill(copy.pid()),
            _ => {}
        }
    }
    let ended = copy.end()?;
    let killed = victims == 2 && ended.status.code().is_none();
    ensure!(killed || matches!(ended.status.code(), Some(0 | 1 | 4)), "{ended}");
    ensure!(victims > 0 || ended.status.success(), "{ended}");
    let mut whole = 0;
    // The receivers of a killed sender may be ending just now. Each file that has its final name must be whole.
    for entry in fs::read_dir(place.join("received-files")).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().ends_with(b".part") {
            continue; // after SIGKILL, in the last window
        }
        let Ok(found) = fs::read(entry.path()) else { continue };
        ensure!(found == bytes, "{} differs from the source", entry.path().display());
        soak.arrived(&found);
        whole += 1;
    }
    ensure!(ended.status.code() != Some(0) || whole == peers, "{whole} of {peers} files: {ended}");
    // A receiver that is killed just after its file got its name counts as lost.
    ensure!(ended.status.code() != Some(4) || whole + 1 >= peers, "{whole} of {peers} files: {ended}");
    Ok(())
}

/// Sends a file between processes that find each other by name. The round may kill a receiver, or stop it for a while.
fn channel(soak: &Soak, place: &Path, random: &mut Random) -> Result<()> {
    let length = random.below(4 << 20) as usize;
    let (bytes, peers) = (random.bytes(length), 1 + random.below(4));
    fs::write(place.join("source"), &bytes)?;
    let mut send =
        soak.shell(place, &format!("send file source --peers {peers} --verify -q {}", transport(random)))?;
    let mut receivers = Vec::new();
    for peer in 0..peers {
        receivers.push((peer, soak.shell(place, &format!("recv file out{peer} -q"))?));
    }
    let mut killed = false;
    if random.below(2) == 0 {
        random.nap(40_000);
        let at = random.below(peers) as usize;
        let (_, victim) = &receivers[at];
        if random.below(2) == 0 {
            soak.kill(victim.pid());
            killed = true;
            let (_, victim) = receivers.swap_remove(at);
            killed &= victim.end()?.status.code().is_none();
        } else {
            victim.signal(Signal::STOP);
            random.nap(30_000);
            victim.signal(Signal::CONT);
        }
    }
    // A receiver that is killed before the sender counts it leaves its seat to another one, for which the sender waits.
    while killed && send.is_running() {
        let ended = soak.shell(place, "recv file stand-in -q --timeout 5s")?.end()?.has(&[0, 1, 4])?;
        let found = fs::read(place.join("stand-in"));
        ensure!(ended.status.success() == found.is_ok(), "{ended}");
        ensure!(found.map_or(true, |found| found == bytes), "the late receiver got other bytes");
        let _ = fs::remove_file(place.join("stand-in"));
    }
    let sent = send.end()?;
    ensure!(sent.status.success() || (killed && sent.status.code() == Some(4)), "{sent}");
    for (peer, receiver) in receivers {
        receiver.end()?.has(&[0])?;
        let found = fs::read(place.join(format!("out{peer}"))).context("what it received")?;
        ensure!(found == bytes, "receiver {peer} got other bytes");
        soak.arrived(&found);
    }
    Ok(())
}

/// Runs a sender at full speed and three receivers. The round kills or stops the receivers one after the other, and
/// replaces them. Every eighth time it kills the sender instead.
fn ring(soak: &Soak, place: &Path, random: &mut Random) -> Result<()> {
    let mut sender = soak.actor(place, "sender ring")?;
    let join = || soak.actor(place, "receiver ring");
    let mut receivers: Vec<Cast> = (0..3).map(|_| join()).collect::<Result<_>>()?;
    for _ in 0..random.below(8) {
        random.nap(100_000);
        let at = random.below(3) as usize;
        if random.below(3) == 0 {
            receivers[at].signal(Signal::STOP);
            random.nap(50_000);
            receivers[at].signal(Signal::CONT);
        } else {
            let victim = std::mem::replace(&mut receivers[at], join()?);
            soak.kill(victim.pid());
            let ended = victim.end()?;
            let code = ended.status.code();
            ensure!(code.is_none_or(|code| code == NO_SENDER), "a receiver ended before its time: {ended}");
        }
    }
    random.nap(300_000);
    let sender_dies = random.below(8) == 0;
    if sender_dies {
        soak.kill(sender.pid());
        // A receiver that has not joined yet would wait for the next sender, so the round starts one.
        sender.end()?;
        sender = soak.actor(place, "sender ring")?;
        receivers.push(join()?);
        random.nap(100_000);
    }
    sender.close_stdin();
    for receiver in receivers {
        // A receiver that joined after the end of the stream has waited for another sender that did not come.
        let codes: &[i32] = if sender_dies { &[0, NO_SENDER, SENDER_DIED] } else { &[0, NO_SENDER] };
        let ended = receiver.end()?.has(codes)?;
        let mut counts = ended.stdout.split_whitespace().map(|number| number.parse().unwrap_or(0));
        soak.arrived_elsewhere(counts.next().unwrap_or(0), counts.next().unwrap_or(0));
    }
    sender.end()?.has(&[0])?;
    Ok(())
}

/// Runs four attached programs that write and read the server's mailboxes. The round kills one after the other and
/// replaces it. The others continue, and the messages stay whole.
fn mailboxes(soak: &Soak, place: &Path, random: &mut Random) -> Result<()> {
    let attach =
        |random: &mut Random| soak.actor(place, &format!("mail {} {}", soak.port(), random.below(1 << 30)));
    let mut users = (0..4).map(|_| attach(random)).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        random.nap(60_000);
        let at = random.below(4) as usize;
        let replacement = attach(random)?;
        let mut victim = std::mem::replace(&mut users[at], replacement);
        if victim.is_running() {
            soak.kill(victim.pid());
        }
        let ended = victim.end()?;
        ensure!(ended.status.code().is_none(), "a mailbox program ended by itself: {ended}");
    }
    for user in users {
        soak.kill(user.pid());
        let ended = user.end()?;
        ensure!(ended.status.code().is_none(), "a mailbox program ended by itself: {ended}");
    }
    // A TCP client sees these mailboxes, and can still write them.
    let port = soak.port();
    soak.shell(place, &format!("mail -p {port} write 0 sealed"))?.end()?.has(&[0])?;
    let read = soak.shell(place, &format!("mail -p {port} read 0"))?.end()?.has(&[0])?;
    ensure!(read.stdout == "sealed", "{read}");
    // Attached programs accept only sealed messages.
    soak.shell(place, &format!("mail -p {port} write 0 "))?.end()?;
    Ok(())
}
