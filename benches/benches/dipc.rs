//! The mailbox server against redis and memcached: requests per second over TCP, with client and server on the same
//! cores. Also a mailbox read through shared memory.

use benches::collect::{Collected, interleave, present};
use benches::control::Control;
use benches::copying::command::build;
use benches::copying::files::Place;
use benches::many_connections::{self, UNDER_WAY};
use benches::options::{Options, Timing};
use benches::report::{Better, Case};
use benches::servers::{Load, ServerKind, Verb, rate};
use benches::targets::{Against, Bound, Target, at_least, beside};
use std::path::Path;
use std::time::Duration;
use whorl::internal::contenders::mailboxes::read_attached;

/// Bytes of a message, connections, requests in a batch, and the target for Whorl.
const CASES: [(usize, usize, usize, f64); 7] = [
    (4096, 1, 1, 1.1),
    (4096, 8, 1, 1.15),
    (4096, 50, 1, 1.15),
    (4096, 1, 16, 1.15),
    (4096, 8, 16, 1.15),
    (65536, 8, 1, 1.15),
    (65536, 8, 16, 1.15),
];
/// The numbers of open connections.
const CONNECTIONS: [usize; 5] = [1, 10, 100, 1000, 10_000];
const QUICK_CONNECTIONS: [usize; 3] = [1, 100, 1000];
const RIVALS: &[&str] = &["redis", "memcached"];

fn main() {
    let options = Options::from_args();
    whorl::internal::os::limits::raise_descriptor_limit();
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
            let parties: Vec<ServerKind> =
                ServerKind::ALL.into_iter().filter(|who| options.wants(who.name())).collect();
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
    connections(&options, (&shell, place.root()));
    let name = "attached read 4 KiB";
    if options.wants_case(name) && !options.list {
        attached(&options, (&shell, place.root()), name, time, rounds);
    } else if options.list {
        println!("{name}");
    }
}

/// Reads through more and more connections, each of which is used in turn. Also measures the memory of an idle
/// connection.
fn connections(options: &Options, (shell, place): (&Path, &Path)) {
    let parties: Vec<ServerKind> =
        ServerKind::ALL.into_iter().filter(|who| options.wants(who.name())).collect();
    let control = Control::map();
    let counts: &[usize] = if options.quick { &QUICK_CONNECTIONS } else { &CONNECTIONS };
    for &connections in counts {
        let name = format!("connections x{connections}");
        if !options.wants_case(&name) {
            continue;
        }
        if options.list {
            println!("{name}");
            continue;
        }
        let timing = options.timing(150, 800);
        // A slow connect is no hang: a server may need time for this many connections.
        let deadline = timing.deadline + Duration::from_millis(2 * connections as u64);
        let timing = Timing { deadline, ..timing };
        let rows = interleave(
            &parties,
            options.rounds(1, 3),
            1,
            |who| who.name().into(),
            |who| {
                let server = who.start_for(shell, place, connections)?;
                Ok(many_connections::serve(control, &server, 4096, connections, &timing))
            },
        );
        let rates: Vec<_> = rows.iter().map(|row| row.map(|served| served.rate)).collect();
        let title = format!("{name} open, all used in turn: get 4 KiB, at most {UNDER_WAY} under way");
        table(options, (&name, &title, "requests/s"), Better::Higher, &rates, connections);
        if connections >= 1000 && Some(&connections) == counts.last() {
            let memory: Vec<_> = present(&rows).map(|row| row.map(|served| served.memory)).collect();
            let name = "connections-memory";
            let title =
                format!("{name}: resident memory of the server for each of {connections} connections");
            table(options, (name, &title, "bytes"), Better::Lower, &memory, connections);
        }
    }
}

fn table(
    options: &Options,
    (name, title, unit): (&str, &str, &'static str),
    better: Better,
    rows: &[Collected<f64>],
    connections: usize,
) {
    Case {
        bench: "dipc",
        name: name.to_owned(),
        title: title.to_owned(),
        size: Some(4096),
        receivers: Some(connections),
        unit,
        better,
        rows,
        targets: &[beside(RIVALS)],
    }
    .print(options.json);
}

/// Measures reads of a process that is attached to the mailboxes, compared with the most that one core of a server
/// gives. That is half of what a pipelined client gets from both cores.
fn attached(options: &Options, (shell, place): (&Path, &Path), name: &str, time: Duration, rounds: usize) {
    let parties: Vec<ServerKind> =
        ServerKind::ALL.into_iter().filter(|who| options.wants(who.name())).collect();
    let rows = interleave(
        &parties,
        rounds,
        1,
        |who| who.name().into(),
        |who| {
            let server = who.start(shell, place)?;
            let load = Load { verb: Verb::Get, size: 4096, connections: 8, pipeline: 16 };
            Ok(match who {
                ServerKind::Whorl => read_attached(&server, time),
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
