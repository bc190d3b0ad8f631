//! Runs everything at once for a given time, with kills: a ring, mailboxes, `copy`, `send` and `recv`.
//!
//!     cargo run -p fault-soak -- --for 60s
//!
//! The soak checks every byte that arrives. A killed process may lose what it had, and no other process may lose
//! anything. At the end one line gives the result. The exit code is 0 if there was no error, and no descriptor, zombie,
//! file or memory grew in number.

mod actors;
mod census;
mod rounds;
mod soak;

use anyhow::{Context, Result};
use census::Census;
use clap::{Parser, Subcommand};
use soak::Soak;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs everything at once for a given time, with kills
#[derive(Parser)]
struct Args {
    /// How long to run, as a whole number and s, m or h: 60s, 10m, 8h
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration)]
    time: Duration,

    /// The seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Use this `shell` command instead of building it
    #[arg(long, value_name = "PATH")]
    shell: Option<PathBuf>,

    #[command(subcommand)]
    actor: Option<Actor>,
}

/// Processes that the soak starts itself
#[derive(Subcommand)]
enum Actor {
    /// Send numbered messages until standard input ends
    #[command(hide = true)]
    Sender { name: String },
    /// Receive messages and check every byte
    #[command(hide = true)]
    Receiver { name: String },
    /// Write and read mailboxes until it is killed
    #[command(hide = true)]
    Mail { port: u16, seed: u64 },
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a whole number and s, m or h is needed, as in 60s".into()),
    };
    let number: u64 =
        number.parse().map_err(|_| "a whole number and s, m or h is needed, as in 60s".to_owned())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "the time is too long".into())
}

fn main() -> ExitCode {
    whorl::internal::os::signal::set_signals();
    let args = Args::parse();
    let done = match &args.actor {
        Some(Actor::Sender { name }) => actors::send(name).map(|()| true),
        Some(Actor::Receiver { name }) => actors::receive(name).map(|()| true),
        Some(Actor::Mail { port, seed }) => actors::mail(*port, *seed).map(|()| true),
        None => soak(args.time, args.seed, args.shell),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fault-soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the command, because `cargo run` builds only this package.
fn build() -> Result<PathBuf> {
    let here = std::env::current_exe().context("cannot find the path of this program")?;
    // Without cargo the soak takes the command that was built before.
    if let Some(cargo) = std::env::var_os("CARGO") {
        let release: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--package", "shell"]).args(release);
        anyhow::ensure!(
            command.status().context("cannot start cargo")?.success(),
            "cargo cannot build the command"
        );
    }
    Ok(here.with_file_name("shell"))
}

/// Runs the soak, and prints the result. Returns whether everything was in order.
fn soak(time: Duration, seed: u64, shell: Option<PathBuf>) -> Result<bool> {
    let shell = shell.map_or_else(build, Ok)?;
    let soak = Arc::new(Soak::new(shell)?);
    let mut census = Census::new(&soak)?;
    let begun = Instant::now();
    let players: Vec<_> = rounds::ALL
        .iter()
        .zip(seed..)
        .map(|((name, round), seed)| {
            let soak = soak.clone();
            std::thread::spawn(move || soak.play(name, *round, seed))
        })
        .collect();
    while begun.elapsed() < time && !soak.is_over() {
        std::thread::sleep(Duration::from_millis(500));
        census.count(&soak, begun.elapsed());
    }
    soak.end();
    for player in players {
        if player.join().is_err() {
            soak.wrong("a player panicked".into());
        }
    }
    let (line, well) = census.verdict(&soak, begun.elapsed());
    println!("{line}");
    Ok(well)
}
