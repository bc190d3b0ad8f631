//! Tests that fill the machine, or that raise this process's limits to hold thousands of connections. One runs at a time.

#[path = "../kit/mod.rs"]
mod kit;

#[cfg(feature = "cli")]
mod bench;
mod dipc_load;
mod false_deaths;
mod overload;
mod work;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lets one test at a time have the machine.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}
