//! The mailbox server over TCP beside redis and memcached where they are, and a mailbox read through shared memory.

use super::report::{Better, Case};
use super::{Bench, Budget};
use harness::collect::interleave_while;
use harness::contender::Unavailable;
use harness::copying::files::Place;
use harness::servers::{Load, Verb, Who, rate};
use whorl::contenders::mailboxes::read_attached;

/// Read or write, bytes of a message, connections, requests under way on each.
const LOADS: [(Verb, usize, usize, usize); 4] =
    [(Verb::Get, 4096, 1, 1), (Verb::Get, 4096, 8, 16), (Verb::Set, 4096, 8, 16), (Verb::Get, 65536, 8, 16)];
/// More of them, in detail.
const MORE: [(Verb, usize, usize, usize); 3] =
    [(Verb::Get, 4096, 50, 1), (Verb::Set, 4096, 50, 1), (Verb::Set, 65536, 8, 16)];

/// Measures it.
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
        let plural = if connections == 1 { "" } else { "s" };
        let title = format!(
            "Mailboxes: {word} {} KiB, {connections} connection{plural}, {pipeline} in flight on each",
            size / 1024
        );
        one(bench, &each.share(1.0), name, title, Some(load));
    }
    let title = "Mailboxes: read 4 KiB in shared memory; the others: half of x8 p16, above";
    one(bench, &each.share(1.0), "dipc attached".into(), title.into(), None);
}

/// One load; or, without one, what an attached program reads beside the best that one core of a server gives.
fn one(bench: &mut Bench, budget: &Budget, name: String, title: String, load: Option<Load>) {
    if bench.is_over() {
        return;
    }
    let time = budget.timing(Who::ALL.len()).measure;
    let place = Place::new(&bench.directory, 0);
    let rows = interleave_while(
        &Who::ALL,
        |round| budget.wants(round),
        2,
        |who| who.name().into(),
        |who| {
            let place = place.as_ref().map_err(|why| Unavailable::cannot(why.clone()))?;
            let server = who.start(&bench.shell, place.root())?;
            let best = Load { verb: Verb::Get, size: 4096, connections: 8, pipeline: 16 };
            Ok(match (load, who) {
                (Some(load), _) => rate(&server, load, time),
                (None, Who::Whorl) => read_attached(&server, time),
                (None, _) => rate(&server, best, time).map(|rate| rate / 2.0),
            })
        },
    );
    bench.report.case(Case { name, title, unit: "requests/s", better: Better::Higher, rows });
}
