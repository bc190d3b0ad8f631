//! `shell copy` under SIGKILL at random moments: 200 receivers and 50 senders, by both transports.
//!
//! `KILLS` multiplies these numbers, and `SEED` chooses other moments.

use crate::kit::*;
use rustix::process::Signal;
use std::fs;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

const PEERS: usize = 4;
const LENGTH: usize = 1_500_017;

fn from_environment(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(or)
}

/// One sequence of rounds: a directory, a source, what the files held before, and random numbers.
struct Rounds {
    sandbox: Sandbox,
    new: Vec<u8>,
    old: Vec<u8>,
    random: u64,
    /// How long an undisturbed copy takes.
    usual: Duration,
    transport: &'static str,
}

impl Rounds {
    fn new(transport: &'static str, seed: u64) -> Self {
        eprintln!("{transport}: SEED={seed}");
        let sandbox = Sandbox::new();
        let (new, old) = (noise(LENGTH, seed), noise(50_000, seed + 1));
        sandbox.file("source", &new);
        let begun = Instant::now();
        run(&mut sandbox.shell(["copy", transport, "-n", "4", "source"])).silent_success();
        Self { sandbox, new, old, random: seed | 1, usual: begun.elapsed(), transport }
    }

    /// A moment in a copy: anywhere from its start to a little after its usual end.
    fn moment(&mut self) -> Duration {
        let span = self.usual.as_nanos() as u64 * 5 / 4;
        Duration::from_nanos(next(&mut self.random) % span)
    }

    /// Removes all files or, every other time, replaces each by an old one.
    fn prepare(&mut self) -> bool {
        let replace = next(&mut self.random).is_multiple_of(2);
        for peer in 1..=PEERS as u32 {
            let path = self.sandbox.received(peer, "source");
            match replace {
                true => fs::write(path, &self.old).unwrap(),
                false => drop(fs::remove_file(path)),
            }
        }
        replace
    }

    fn start(&self) -> Running {
        let verify = if self.random.is_multiple_of(5) { "--verify" } else { "--quiet" };
        let arguments = ["copy", self.transport, "-n", "4", "--json", verify, "source"];
        start(&mut self.sandbox.shell(arguments))
    }

    /// Returns whether a peer has the new file. If not, asserts that it has the old one, or none if there was none.
    #[track_caller]
    fn has_new(&self, peer: usize, replaced: bool) -> bool {
        let path = self.sandbox.received(peer as u32, "source");
        match fs::read(&path) {
            Ok(bytes) if bytes == self.new => true,
            Ok(bytes) => {
                assert!(replaced && bytes == self.old, "peer {peer}: {} bytes of something", bytes.len());
                false
            }
            Err(error) => {
                assert!(!replaced, "peer {peer}: the old file is gone: {error}");
                false
            }
        }
    }
}

fn kill_receivers(transport: &'static str, seed: u64, kills: u64) -> u64 {
    let mut rounds = Rounds::new(transport, seed);
    let (mut killed, mut lost) = (0, 0);
    while killed < kills {
        let replaced = rounds.prepare();
        let moment = rounds.moment();
        let mut copy = rounds.start();
        let begun = Instant::now();
        let victim = next(&mut rounds.random) as usize % PEERS;
        let mut pid = None;
        while pid.is_none() && copy.is_running() {
            pid = children(copy.pid()).get(victim).copied();
        }
        sleep(moment.saturating_sub(begun.elapsed()));
        // Only a child that is not reaped yet. After that its process id may be another process's.
        let mut children = children(copy.pid()).into_iter();
        let Some(pid) = pid.filter(|pid| children.any(|child| child == *pid)) else {
            copy.end(LIMIT).has_code(0);
            continue;
        };
        killed += u64::from(signal(pid, Signal::KILL));
        let copy = copy.end(LIMIT);
        rounds.sandbox.only_names_left(Duration::ZERO);
        let json = copy.json();
        for (peer, index) in json["receivers"].as_array().unwrap().iter().zip(0..) {
            let has_new = rounds.has_new(index + 1, replaced);
            if peer["pid"] != pid {
                assert!(has_new && peer["error"].is_null(), "an innocent peer: {copy:?}");
            } else if peer["error"].is_null() {
                // It had finished already.
                assert!(has_new, "{copy:?}");
                copy.has_code(0);
            } else {
                // It may have been killed after it named its file and before it could report that.
                copy.has_code(4);
                assert!(copy.stderr.contains(&format!("(pid {pid})")), "{copy:?}");
                lost += 1;
            }
        }
    }
    lost
}

fn kill_senders(transport: &'static str, seed: u64, kills: u64) -> u64 {
    let mut rounds = Rounds::new(transport, seed);
    let (mut killed, mut interrupted) = (0, 0);
    while killed < kills {
        let replaced = rounds.prepare();
        let moment = rounds.moment();
        let mut copy = rounds.start();
        sleep(moment);
        if !copy.is_running() {
            copy.end(LIMIT).has_code(0);
            continue;
        }
        signal(copy.pid(), Signal::KILL);
        killed += u64::from(copy.end(SOON).signal() == Some(9));
        rounds.sandbox.only_names_left(SOON);
        let whole = (1..=PEERS).filter(|&peer| rounds.has_new(peer, replaced)).count();
        interrupted += u64::from(whole < PEERS);
    }
    interrupted
}

/// Runs both transports at the same time, each by two threads. Enough of the kills must have hit a running process.
fn both(kill: fn(&'static str, u64, u64) -> u64, seed: u64, kills: u64) {
    let (factor, seed) = (from_environment("KILLS", 1), from_environment("SEED", seed));
    let kills = kills / 2 * factor;
    thread::scope(|scope| {
        let start = |transport| {
            [(seed, kills.div_ceil(2)), (seed + 2, kills / 2)]
                .map(|(seed, kills)| scope.spawn(move || kill(transport, seed, kills)))
        };
        for (running, transport) in TRANSPORTS.map(start).into_iter().zip(TRANSPORTS) {
            let hit: u64 = running.into_iter().map(|half| half.join().expect("its rounds passed")).sum();
            eprintln!("{transport}: {kills} kills, {hit} of them in the middle of a copy");
            assert!(hit >= kills / 10, "the moments are badly chosen");
        }
    });
}

#[test]
fn two_hundred_receivers_killed_at_random_moments() {
    both(kill_receivers, 20_240_101, 200);
}

#[test]
fn fifty_senders_killed_at_random_moments() {
    both(kill_senders, 20_240_202, 50);
}
