//! The end of the terminal, which is also the view's.
//!
//! When a terminal hangs up, crossterm reads it again and again, for ever, inside one call: neither its error nor the signal that
//! comes with it is ever seen by who called. So a thread watches for the end of the terminal, and ends the process.

use crate::ui::terminal::say;
use rustix::event::{PollFd, PollFlags, poll};
use std::thread::Builder;
use std::time::Duration;
use whorl::os::signal::{raise_default, stop_signal};
use whorl::os::standard::input;
use whorl::os::thread::start_thread;

/// How long the view may take to end by itself, as the signal asks.
const GRACE: Duration = Duration::from_millis(200);

/// From now on the process ends soon after its terminal: of the signal that came with it, or, where that is ignored, as failed.
pub fn end_with_terminal() {
    let watch = || {
        if !hung_up() {
            return; // it cannot be watched
        }
        std::thread::sleep(GRACE);
        if let Some(signal) = stop_signal() {
            raise_default(signal);
        }
        say("top: the terminal is gone");
        std::process::exit(1);
    };
    // Without the thread everything works but this.
    let _ = start_thread(Builder::new().name("terminal".into()), watch);
}

/// Waits until standard input's terminal has hung up; false if that cannot be waited for.
fn hung_up() -> bool {
    let stdin = input();
    loop {
        // No events are asked for: a hang-up is told always.
        let mut watched = [PollFd::new(&stdin, PollFlags::empty())];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) if watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => return true,
            Ok(_) if watched[0].revents().contains(PollFlags::NVAL) => return false,
            Ok(_) => {}
        }
    }
}
