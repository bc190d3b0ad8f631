//! Every interleaving of three and four participants that take the seat lock's own steps. Two participants that exclude
//! each other are never in together. Under weak fairness every participant that wants in gets in. This includes deaths,
//! reclamations and cancellations.
//!
//! The search is sequentially consistent; the models add weaker memory. The larger searches run with
//! `WHORL_SEARCH_LONG=1`. Poll intervals do not end here unless a test says so, because they would turn a lost wake
//! into a delay and hide it.

mod explore;
mod mutants;
mod pack;
mod world;

use explore::{Overtaking, Verdict, search};
use mutants::Mutant;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use world::{Config, Reclamation};

/// Returns the permission to search. Of the long searches only one runs at a time, because each takes up to 2 GiB.
fn turn() -> Option<MutexGuard<'static, ()>> {
    static ONE: Mutex<()> = Mutex::new(());
    long().then(|| ONE.lock().unwrap_or_else(PoisonError::into_inner))
}

const fn of(roles: &'static str) -> Config {
    Config {
        roles,
        deaths: 0,
        cancels: false,
        slices: false,
        reclamation: Reclamation::Notified,
        reclaimers: 2,
        stops: false,
        mutant: Mutant::None,
        count: false,
    }
}

fn verify(config: Config) -> Overtaking {
    let _turn = turn();
    let (begin, mut most) = (Instant::now(), Overtaking::default());
    let Config { roles, deaths, cancels, slices, reclamation, stops, .. } = config;
    match search(&config, &mut most) {
        Verdict::Fine { states, edges } => println!(
            "{roles}, {deaths} deaths, cancels {cancels}, slices {slices}, {reclamation:?}, stops {stops}: {states} states, {edges} edges, \
             overtaken by {} and {}, {:.1?}",
            most.writers,
            most.readers,
            begin.elapsed()
        ),
        Verdict::Unsafe(trace) => {
            panic!("{roles}: two participants are in that exclude each other:\n{trace}")
        }
        Verdict::Starves(trace) => panic!("{roles}: a participant may wait forever: {trace}"),
    }
    most
}

#[derive(PartialEq, Eq, Debug)]
enum Failure {
    None,
    Unsafe,
    Starves,
}

/// Returns whether a mutant fails in one of the searches, and how.
fn fails(mutant: Mutant, configs: &[Config]) -> Failure {
    let _turn = turn();
    let mut verdicts = configs.iter().map(|config| {
        match search(&Config { mutant, ..*config }, &mut Overtaking::default()) {
            Verdict::Fine { .. } => Failure::None,
            Verdict::Unsafe(_) => Failure::Unsafe,
            Verdict::Starves(_) => Failure::Starves,
        }
    });
    verdicts.find(|failure| *failure != Failure::None).unwrap_or(Failure::None)
}

fn long() -> bool {
    std::env::var_os("WHORL_SEARCH_LONG").is_some_and(|value| value == "1")
}

#[test]
fn three_readers_and_writers_with_two_deaths_and_cancels() {
    let deaths = if long() { 2 } else { 1 };
    let config = Config { deaths: 2, cancels: true, ..of("BBB") };
    verify(of("BBB"));
    verify(config);
    verify(Config { slices: true, deaths, ..config });
    verify(Config { reclamation: Reclamation::NotifiedIdle, deaths, ..config });
}

#[test]
fn three_with_one_sweeper_that_asks_only_for_the_seats_of_the_code() {
    let config = Config { deaths: 2, cancels: true, reclamation: Reclamation::Watch, ..of("BBB") };
    verify(config);
    verify(Config { slices: true, deaths: if long() { 2 } else { 1 }, ..config });
}

#[test]
fn a_reclaimer_that_stops_for_ever_holds_up_no_participant() {
    for roles in ["BBB", "RRW", "RWW", "WRR"] {
        verify(Config {
            deaths: 1,
            cancels: true,
            reclamation: Reclamation::NotifiedIdle,
            stops: true,
            ..of(roles)
        });
    }
}

#[test]
fn four_without_deaths() {
    for roles in ["RRWW", "WRRW", "RRRW", "RWWW"] {
        verify(of(roles));
    }
}

#[test]
fn four_and_cancels() {
    for roles in ["RRWW", "WRRW", "RRRW"] {
        verify(Config { cancels: true, ..of(roles) });
    }
}

#[test]
fn four_and_deaths() {
    verify(Config { deaths: 1, cancels: true, ..of("RRRW") });
    verify(Config { deaths: 1, cancels: true, ..of("WRRW") });
    verify(Config { deaths: 2, ..of("RRRW") });
}

#[test]
fn four_in_the_long_searches() {
    if !long() {
        println!("not run: WHORL_SEARCH_LONG=1 runs it");
        return;
    }
    for roles in ["RRWW", "WRRW", "RRRW"] {
        verify(Config { deaths: 2, ..of(roles) });
        verify(Config { deaths: 2, cancels: true, ..of(roles) });
        verify(Config { deaths: 2, cancels: true, reclamation: Reclamation::Watch, ..of(roles) });
    }
    // With a sweeper this would take more than 2 GiB.
    verify(Config { cancels: true, ..of("RWWW") });
    verify(Config { deaths: 2, ..of("RWWW") });
    verify(Config { deaths: 2, cancels: true, ..of("RWWW") });
    verify(Config { deaths: 2, cancels: true, slices: true, ..of("RRWW") });
    verify(Config { deaths: 1, ..of("BBRW") });
}

#[test]
fn a_reader_is_overtaken_by_at_most_one_writer() {
    for roles in ["RW", "RRW", "RWW", "RRWW"].into_iter().chain(long().then_some("RWWW")) {
        assert_eq!(verify(Config { count: true, ..of(roles) }).writers, 1, "{roles}");
    }
}

#[test]
fn a_claimed_writer_is_overtaken_once_by_each_reader_and_a_queued_one_by_few_writers() {
    let long = [("WRWW", 3), ("WWWW", 6)].into_iter().filter(|_| long());
    for (roles, writers) in [("WR", 0), ("WW", 1), ("WRR", 0), ("WRW", 1), ("WWW", 3)].into_iter().chain(long)
    {
        let most = verify(Config { count: true, ..of(roles) });
        assert_eq!(most, Overtaking { writers, readers: roles.contains('R').into() }, "{roles}");
    }
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident, $failure:ident, [$($config:expr),+];)+) => {$(
        #[test]
        fn $name() {
            assert_eq!(fails(Mutant::$mutant, &[$($config),+]), Failure::$failure);
        }
    )+};
}

const THREE: Config = of("BBB");
const CANCELS: Config = Config { cancels: true, ..THREE };
const DEATHS: Config = Config { deaths: 2, cancels: true, ..THREE };
const ALONE: Config = Config { deaths: 1, reclamation: Reclamation::NotifiedIdle, reclaimers: 1, ..THREE };

mutants! {
    without_grants_a_reader_starves: NoGrant, Starves, [of("RWW")];
    without_a_flag_on_reading_a_reader_starves: NoFlagOnReading, Starves, [of("RWW"), CANCELS, DEATHS];
    waiting_until_a_seat_does_not_read_starves_a_writer: UntilNotReading, Starves, [of("WR")];
    turning_to_waiting_by_a_swap_starves_a_reader: QueueBySwap, Starves, [of("RWW"), CANCELS];
    without_a_second_look_a_wake_is_lost: NoSecondLook, Starves, [of("RW")];
    without_a_notification_a_wake_is_lost: NoNotify, Starves, [of("WW")];
    a_notification_without_a_flag_is_lost: NotifyWithoutFlag, Starves, [of("WW")];
    giving_up_silently_leaves_others_asleep: NoNotifyOnWithdrawal, Starves, [CANCELS];
    reclamation_that_notifies_no_waiter_leaves_others_asleep: NoNotifyAll, Starves, [DEATHS];
    barging_starves_a_writer: Barge, Starves, [of("WWW")];
    without_a_third_look_two_are_in: NoThirdLook, Unsafe, [of("RWW")];
    coming_back_by_a_swap_lets_two_in: ReturnBySwap, Unsafe, [of("RWW")];
    clearing_last_wipes_out_an_announcement: ClearLast, Starves, [of("WWW"), CANCELS, DEATHS];
    freeing_first_lets_two_in: FreeFirst, Unsafe, [of("RWW")];
    without_a_drain_two_are_in: NoDrain, Unsafe, [of("RW")];
    giving_up_without_grants_starves_a_reader: AbandonWithoutGrant, Starves, [of("RWW"), CANCELS];
    reclamation_that_does_not_free_for_the_dead_blocks_all: NoRelease, Starves, [DEATHS];
    reclamation_that_grants_lets_two_in: GrantInReclaim, Unsafe, [DEATHS];
    one_reclaimer_at_a_time_is_safe_even_if_it_grants: GrantInReclaim, None, [ALONE];
    one_reclaimer_at_a_time_may_stop_and_hold_up_all: None, Starves, [Config { stops: true, ..ALONE }];
}
