//! The one runner: tries a model's every execution, counts them, and fails if they were too few.

use crate::sync::{AtomicU32, Ordering::Relaxed};
use std::env;
use std::io::Write;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Side by side they take longer than one after another: each wants the caches for itself.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A model: what is tried, how far, and how many executions that was when it was written.
#[derive(Clone, Copy)]
pub struct Model {
    name: &'static str,
    /// How many preemptions an execution may have; `None`: any number.
    bound: Option<usize>,
    /// The fewest executions that count as having looked.
    least: usize,
}

impl Model {
    /// A model that is tried with any number of preemptions, for two threads. `least` is 90 % of the measured count, so
    /// a model that silently shrinks is noticed.
    pub fn new(name: &'static str, least: usize) -> Self {
        Self { name, bound: None, least }
    }

    /// The same with at most `preemptions` of them, for three threads.
    pub fn bounded(self, preemptions: usize) -> Self {
        Self { bound: Some(preemptions), ..self }
    }

    /// Runs the model to exhaustion.
    ///
    /// # Panics
    /// If an execution fails, if there were too few, or if a limit from outside would end the search early.
    pub fn check(self, model: impl Fn() + Send + Sync + 'static) {
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        for limit in ["LOOM_MAX_PERMUTATIONS", "LOOM_MAX_DURATION"] {
            assert!(
                env::var_os(limit).is_none(),
                "{limit} is set: a model counts only when it was exhausted"
            );
        }
        let mut builder = loom::model::Builder::new();
        let overridden = builder.preemption_bound.is_some();
        if !overridden {
            builder.preemption_bound = self.bound;
        }
        builder.max_branches = builder.max_branches.max(10_000);
        let executions = Arc::new(AtomicUsize::new(0));
        let (counter, start) = (executions.clone(), Instant::now());
        builder.check(move || {
            counter.fetch_add(1, Relaxed);
            model();
        });
        self.judge(executions.load(Relaxed), overridden, start);
    }

    fn judge(&self, executions: usize, overridden: bool, start: Instant) {
        let name = self.name;
        let bound = match self.bound {
            _ if overridden => ", bound overridden by hand".into(),
            Some(bound) => format!(", at most {bound} preemptions"),
            None => String::new(),
        };
        // Not `eprintln!`, which the test harness keeps for failures.
        let mut stderr = std::io::stderr().lock();
        let seconds = start.elapsed().as_secs_f32();
        let checked = !overridden && env::var_os("WHORL_LOOM_ANY_COUNT").is_none();
        let note = if checked { "" } else { "; this count was not checked" };
        // In one write, so that the harness's lines do not split it.
        let line = format!("model {name}: {executions} executions{bound}, {seconds:.1} s{note}\n");
        let _ = stderr.write_all(line.as_bytes());
        if !checked {
            return;
        }
        assert!(
            executions >= self.least,
            "model {name}: {executions} executions, at least {} expected: does it still try what it says?",
            self.least
        );
    }
}

/// Whether the models that take long were asked for (`WHORL_LOOM_LONG=1`).
pub fn is_long() -> bool {
    env::var_os("WHORL_LOOM_LONG").is_some_and(|value| value == "1")
}

/// The start of a model's threads: each begins with a [`step`](Start::step).
///
/// Loom remembers only the last access to a word, so it overlooks that a look by one thread and a later
/// look-and-exchange by another could come in the other order. With a first step that surely depends on who comes first,
/// every order of the threads is tried from the start.
#[derive(Clone)]
pub struct Start(Arc<AtomicU32>);

impl Start {
    /// To be made inside the model.
    #[expect(clippy::new_without_default, reason = "each execution makes its own, visibly")]
    pub fn new() -> Self {
        Self(Arc::new(AtomicU32::new(0)))
    }

    /// A thread's first step.
    pub fn step(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Runs two halves of a model at once and returns what they return.
///
/// # Panics
/// If one of them does.
pub fn race<A: 'static, B: 'static>(
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> B + Send + 'static,
) -> (A, B) {
    let start = Start::new();
    let other = start.clone();
    let thread = loom::thread::spawn(move || {
        other.step();
        there()
    });
    start.step();
    (here(), thread.join().unwrap())
}
