//! Waiting for a condition.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::time::Timespec;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// No step of these tests takes this long, unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The command promises some actions within a second. They get this long, because the machine may be busy.
pub const SOON: Duration = Duration::from_secs(5);

/// Waits for a condition. Panics if it is not met within this time.
#[track_caller]
pub fn until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < within, "not so within {within:?}: {what}");
        sleep(Duration::from_millis(1));
    }
}

/// Runs `scene` for each of these cases, several at the same time, because a scene mostly waits. Panics if a scene
/// panics.
#[track_caller]
pub fn all_at_once<T: Send>(cases: impl IntoIterator<Item = T>, scene: impl Fn(T) + Sync) {
    const AT_ONCE: usize = 6;
    let cases = Mutex::new(cases.into_iter().collect::<Vec<_>>().into_iter());
    let next = || cases.lock().expect("no panic in between").next();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = next() {
                    scene(case);
                }
            });
        }
    });
}

/// Whether a descriptor becomes readable within this time.
pub fn is_readable(descriptor: impl AsFd, within: Duration) -> bool {
    let mut ready = [PollFd::new(&descriptor, PollFlags::IN)];
    let time = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: within.subsec_nanos().into() };
    poll(&mut ready, Some(&time)).expect("poll") > 0
}
