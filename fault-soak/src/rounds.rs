//! What is done again and again: each round starts processes, kills some, and looks at what the others got.

use crate::actors::{NOBODY_CAME, SENDER_DIED};
use crate::stage::{Cast, Phase, Random, Round};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// All kinds, with their names.
pub const ALL: &[(&str, Round)] =
    &[("copy", copy), ("channel", channel), ("ring", ring), ("mailboxes", mailboxes)];

fn transport(random: &mut Random) -> &'static str {
    if random.below(2) == 0 { "--shm" } else { "--socket" }
}

/// A file to some forked receivers; a receiver may be killed, or the sender, or nobody.
fn copy(stage: &Phase, place: &Path, random: &mut Random) -> Result<()> {
    let length = random.below(4 << 20) as usize;
    let (bytes, peers) = (random.bytes(length), 1 + random.below(8));
    fs::write(place.join("source"), &bytes)?;
    let copy = stage.shell(place, &format!("copy {} -n {peers} -q source", transport(random)))?;
    let victims = random.below(3); // 0: nobody, 1: a receiver, 2: the sender
    if victims > 0 {
        random.nap(20_000);
        let children = copy.children();
        match victims {
            1 if !children.is_empty() => stage.kill(children[random.below(children.len() as u64) as usize]),
            2 => stage.kill(copy.pid()),
            _ => {}
        }
    }
    let ended = copy.end()?;
    let killed = victims == 2 && ended.status.code().is_none();
    ensure!(killed || matches!(ended.status.code(), Some(0 | 1 | 4)), "{ended}");
    ensure!(victims > 0 || ended.status.success(), "{ended}");
    let mut whole = 0;
    // A killed sender's receivers may be ending just now; what they have named is whole all the same.
    for entry in fs::read_dir(place.join("received-files")).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().ends_with(b".part") {
            continue; // after SIGKILL, in the last window
        }
        let Ok(found) = fs::read(entry.path()) else { continue };
        ensure!(found == bytes, "{} is not what was sent", entry.path().display());
        stage.arrived(&found);
        whole += 1;
    }
    ensure!(ended.status.code() != Some(0) || whole == peers, "{whole} of {peers} files: {ended}");
    // Who is killed just after its file got its name counts as lost.
    ensure!(ended.status.code() != Some(4) || whole + 1 >= peers, "{whole} of {peers} files: {ended}");
    Ok(())
}

/// A file between processes that find each other by name; a receiver may be killed, or stopped for a while.
fn channel(stage: &Phase, place: &Path, random: &mut Random) -> Result<()> {
    let length = random.below(4 << 20) as usize;
    let (bytes, peers) = (random.bytes(length), 1 + random.below(4));
    fs::write(place.join("source"), &bytes)?;
    let mut send =
        stage.shell(place, &format!("send file source --peers {peers} --verify -q {}", transport(random)))?;
    let mut receivers = Vec::new();
    for peer in 0..peers {
        receivers.push((peer, stage.shell(place, &format!("recv file out{peer} -q"))?));
    }
    let mut killed = false;
    if random.below(2) == 0 {
        random.nap(40_000);
        let at = random.below(peers) as usize;
        let (_, victim) = &receivers[at];
        if random.below(2) == 0 {
            stage.kill(victim.pid());
            killed = true;
            let (_, victim) = receivers.swap_remove(at);
            killed &= victim.end()?.status.code().is_none();
        } else {
            victim.signal(Signal::STOP);
            random.nap(30_000);
            victim.signal(Signal::CONT);
        }
    }
    // Whoever was killed before it was counted leaves its place to another, whom the sender waits for.
    while killed && send.is_running() {
        let ended = stage.shell(place, "recv file stand-in -q --timeout 5s")?.end()?.has(&[0, 1, 4])?;
        let found = fs::read(place.join("stand-in"));
        ensure!(ended.status.success() == found.is_ok(), "{ended}");
        ensure!(found.map_or(true, |found| found == bytes), "the one that came late got something else");
        let _ = fs::remove_file(place.join("stand-in"));
    }
    let sent = send.end()?;
    ensure!(sent.status.success() || (killed && sent.status.code() == Some(4)), "{sent}");
    for (peer, receiver) in receivers {
        receiver.end()?.has(&[0])?;
        let found = fs::read(place.join(format!("out{peer}"))).context("what it received")?;
        ensure!(found == bytes, "receiver {peer} got something else");
        stage.arrived(&found);
    }
    Ok(())
}

/// A sender at full speed, and three receivers of which one after the other is killed or stopped and replaced; every eighth
/// time the sender itself.
fn ring(stage: &Phase, place: &Path, random: &mut Random) -> Result<()> {
    let mut sender = stage.actor(place, "sender ring")?;
    let join = || stage.actor(place, "receiver ring");
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
            stage.kill(victim.pid());
            let ended = victim.end()?;
            let code = ended.status.code();
            ensure!(code.is_none_or(|code| code == NOBODY_CAME), "a receiver ended before its time: {ended}");
        }
    }
    random.nap(300_000);
    let sender_dies = random.below(8) == 0;
    if sender_dies {
        stage.kill(sender.pid());
        // Who has not joined yet would wait for the next sender: so there is one.
        sender.end()?;
        sender = stage.actor(place, "sender ring")?;
        receivers.push(join()?);
        random.nap(100_000);
    }
    sender.close_stdin();
    for receiver in receivers {
        // Who came so late that the stream was over has waited for another in vain.
        let codes: &[i32] = if sender_dies { &[0, NOBODY_CAME, SENDER_DIED] } else { &[0, NOBODY_CAME] };
        let ended = receiver.end()?.has(codes)?;
        let mut said = ended.stdout.split_whitespace().map(|number| number.parse().unwrap_or(0));
        stage.arrived_elsewhere(said.next().unwrap_or(0), said.next().unwrap_or(0));
    }
    sender.end()?.has(&[0])?;
    Ok(())
}

/// Four attached programs that write and read the server's mailboxes; one after the other is killed and replaced. Who is left
/// alone goes on, and what is in the mailboxes is whole.
fn mailboxes(stage: &Phase, place: &Path, random: &mut Random) -> Result<()> {
    let attach =
        |random: &mut Random| stage.actor(place, &format!("mail {} {}", stage.port(), random.below(1 << 30)));
    let mut users = (0..4).map(|_| attach(random)).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        random.nap(60_000);
        let at = random.below(4) as usize;
        let newcomer = attach(random)?;
        let mut victim = std::mem::replace(&mut users[at], newcomer);
        if victim.is_running() {
            stage.kill(victim.pid());
        }
        let ended = victim.end()?;
        ensure!(ended.status.code().is_none(), "it ended by itself: {ended}");
    }
    for user in users {
        stage.kill(user.pid());
        let ended = user.end()?;
        ensure!(ended.status.code().is_none(), "it ended by itself: {ended}");
    }
    // The network sees the same mailboxes, and can still write them.
    let port = stage.port();
    stage.shell(place, &format!("mail -p {port} write 0 sealed"))?.end()?.has(&[0])?;
    let read = stage.shell(place, &format!("mail -p {port} read 0"))?.end()?.has(&[0])?;
    ensure!(read.stdout == "sealed", "{read}");
    // Programs that attach look for sealed messages only.
    stage.shell(place, &format!("mail -p {port} write 0 "))?.end()?;
    Ok(())
}
