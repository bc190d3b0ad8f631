//! The futex between processes: a wake reaches another process at once, and a wake of a private futex reaches none.

use crate::kit::process::until_asleep;
use crate::kit::{LIMIT, is_alive, own_test, until};
use rustix::thread::futex::{self, Flags};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Child;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::sleep;
use std::time::{Duration, Instant};
use whorl::internal::os::futex::{POLL_INTERVAL, SharedFutex, ThreadFutex};
use whorl_core::host::{Futex, WaitResult};
use whorl_core::sync::AtomicU32;

/// Where the sleeping process finds the memory that it shares with the test.
const SHARED: &str = "WHORL_TEST_SHARED";
/// Set for a sleeper that uses a private futex.
const PRIVATE: &str = "WHORL_TEST_PRIVATE";

/// A mapped page of a file. The sleeper sleeps on word 0. Word 1 counts the sleeps that a wake ended, word 2 those that
/// a wait slice ended. Word 3 says that the sleeper is about to sleep.
struct Words {
    map: memmap2::MmapRaw,
    file: File,
}

impl Words {
    fn new(file: File) -> Self {
        file.set_len(4096).expect("a page");
        Self { map: memmap2::MmapOptions::new().map_raw(&file).expect("a mapping"), file }
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < 4);
        // SAFETY: within the page.
        let word = unsafe { self.map.as_mut_ptr().cast::<u32>().add(index) };
        // SAFETY: aligned, mapped for as long as `self`, and used as nothing but an atomic.
        unsafe { AtomicU32::from_ptr(word) }
    }

    fn get(&self, index: usize) -> u32 {
        self.word(index).load(SeqCst)
    }
}

/// The other process: this program, running one test that sleeps on word 0 until the word is no longer 0.
fn sleeper(test: &str, private: bool) -> (Words, Asleep) {
    let words = Words::new(tempfile::tempfile().expect("a file"));
    let shared = format!("/proc/{}/fd/{}", std::process::id(), words.file.as_raw_fd());
    let mut command = own_test(module_path!(), test);
    command.env(SHARED, shared);
    if private {
        command.env(PRIVATE, "1");
    }
    let asleep = Asleep(command.spawn().expect("it starts"));
    until(LIMIT, "it sleeps", || words.get(3) == 1);
    (words, asleep)
}

struct Asleep(Child);

impl Asleep {
    /// Waits until every thread of it sleeps. The thread that runs the test sleeps only on the word.
    fn wait(&self) {
        until_asleep(self.0.id() as i32);
    }

    fn finish(mut self, words: &Words) {
        words.word(0).store(1, SeqCst);
        assert!(self.0.wait().expect("our own child").success());
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the sleeper's half in the other process. Returns false in the test itself.
fn sleep_if_asked() -> bool {
    let Ok(shared) = std::env::var(SHARED) else { return false };
    let words = Words::new(File::options().read(true).write(true).open(shared).expect("the shared file"));
    let private = std::env::var(PRIVATE).is_ok();
    words.word(3).store(1, SeqCst);
    let parent = rustix::process::getppid();
    while words.get(0) == 0 && rustix::process::getppid() == parent {
        let deadline = Instant::now() + Duration::from_millis(200);
        let woken = match private {
            true => ThreadFutex.wait(words.word(0), 0, Some(deadline)) == WaitResult::Woken,
            false => SharedFutex.wait(words.word(0), 0, None) == WaitResult::Woken,
        };
        // The word changes only at the end. Before that only a wake ends a sleep before its time.
        words.word(if woken { 1 } else { 2 }).fetch_add(1, SeqCst);
    }
    true
}

#[test]
fn a_shared_wake_reaches_another_process_long_before_its_slice_ends() {
    if sleep_if_asked() {
        return;
    }
    let (words, asleep) = sleeper("a_shared_wake_reaches_another_process_long_before_its_slice_ends", false);
    let (mut fastest, mut reached, mut tried) = (Duration::MAX, 0, 0);
    // A wake between two slices finds no sleeper, and a busy machine is sometimes slow. So the test repeats until it
    // sees both.
    until(LIMIT, "20 wakes reach the other process, and one of them soon", || {
        asleep.wait();
        let before = words.get(1);
        let slept = before + words.get(2);
        let begun = Instant::now();
        SharedFutex.wake_all(words.word(0));
        while words.get(1) + words.get(2) == slept {
            std::hint::spin_loop();
        }
        tried += 1;
        if words.get(1) > before {
            reached += 1;
            fastest = fastest.min(begun.elapsed());
        }
        reached >= 20 && fastest < POLL_INTERVAL / 5
    });
    eprintln!("{reached} of {tried} wakes reached another process, the fastest within {fastest:?}");
    asleep.finish(&words);
}

#[test]
fn a_private_wake_reaches_no_other_process() {
    if sleep_if_asked() {
        return;
    }
    let (words, asleep) = sleeper("a_private_wake_reaches_no_other_process", false);
    let mut woken = 0;
    until(LIMIT, "without the flag ten wakes find the sleeper", || {
        asleep.wait();
        // The kernel returns how many it woke: with the private flag none, on the word that the other process sleeps
        // on.
        assert_eq!(futex::wake(words.word(0), Flags::PRIVATE, i32::MAX as u32), Ok(0));
        ThreadFutex.wake_all(words.word(0));
        sleep(Duration::from_millis(2)); // silence is the assertion
        assert_eq!(words.get(1), 0, "a private wake ended a shared sleep");
        if futex::wake(words.word(0), Flags::empty(), 1) == Ok(1) {
            woken += 1;
            until(LIMIT, "it notices", || words.get(1) == 1);
            words.word(1).store(0, SeqCst);
        }
        woken == 10
    });
    asleep.finish(&words);
}

#[test]
fn a_shared_wake_does_not_reach_a_private_sleeper() {
    if sleep_if_asked() {
        return;
    }
    let (words, asleep) = sleeper("a_shared_wake_does_not_reach_a_private_sleeper", true);
    for _round in 0..20 {
        asleep.wait();
        assert_eq!(futex::wake(words.word(0), Flags::empty(), i32::MAX as u32), Ok(0));
        SharedFutex.wake_all(words.word(0));
    }
    assert_eq!(words.get(1), 0);
    until(LIMIT, "it sleeps to its own deadline again and again", || words.get(2) >= 3);
    assert!(is_alive(asleep.0.id() as i32));
    asleep.finish(&words);
}

#[test]
fn without_a_wake_a_sleep_ends_with_its_slice_and_a_deadline_ends_it_earlier() {
    let words = Words::new(tempfile::tempfile().expect("a file"));
    let begun = Instant::now();
    assert_eq!(SharedFutex.wait(words.word(0), 0, None), WaitResult::PollInterval);
    assert!(begun.elapsed() >= POLL_INTERVAL);
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(5);
    assert_eq!(SharedFutex.wait(words.word(0), 0, Some(deadline)), WaitResult::TimedOut);
    assert!(begun.elapsed() >= Duration::from_millis(5));
    assert_eq!(SharedFutex.wait(words.word(0), 0, Some(begun)), WaitResult::TimedOut);
    // The word has another value than expected, so the call does not sleep.
    assert_eq!(SharedFutex.wait(words.word(0), 7, None), WaitResult::Woken);
}
