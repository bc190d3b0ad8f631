//! The command `shell`: parse, dispatch, end.

mod cli;
mod commands;
mod complete;
mod exit;
mod logging;
mod table;
mod terminal;
mod units;

use clap::Parser;
use clap::error::ErrorKind;
use exit::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    complete::answer();
    let cli = match cli::Cli::try_parse_from(cli::arguments(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return match error.print() {
                // A reader that closes early is a quiet end.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    terminal::say(&format!("cannot write to standard output: {}", whorl::reason_of(&error)));
                    Exit::Failed.now()
                }
                _ => Exit::Done.now(),
            };
        }
        Err(error) => {
            terminal::say(&cli::one_line(&error));
            return Exit::Usage.now();
        }
    };
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
        #[cfg(feature = "top")]
        cli::Command::Top(args) => commands::top::run(args),
        cli::Command::Doctor(args) => commands::doctor::run(args),
        #[cfg(feature = "bench")]
        cli::Command::Bench(args) => commands::bench::run(args),
        cli::Command::Completions(args) => commands::completions::run(args),
        cli::Command::Man(args) => commands::man::run(args),
    }
    .now()
}
