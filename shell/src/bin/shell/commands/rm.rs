//! `shell rm`: ends live channels, removes what dead ones left, and prints each.

use crate::cli::rm::Args;
use crate::ui::exit::Exit;
use crate::ui::terminal::{print, print_error};
use whorl::Name;
use whorl::internal::mailbox_server::server_registry::ServerRegistry;
use whorl::internal::os::pid::pid_in_words;
use whorl::internal::registry::RuntimeDir;
use whorl::internal::registry::{RemoveError, Removed, remove_dead, remove_name};

/// Runs it.
pub fn run(args: Args) -> Exit {
    let directory = match RuntimeDir::open() {
        Ok(directory) => directory,
        Err(error) => {
            print_error(&format!("rm: {error}"));
            return Exit::Failed;
        }
    };
    match args.dead {
        true => dead(&directory),
        false => named(&directory, &args),
    }
}

fn dead(directory: &RuntimeDir) -> Exit {
    let (removed, failed) = match remove_dead(directory) {
        Ok(done) => done,
        Err(error) => {
            print_error(&format!("rm: {}: {error}", whorl::internal::os::escape::shown(directory.path())));
            return Exit::Failed;
        }
    };
    let mut printed = true;
    for (name, what) in &removed {
        printed &= print_removed(name, *what);
    }
    match ServerRegistry::open() {
        Ok(servers) => {
            servers.remove_dead().iter().for_each(|name| printed &= print_removed(name, Removed::Stale))
        }
        Err(error) => {
            print_error(&format!("rm: {error}"));
            printed = false;
        }
    }
    for (name, error) in &failed {
        print_error(&format!("rm: {name}: {error}"));
    }
    if failed.is_empty() && printed { Exit::Done } else { Exit::Failed }
}

fn named(directory: &RuntimeDir, args: &Args) -> Exit {
    let (mut missing, mut failed, mut printed) = (0, false, true);
    for name in &args.names {
        match remove_name(directory, name, args.force) {
            Ok(removed) => removed.into_iter().for_each(|what| printed &= print_removed(name, what)),
            Err(error) => {
                print_error(&format!("rm: {name}: {error}"));
                missing += usize::from(error == RemoveError::Nothing);
                failed = true;
            }
        }
    }
    match failed || !printed {
        false => Exit::Done,
        true if missing == args.names.len() => Exit::Nothing,
        true => Exit::Failed,
    }
}

fn print_removed(name: &Name, what: Removed) -> bool {
    print(&match what {
        Removed::Stale => format!("{name}: removed, its owner is dead"),
        Removed::StaleWait(pid) => {
            format!("{name}: removed what {} left, a dead receiver", pid_in_words(pid))
        }
        Removed::Ended(pid) => format!("{name}: its owner ({}) ended", pid_in_words(pid)),
        Removed::Taken(pid) => {
            format!("{name}: taken away from its owner ({}), which is still running", pid_in_words(pid))
        }
        Removed::Waiter(pid) => format!("{name}: {} no longer waits for it", pid_in_words(pid)),
    })
}
