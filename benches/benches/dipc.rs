//! The mailbox server against redis and memcached: requests per second over TCP, client and server on the same cores;
//! and a mailbox read through shared memory.

use benches::collect::{Collected, interleave};
use benches::copying::files::Place;
use benches::options::Options;
use benches::report::{Better, Case};
use benches::servers::{Load, Verb, Who, rate};
use benches::targets::{Against, Bound, Target, at_least};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use whorl::measured::mailboxes::read_attached;

/// Bytes of a message, connections, requests in a batch, and what is asked of Whorl.
const CASES: [(usize, usize, usize, f64); 7] = [
    (4096, 1, 1, 1.1),
    (4096, 8, 1, 1.15),
    (4096, 50, 1, 1.15),
    (4096, 1, 16, 1.15),
    (4096, 8, 16, 1.15),
    (65536, 8, 1, 1.15),
    (65536, 8, 16, 1.15),
];
const RIVALS: &[&str] = &["redis", "memcached"];

fn main() {
    let options = Options::from_args();
    let shell = match build() {
        Ok(shell) => shell,
        Err(why) => {
            eprintln!("dipc: {why}");
            std::process::exit(1);
        }
    };
    let place = match Place::new(&std::env::temp_dir(), 0) {
        Ok(place) => place,
        Err(why) => {
            eprintln!("dipc: {why}");
            std::process::exit(1);
        }
    };
    let time = Duration::from_millis(if options.quick { 200 } else { 1000 });
    let rounds = options.rounds(1, 5);
    for verb in [Verb::Get, Verb::Set] {
        let word = if verb == Verb::Get { "get" } else { "set" };
        for case in CASES {
            let (size, connections, pipeline, factor) = case;
            let name = format!("{word} {} KiB x{connections} p{pipeline}", size / 1024);
            if !options.wants_case(&name) {
                continue;
            }
            if options.list {
                println!("{name}");
                continue;
            }
            let parties: Vec<Who> = Who::ALL.into_iter().filter(|who| options.wants(who.name())).collect();
            let rows = interleave(
                &parties,
                rounds,
                1,
                |who| who.name().into(),
                |who| {
                    let server = who.start(&shell, place.root())?;
                    Ok(rate(&server, Load { verb, size, connections, pipeline }, time))
                },
            );
            print(&options, &name, &rows, size, &[at_least(factor, RIVALS)], connections);
        }
    }
    let name = "attached read 4 KiB";
    if options.wants_case(name) && !options.list {
        attached(&options, (&shell, place.root()), name, time, rounds);
    } else if options.list {
        println!("{name}");
    }
}

/// Reads by a process that is attached to the mailboxes, beside the best that one core of a server gives: half of what a
/// pipelined client gets from both cores.
fn attached(options: &Options, (shell, place): (&Path, &Path), name: &str, time: Duration, rounds: usize) {
    let parties: Vec<Who> = Who::ALL.into_iter().filter(|who| options.wants(who.name())).collect();
    let rows = interleave(
        &parties,
        rounds,
        1,
        |who| who.name().into(),
        |who| {
            let server = who.start(shell, place)?;
            let load = Load { verb: Verb::Get, size: 4096, connections: 8, pipeline: 16 };
            Ok(match who {
                Who::Whorl => read_attached(&server, time),
                _ => rate(&server, load, time).map(|value| value / 2.0),
            })
        },
    );
    let target = Target { of: "whorl", against: Against::Best(RIVALS), bound: Bound::AtLeast(20.0) };
    print(options, name, &rows, 4096, &[target], 1);
}

fn print(
    options: &Options,
    name: &str,
    rows: &[Collected<f64>],
    size: usize,
    targets: &[Target],
    connections: usize,
) {
    Case {
        bench: "dipc",
        name: name.to_owned(),
        title: name.to_owned(),
        size: Some(size as u64),
        receivers: Some(connections),
        unit: "requests/s",
        better: Better::Higher,
        rows,
        targets,
    }
    .print(options.json);
}

/// The release build of the command.
fn build() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|why| why.to_string())?;
    let target = own.ancestors().nth(3).ok_or("this bench lies in no target directory")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--release", "-p", "shell", "--bin", "shell", "--target-dir"])
        .arg(target);
    match command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).status() {
        Ok(status) if status.success() => Ok(target.join("release/shell")),
        Ok(status) => Err(format!("the command was not built: {status}")),
        Err(why) => Err(format!("the command was not built: {why}")),
    }
}
