//! The mailbox server over TCP, beside redis and memcached if installed, and a mailbox read through shared memory.

use super::report::{Better, Case};
use super::{Bench, Budget};
use crate::ui::units::count;
use harness::collect::interleave_while;
use harness::contender::Unavailable;
use harness::copying::files::Place;
use harness::servers::{Load, ServerKind, Verb, rate};
use whorl::internal::contenders::mailboxes::read_attached;

/// Read or write, bytes of a message, connections, requests in flight on each.
const LOADS: [(Verb, usize, usize, usize); 4] =
    [(Verb::Get, 4096, 1, 1), (Verb::Get, 4096, 8, 16), (Verb::Set, 4096, 8, 16), (Verb::Get, 65536, 8, 16)];
/// Further loads of the detailed measurement.
const MORE: [(Verb, usize, usize, usize); 3] =
    [(Verb::Get, 4096, 50, 1), (Verb::Set, 4096, 50, 1), (Verb::Set, 65536, 8, 16)];

/// Measures this part.
pub fn run(bench: &mut Bench, budget: Budget) {
    let mut loads = LOADS.to_vec();
    if bench.detail {
        loads.extend(MORE);
    }
    let each = budget.share(1.0 / (loads.len() + 1) as f64);
    for (verb, size, connections, pipeline) in loads {
        let word = if verb == Verb::Get { "read" } else { "write" };
        let load = Load { verb, size, connections, pipeline };
        let name = format!("dipc {word} {} KiB x{connections} p{pipeline}", size / 1024);
        let title = format!(
            "Mailboxes: {word} {} KiB, {}, {pipeline} in flight on each",
            size / 1024,
            count(connections as u64, "connection"),
        );
        one(bench, &each.share(1.0), name, title, Some(load));
    }
    let title = "Mailboxes: read 4 KiB in shared memory; the other rows: half of x8 p16 above";
    one(bench, &each.share(1.0), "dipc attached".into(), title.into(), None);
}

/// Measures one load. Without a load it measures an attached program beside the best figure of one core of a server.
fn one(bench: &mut Bench, budget: &Budget, name: String, title: String, load: Option<Load>) {
    if bench.is_over() {
        return;
    }
    let time = budget.timing(ServerKind::ALL.len()).measure;
    let place = Place::new(&bench.directory, 0);
    let rows = interleave_while(
        &ServerKind::ALL,
        |round| budget.wants(round),
        2,
        |who| who.name().into(),
        |who| {
            let place = place.as_ref().map_err(|why| Unavailable::cannot(why.clone()))?;
            let server = who.start(&bench.shell, place.root())?;
            let best = Load { verb: Verb::Get, size: 4096, connections: 8, pipeline: 16 };
            Ok(match (load, who) {
                (Some(load), _) => rate(&server, load, time),
                (None, ServerKind::Whorl) => read_attached(&server, time),
                (None, _) => rate(&server, best, time).map(|rate| rate / 2.0),
            })
        },
    );
    bench.report.case(Case { name, title, unit: "requests/s", better: Better::Higher, rows });
}
