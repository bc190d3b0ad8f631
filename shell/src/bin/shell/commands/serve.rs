//! `shell serve`: announces a server until its limit of clients or time, or a signal.

use crate::cli::serve::Args;
use crate::ui::exit::Exit;
use crate::ui::logging;
use crate::ui::terminal::{print_error, print_note, print_summary};
use crate::ui::units::{count, elapsed};
use crate::ui::usage;
use std::os::unix::ffi::OsStringExt;
use std::time::Instant;
use whorl::Server;
use whorl::ServerError;
use whorl::internal::os::signal::{catch_stop_signals, stop_signal};
use whorl::internal::os::standard::errors;

/// Runs it.
pub fn run(args: Args) -> Exit {
    catch_stop_signals();
    let level = match logging::level(args.log_json || args.log_file.is_some()) {
        Ok(level) => level,
        Err(why) => {
            return usage::refuse(&["serve"], &why);
        }
    };
    match args.log_file.as_deref().map(logging::open).transpose() {
        Ok(file) => logging::start(level, args.log_json, file),
        Err(why) => {
            print_error(&format!("serve: {why}"));
            return Exit::Failed;
        }
    }
    let begun = Instant::now();
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
                "{}: this machine has no address that other machines can reach, so its file names {}; bring the network \
                 up, or give --bind=ADDRESS",
                args.name,
                server.address().0
            );
            print_note(&format!("serve: {text}"));
            if args.log_file.is_some() {
                tracing::warn!("{text}");
            }
        }
        if !args.quiet && errors().is_terminal() {
            let (address, port) = server.address();
            print_note(&format!("serve: {} listens at {address}, port {port}", args.name));
        }
        let (address, port) = server.address();
        tracing::info!("{} listens at {address}, port {port}", args.name);
        let waited = match args.time {
            Some(time) => server.wait_timeout(args.clients, time),
            None => server.wait(args.clients),
        };
        let clients = count(server.clients(), "client");
        tracing::info!("{} ended after {clients}", args.name);
        waited.map(|()| clients)
    });
    match served {
        Ok(clients) => {
            print_summary(args.quiet, &format!("served {clients}, {}", elapsed(begun.elapsed())));
            Exit::Done
        }
        Err(ServerError::Interrupted) => Exit::Signal(stop_signal().unwrap_or(15)),
        Err(error) => {
            print_error(&format!("serve: {}: {error}", args.name));
            Exit::Failed
        }
    }
}
