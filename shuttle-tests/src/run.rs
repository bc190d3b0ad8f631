//! The runner: it runs a model under random schedules, and under PCT with few preemptions.

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// The number of schedules of each kind in an ordinary run.
const SCHEDULES: usize = 300;

/// The number of preemptions that PCT places. Known bugs in such code needed two or three.
const DEPTH: usize = 3;

/// Runs a model under [`SCHEDULES`] schedules of each kind, or a hundred times as many if `WHORL_SHUTTLE_LONG=1`.
///
/// # Panics
/// If one of them fails.
pub fn check(name: &str, model: impl Fn() + Send + Sync + Clone + 'static) {
    let long = std::env::var_os("WHORL_SHUTTLE_LONG").is_some_and(|value| value == "1");
    let schedules = if long { SCHEDULES * 100 } else { SCHEDULES };
    let mut config = Config::new();
    config.silence_warnings = true; // the warning says that shuttle is sequentially consistent: see `lib.rs`
    Runner::new(RandomScheduler::new(schedules), config.clone()).run(model.clone());
    Runner::new(PctScheduler::new(DEPTH, schedules), config).run(model);
    println!("{name}: {schedules} random schedules, {schedules} of PCT with depth {DEPTH}");
}
