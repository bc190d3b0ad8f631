//! Ends the view when its terminal is closed.
//!
//! When a terminal closes, crossterm reads it forever inside one call, and its caller sees neither the error nor the signal. So a
//! thread waits for the terminal's end, and ends the process.

use crate::ui::terminal::print_error;
use rustix::event::{PollFd, PollFlags, poll};
use std::thread::Builder;
use std::time::Duration;
use whorl::internal::os::signal::{raise_default, stop_signal};
use whorl::internal::os::standard::input;
use whorl::internal::os::thread::start_thread;

/// How long the view may take to end by the signal.
const GRACE: Duration = Duration::from_millis(200);

/// Starts the thread. The process then ends soon after its terminal: by the signal that comes with it, or with a failure if the
/// signal is ignored.
pub fn end_with_terminal() {
    let watch = || {
        if !hung_up() {
            return; // the terminal cannot be polled
        }
        std::thread::sleep(GRACE);
        if let Some(signal) = stop_signal() {
            raise_default(signal);
        }
        print_error("top: the terminal was closed");
        std::process::exit(1);
    };
    // Without the thread the view works, but may outlive its terminal.
    let _ = start_thread(Builder::new().name("terminal".into()), watch);
}

/// Waits until the terminal on standard input is closed. Returns `false` if that cannot be polled.
fn hung_up() -> bool {
    let stdin = input();
    loop {
        // poll(2) always reports a hang-up, so no events are requested.
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
