//! The command `shell`: it parses the command line, runs the command, and ends with its exit code.

mod cli;
mod commands;
mod ui;

use clap::error::ErrorKind;
use std::process::ExitCode;
use ui::exit::Exit;
use ui::{completion, terminal, usage};
use whorl::internal::os::signal::stop_signal;
use whorl::internal::os::standard::{self, errors, output};

/// Runs before `main`, and before the runtime of the standard library.
#[used]
// SAFETY: the dynamic loader, or the C library's start, calls what is listed in this section as functions without a
// result, when the C library is ready and before `main`. The function needs neither the runtime of the standard library
// nor anything that another function listed there sets up.
#[unsafe(link_section = ".init_array")]
static OCCUPY_MISSING: extern "C" fn() = {
    extern "C" fn occupy_missing() {
        standard::occupy_missing();
    }
    occupy_missing
};

fn main() -> ExitCode {
    whorl::internal::os::signal::set_signals();
    std::panic::set_hook(Box::new(|panic| terminal::print_error(&panicked(panic))));
    conclude(run()).now()
}

fn run() -> Exit {
    if let Some(answered) = completion::answer() {
        return if answered { Exit::Done } else { Exit::Failed };
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    let cli = match cli::parse(arguments.iter().cloned()) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return if terminal::print_help(&error.render()) { Exit::Done } else { Exit::Failed };
        }
        Err(error) => {
            let words = cli::command_words(&cli::arguments(arguments.into_iter()));
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            return usage::refuse(&words, &cli::one_line(&error));
        }
    };
    terminal::set_color(cli.color);
    match cli.command {
        cli::Command::Copy(args) => commands::copy::run(args),
        cli::Command::Send(args) => commands::send::run(args),
        cli::Command::Recv(args) => commands::recv::run(args),
        cli::Command::Ls(args) => commands::ls::run(args),
        cli::Command::Rm(args) => commands::rm::run(args),
        cli::Command::Serve(args) => commands::serve::run(args),
        cli::Command::Servers(args) => commands::servers::run(args),
        cli::Command::Dipc(args) => commands::dipc::run(args),
        cli::Command::Dipcrm(args) => commands::dipc::run_remove(args),
        cli::Command::Mail(args) => commands::mail::run(args),
        cli::Command::Top(args) => commands::top::run(args),
        cli::Command::Doctor(args) => commands::doctor::run(args),
        cli::Command::Bench(args) => commands::bench::run(args),
        cli::Command::Completions(args) => commands::completions::run(args),
        cli::Command::Man(args) => commands::man::run(args),
    }
}

/// Turns success into failure if output was lost: success means that everything that was written has arrived.
fn conclude(exit: Exit) -> Exit {
    let finished = match output().was_written() {
        true => terminal::wrote(output().finish()),
        false => true,
    };
    if let Some(signal) = stop_signal().filter(|_| output().has_lost()) {
        return Exit::Signal(signal);
    }
    match exit {
        Exit::Done if !finished || output().has_lost() || errors().has_lost() => Exit::Failed,
        exit => exit,
    }
}

/// Formats a panic as one line.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) -> String {
    let text = panic.payload().downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.payload().downcast_ref::<String>().map(String::as_str));
    let why = text.unwrap_or("no reason given");
    let place = panic.location().map_or(String::new(), |at| format!(" at {at}"));
    format!("panicked{place}: {why}; this is a bug, please report it")
}
