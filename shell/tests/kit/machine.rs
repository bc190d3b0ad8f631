//! A busy machine, and how late it runs a thread.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// Processes that only compute. They end when this is dropped, or when the test's process ends.
pub struct Busy(Vec<Child>);

impl Busy {
    /// Starts this many for each core.
    pub fn start(per_core: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let script =
            "while kill -0 $0 2>/dev/null; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done";
        let compute = |_| {
            let mut command = Command::new("sh");
            command.args(["-c", script, &std::process::id().to_string()]).stdin(Stdio::null()).spawn()
        };
        Self((0..per_core * cores).map(|number| compute(number).expect("sh")).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A thread that repeats an action until this is dropped.
pub struct Background {
    over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Repeats: calls `act`, which returns how often it acted, then sleeps for `pause`.
    pub fn start(pause: Duration, mut act: impl FnMut() -> u64 + Send + 'static) -> Self {
        let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, counts) = (over.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while !ends.load(Relaxed) {
                counts.fetch_add(act(), Relaxed);
                sleep(pause);
            }
        });
        Self { over, done, thread: Some(thread) }
    }

    /// How often it acted.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The longest delay after which this machine runs a thread that asked to be woken. Each time that a test measures
/// includes it.
pub struct Lateness {
    worst: Arc<AtomicU64>,
    _listening: Background,
}

impl Lateness {
    pub fn measure() -> Self {
        let worst = Arc::new(AtomicU64::new(0));
        let measured = worst.clone();
        let mut before = Instant::now();
        let listening = Background::start(Duration::from_millis(1), move || {
            let late = before.elapsed().saturating_sub(Duration::from_millis(1));
            measured.fetch_max(late.as_micros() as u64, Relaxed);
            before = Instant::now();
            1
        });
        Self { worst, _listening: listening }
    }

    /// The longest delay so far.
    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.load(Relaxed))
    }
}
