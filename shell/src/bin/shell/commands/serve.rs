//! `shell serve`: announce a server until it is no longer wanted.

use crate::cli::serve::Args;
use crate::ui::exit::Exit;
use crate::ui::logging;
use crate::ui::terminal::say;
use std::os::unix::ffi::OsStringExt;
use whorl::Server;
use whorl::discovery::ServerError;
use whorl::os::signal::{catch_stop_signals, stop_signal};
use whorl::os::standard::errors;

/// Runs it.
pub fn run(args: Args) -> Exit {
    catch_stop_signals();
    let level = match logging::level(args.log_json || args.log_file.is_some()) {
        Ok(level) => level,
        Err(why) => {
            say(&format!("serve: {why}"));
            return Exit::Usage;
        }
    };
    match args.log_file.as_deref().map(logging::open).transpose() {
        Ok(file) => logging::start(level, args.log_json, file),
        Err(why) => {
            say(&format!("serve: {why}"));
            return Exit::Failed;
        }
    }
    let mut options = Server::options(args.directory)
        .socket_message(args.socket_message.into_vec())
        .shm_message(args.shm_message.into_vec())
        .any_user(args.any_user);
    if let Some(address) = args.bind {
        options = options.address(address);
    }
    let served = options.start(&args.name).and_then(|mut server| {
        if args.bind.is_some_and(|address| address.is_unspecified()) && server.address().0.is_loopback() {
            let text = format!(
                "{}: this machine has no address that others can reach, so its file names {}; bring the network up, or \
                 give --bind=ADDRESS",
                args.name,
                server.address().0
            );
            say(&format!("serve: {text}"));
            if args.log_file.is_some() {
                tracing::warn!("{text}");
            }
        }
        if !args.quiet && errors().is_terminal() {
            let (address, port) = server.address();
            say(&format!("serve: {} listens at {address}, port {port}", args.name));
        }
        let (address, port) = server.address();
        tracing::info!("{} listens at {address}, port {port}", args.name);
        let waited = match args.time {
            Some(time) => server.wait_timeout(args.clients, time),
            None => server.wait(args.clients),
        };
        tracing::info!("{} ended after {} clients", args.name, server.clients());
        waited
    });
    match served {
        Ok(()) => Exit::Done,
        Err(ServerError::Interrupted) => Exit::Signal(stop_signal().unwrap_or(15)),
        Err(error) => {
            say(&format!("serve: {}: {error}", args.name));
            Exit::Failed
        }
    }
}
