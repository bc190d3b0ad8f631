//! `shell man`: writes the manual pages, made from the help texts.

use crate::cli::Cli;
use crate::cli::man::Args;
use crate::ui::exit::Exit;
use crate::ui::terminal::{print_error, print_summary};
use crate::ui::units::count;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::io;
use std::path::{Path, PathBuf};
use whorl::internal::os::error::reason_of;
use whorl::internal::os::escape::shown;
use whorl::internal::transfer::write_file;

/// Other names of the program and of its commands, and the pages that describe them.
const LINKS: [(&str, &str); 3] = [("whorl", "shell"), ("dipc", "shell-dipc"), ("dipcrm", "shell-dipcrm")];

/// Runs it.
pub fn run(args: Args) -> Exit {
    let mut command = Cli::command();
    command.build();
    let directory = &args.directory;
    let written = std::fs::create_dir_all(directory)
        .map_err(|error| (directory.clone(), reason_of(&error)))
        .and_then(|()| write_all(&command, directory))
        .and_then(|()| LINKS.iter().try_for_each(|link| write_link(directory, *link)));
    match written {
        Ok(()) => {
            let pages = count(pages(&command) + LINKS.len() as u64, "manual page");
            print_summary(false, &format!("{pages} in {}", shown(directory)));
            Exit::Done
        }
        Err((path, error)) => {
            print_error(&format!("man: {}: {}", shown(&path), error));
            Exit::Failed
        }
    }
}

/// The page that could not be written, and why.
type Failed = (PathBuf, String);

/// Counts the pages of a command and its subcommands.
fn pages(command: &clap::Command) -> u64 {
    1 + command.get_subcommands().map(pages).sum::<u64>()
}

fn write_all(command: &clap::Command, directory: &Path) -> Result<(), Failed> {
    for below in command.get_subcommands() {
        write_all(below, directory)?;
    }
    let source = concat!("Whorl ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source).manual("Whorl");
    let path = directory.join(man.get_filename());
    // Writing to memory does not fail.
    let page = page(&man, command).unwrap_or_default();
    write(path, &page)
}

fn write_link(directory: &Path, (name, page): (&str, &str)) -> Result<(), Failed> {
    write(directory.join(format!("{name}.1")), format!(".so man1/{page}.1\n").as_bytes())
}

fn write(path: PathBuf, text: &[u8]) -> Result<(), Failed> {
    write_file(&path, text).map_err(|error| (path, error.to_string()))
}

/// Makes a page with clap_mangen. The end of the help becomes sections of its own, in which lines stay lines.
fn page(man: &Man, command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let end = command.get_after_long_help().or_else(|| command.get_after_help());
    let end = end.map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::default();
    let mut noted = false;
    for paragraph in end.split("\n\n") {
        match paragraph.split_once(':') {
            Some(("Example" | "Examples", lines)) => examples(&mut roff, lines),
            Some(("Exit codes", text)) => {
                roff.control("SH", ["EXIT STATUS"]);
                roff.text([roman(flowing(text))]);
            }
            _ => {
                match std::mem::replace(&mut noted, true) {
                    false => roff.control("SH", ["NOTES"]),
                    true => roff.control("PP", []),
                };
                roff.text([roman(flowing(paragraph))]);
            }
        }
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn examples(roff: &mut Roff, lines: &str) {
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line).trim_end())]);
    }
    roff.control("fi", []);
}

fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
