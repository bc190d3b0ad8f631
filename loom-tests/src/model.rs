//! The runner: it tries every execution of a model, counts them, and fails if there were too few.

use crate::sync::{AtomicU32, Ordering::Relaxed};
use std::env;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

/// A model: its name, its bound, and the number of executions when it was written.
#[derive(Clone, Copy)]
pub struct Model {
    name: &'static str,
    /// The most preemptions of an execution. `None` allows any number.
    bound: Option<usize>,
    /// The fewest executions that count as a complete search.
    least: usize,
}

impl Model {
    /// Returns a model for two threads, which tries any number of preemptions. `least` is 90 % of the measured count,
    /// so a model that shrinks unnoticed fails.
    pub fn new(name: &'static str, least: usize) -> Self {
        Self { name, bound: None, least }
    }

    /// Limits this model to `preemptions` preemptions, for three threads.
    pub fn bounded(self, preemptions: usize) -> Self {
        Self { bound: Some(preemptions), ..self }
    }

    /// Runs the model to exhaustion.
    ///
    /// # Panics
    /// If an execution fails, if there were too few, or if an environment variable would end the search early.
    pub fn check(self, model: impl Fn() + Send + Sync + 'static) {
        for limit in ["LOOM_MAX_PERMUTATIONS", "LOOM_MAX_DURATION"] {
            assert!(
                env::var_os(limit).is_none(),
                "{limit} is set, but a model counts only if all its executions run; unset it"
            );
        }
        let mut builder = loom::model::Builder::new();
        let overridden = builder.preemption_bound.is_some();
        if !overridden {
            builder.preemption_bound = self.bound;
        }
        builder.max_branches = builder.max_branches.max(10_000);
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        crate::stacks::mapped(); // The linker takes only a file that this program uses.
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
        // Not `eprintln!`, whose output the test harness shows only for failures.
        let mut stderr = std::io::stderr().lock();
        let seconds = start.elapsed().as_secs_f32();
        let checked = !overridden && env::var_os("WHORL_LOOM_ANY_COUNT").is_none();
        let note = if checked { "" } else { "; this count was not checked" };
        // One write, so that the harness's lines do not split it.
        let line = format!("model {name}: {executions} executions{bound}, {seconds:.1} s{note}\n");
        let _ = stderr.write_all(line.as_bytes());
        if !checked {
            return;
        }
        assert!(
            executions >= self.least,
            "model {name}: {executions} executions, at least {} expected: does the model still try what its name says?",
            self.least
        );
    }
}

/// Returns whether `WHORL_LOOM_LONG=1` asks for the long models.
pub fn is_long() -> bool {
    env::var_os("WHORL_LOOM_LONG").is_some_and(|value| value == "1")
}

/// The start of a model's threads. Each begins with a [`step`](Start::step).
///
/// Loom remembers only the last access to a word. So it overlooks that a look by one thread and a later
/// look-and-exchange by another could come in the other order. The first step depends on which thread comes first, so
/// loom tries every order of the threads from the start.
#[derive(Clone)]
pub struct Start(Arc<AtomicU32>);

impl Start {
    /// Makes a start. Call it inside the model.
    #[expect(clippy::new_without_default, reason = "each execution makes its own, visibly")]
    pub fn new() -> Self {
        Self(Arc::new(AtomicU32::new(0)))
    }

    /// Takes a thread's first step.
    pub fn step(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Runs two halves of a model at the same time, and returns their results.
///
/// # Panics
/// If one of them panics.
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
