//! SIGKILL at random moments, a third of them after SIGSTOP, half of those after SIGCONT: to a ring's receivers, its
//! senders, and the processes attached to a mailbox.
//!
//! A thousand kills by default, a hundred thousand with `WHORL_FAULTS_LONG` set. `SEED` chooses other moments.

use crate::peers::{Outcome, Peer, Words};
use crate::random::{KILLS, STOPS, receivers, senders, users};
use std::time::Instant;

#[test]
fn a_thousand_kills_at_any_moment() {
    let factor = crate::kit::short_or_long(1, 100);
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_240_303u64);
    eprintln!("SEED={seed}");
    type Round = fn(u64, u32, Words) -> Outcome;
    let kinds: [(&str, Round, u32); 3] =
        [("receivers", receivers, 500), ("senders", senders, 100), ("mailbox users", users, 400)];
    let begun = Instant::now();
    let running = kinds.map(|(name, kill, kills)| {
        let happened = Words::new();
        let tester = Peer::fork(name, || {
            std::panic::set_hook(Box::new(|panic| _ = crate::peers::say(&panic.to_string(), 0)));
            kill(seed | 1, kills * factor, happened)
        });
        (name, kills * factor, happened, tester)
    });
    for (name, kills, happened, tester) in running {
        let status = tester.wait();
        let (killed, stopped) = (happened.get(KILLS), happened.get(STOPS));
        eprintln!(
            "  {name}: {killed} kills, {stopped} stops, {}",
            if status == 0 { "nothing lost" } else { "WRONG" }
        );
        assert_eq!((status, killed), (0, kills), "{name}: see above");
    }
    eprintln!("{} kills, nothing lost, in {:?}", 1000 * factor, begun.elapsed());
}
