//! The terminal: lines on standard error, results on standard output, the progress bar, and when to use colour.

use crate::ui::units;
use clap::ValueEnum;
use clap::builder::StyledStr;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};
use rustix::fd::AsFd;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Mutex, OnceLock};
use whorl::internal::os::escape;
use whorl::internal::os::signal::stop_signal;
use whorl::internal::os::standard::{self, errors, output};

/// When to show progress or colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum When {
    /// On a terminal only.
    Auto,
    /// On a terminal and elsewhere.
    Always,
    /// Never.
    Never,
}

/// Returns whether `TERM` names no terminal that can move its cursor.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Returns the columns and rows of a terminal, or `None` if the descriptor is not a terminal. A missing size becomes 80x24,
/// and an absurd one is cut to [`LARGEST`].
pub fn size_of(terminal: impl AsFd) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    let sane = |said, usual, most| if said == 0 { usual } else { u16::min(said, most) };
    Some((sane(size.ws_col, 80, LARGEST.0), sane(size.ws_row, 24, LARGEST.1)))
}

/// The most columns and rows that a screen is taken to have.
const LARGEST: (u16, u16) = (1000, 500);

/// What `--color` said; unset until the command line was parsed.
static COLOR: OnceLock<When> = OnceLock::new();

/// Sets when colours are used, once.
pub fn set_color(when: When) {
    let _ = COLOR.set(when);
}

/// Whether output to one stream is coloured.
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// Decides for standard output.
    pub fn for_stdout() -> Self {
        Self::for_stream(output().is_terminal())
    }

    fn for_stream(is_terminal: bool) -> Self {
        let colours = match COLOR.get() {
            Some(When::Always) => true,
            Some(When::Never) => false,
            // The convention of <https://no-color.org>.
            _ => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                is_terminal && !refused && !is_dumb()
            }
        };
        Self { colours }
    }

    /// Returns whether there are colours.
    pub fn colours(&self) -> bool {
        self.colours
    }

    /// Wraps text in a colour, if there are colours.
    fn paint(&self, colour: Option<Colour>, text: &str) -> String {
        match colour {
            Some(colour) if self.colours => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
            _ => text.to_owned(),
        }
    }
}

/// A colour, by its number in escape sequences.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    /// For a failure.
    Red = 31,
    /// For a success.
    Green = 32,
    /// For a warning.
    Yellow = 33,
}

/// Writes an error to standard error, as one line.
pub fn print_error(line: &str) {
    print_lines(Some(Colour::Red), &[line]);
}

/// Writes a warning or a notice to standard error, as one line.
pub fn print_note(line: &str) {
    print_lines(None, &[line]);
}

/// Writes lines to standard error with one `write(2)`, because several processes share a terminal. The first line begins
/// with the program's name in this colour.
pub fn print_lines(colour: Option<Colour>, lines: &[&str]) {
    let paint = Paint::for_stream(errors().is_terminal());
    let mut text = format!("{} ", paint.paint(colour, "shell:"));
    for line in lines {
        text += &escape::line(line);
        text.push('\n');
    }
    // A lost line shows in the exit code, see `main`.
    let _ = errors().write_all(text.as_bytes());
}

/// Writes the last line of a command to standard error: what it did. Only on a terminal, and not if it is to be quiet.
pub fn print_summary(quiet: bool, line: &str) {
    if !quiet && errors().is_terminal() {
        let _ = errors().write_all(format!("{}\n", escape::line(line)).as_bytes());
    }
}

/// Writes lines to standard output. Returns `false` if that fails. A closed pipe is a quiet end and returns `true`.
pub fn print(text: &str) -> bool {
    wrote(output().write_all(format!("{}\n", escape::text(text, LAYOUT)).as_bytes()))
}

/// Writes lines to standard output like [`print()`], each in its colour.
pub fn print_painted(lines: &[(Option<Colour>, String)]) -> bool {
    let paint = Paint::for_stdout();
    let lines = lines.iter().map(|(colour, line)| paint.paint(*colour, &escape::text(line, LAYOUT)) + "\n");
    wrote(output().write_all(lines.collect::<String>().as_bytes()))
}

/// Writes a JSON value to standard output on one line, like [`print()`].
pub fn print_json(value: &impl Serialize) -> bool {
    let text = serde_json::to_string(value).expect("plain data");
    wrote(output().write_all(format!("{}\n", escape::json(&text)).as_bytes()))
}

/// Writes a help text to standard output, like [`print()`]. It needs no escaping: see `cli::arguments`.
pub fn print_help(help: &StyledStr) -> bool {
    let help = if Paint::for_stdout().colours() { help.ansi().to_string() } else { help.to_string() };
    wrote(output().write_all(help.as_bytes()))
}

/// The control characters that are not escaped in output of several lines.
const LAYOUT: &[char] = &['\n', '\t'];

/// Reports why standard output could not be written and returns `false`. A closed pipe is a quiet end and returns `true`.
pub fn wrote(result: std::io::Result<()>) -> bool {
    match result {
        // A signal ended the wait, and the command ends with that signal.
        Err(_) if stop_signal().is_some() => false,
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            print_error(&format!("cannot write to standard output: {}", standard::reason(&error)));
            false
        }
        _ => true,
    }
}

/// Standard error as the progress bar's terminal. It collects what is drawn and writes it at once.
#[derive(Debug, Default)]
struct Screen(Mutex<String>);

impl Screen {
    fn add(&self, text: std::fmt::Arguments<'_>) -> std::io::Result<()> {
        let mut drawn = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        drawn.write_fmt(text).map_err(std::io::Error::other)
    }

    fn go(&self, steps: usize, direction: char) -> std::io::Result<()> {
        if steps > 0 { self.add(format_args!("\x1b[{steps}{direction}")) } else { Ok(()) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        size_of(errors()).map_or(80, |(width, _)| width)
    }
    fn height(&self) -> u16 {
        size_of(errors()).map_or(24, |(_, height)| height)
    }
    fn move_cursor_up(&self, steps: usize) -> std::io::Result<()> {
        self.go(steps, 'A')
    }
    fn move_cursor_down(&self, steps: usize) -> std::io::Result<()> {
        self.go(steps, 'B')
    }
    fn move_cursor_right(&self, steps: usize) -> std::io::Result<()> {
        self.go(steps, 'C')
    }
    fn move_cursor_left(&self, steps: usize) -> std::io::Result<()> {
        self.go(steps, 'D')
    }
    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.add(format_args!("{text}\n"))
    }
    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.add(format_args!("{text}"))
    }
    fn clear_line(&self) -> std::io::Result<()> {
        self.add(format_args!("\r\x1b[2K"))
    }
    fn flush(&self) -> std::io::Result<()> {
        let drawn = std::mem::take(&mut *self.0.lock().unwrap_or_else(|broken| broken.into_inner()));
        errors().write_all(drawn.as_bytes())
    }
}

/// A receiver that the sender waits for.
#[derive(Clone, Copy, Debug)]
pub struct Stalled {
    /// Its number, from 1.
    pub peer: usize,
    /// Its process id.
    pub pid: u32,
    /// Whether it takes part; if not yet, the sender has not begun.
    pub joined: bool,
    /// Bytes published that it has not taken; 0: it has all of them, and completes its file.
    pub behind: u64,
}

/// The progress bar of a transfer, and the notices about peers that the sender waits for.
pub struct CopyView {
    verb: &'static str,
    /// The name whose receivers the sender waits for, if a notice is due.
    gathering: Option<String>,
    when: When,
    bar: Option<ProgressBar>,
}

impl CopyView {
    /// Makes a view. It draws nothing before the first progress.
    pub fn new(verb: &'static str, when: When) -> Self {
        let shown = match when {
            When::Auto => errors().is_terminal(),
            When::Always => true,
            When::Never => false,
        };
        Self { when: if shown { when } else { When::Never }, bar: None, verb, gathering: None }
    }

    /// Announces once, on a terminal, that the sender waits for receivers of `name`.
    pub fn gathers(mut self, name: &str, says: bool) -> Self {
        self.gathering = (says && errors().is_terminal()).then(|| name.to_owned());
        self
    }

    /// Removes the bar.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn bar(&mut self, total: Option<u64>) -> &ProgressBar {
        let when = self.when;
        self.bar.get_or_insert_with(|| {
            let plain = "{sent} sent, {speed}{msg}";
            let (bar, template) = match total {
                Some(total) => {
                    (ProgressBar::new(total), "{sent} of {all} {wide_bar} {speed}, {eta} left{msg}")
                }
                None => (ProgressBar::no_length(), plain),
            };
            // Progress without a terminal: plain lines instead of a bar.
            bar.set_draw_target(match when == When::Always && !errors().is_terminal() || is_dumb() {
                true => ProgressDrawTarget::hidden(),
                false => ProgressDrawTarget::term_like_with_hz(Box::<Screen>::default(), 20),
            });
            let style =
                ProgressStyle::with_template(template).expect("a constant template").progress_chars("=> ");
            bar.with_style(
                style
                    .with_key("sent", |at: &ProgressState, to: &mut dyn std::fmt::Write| {
                        let _ = to.write_str(&units::size(at.pos()));
                    })
                    .with_key("all", |at: &ProgressState, to: &mut dyn std::fmt::Write| {
                        let _ = to.write_str(&units::size(at.len().unwrap_or(0)));
                    })
                    .with_key("speed", |at: &ProgressState, to: &mut dyn std::fmt::Write| {
                        let _ = to.write_str(&units::rate(at.per_sec() as u64));
                    }),
            )
        })
    }
}

impl CopyView {
    /// Says, once, how many receivers are there of those that the sender waits for.
    pub fn gathering(&mut self, there: usize, wanted: u32) {
        if let Some(name) = self.gathering.take() {
            let present = if there > 0 { format!(" ({there} joined)") } else { String::new() };
            let wanted = units::count(wanted.into(), "receiver");
            print_note(&format!("{}: waiting for {wanted} of '{name}'{present}", self.verb));
        }
    }

    /// Shows how many bytes were sent, and which receiver is the slowest.
    pub fn progress(&mut self, sent: u64, total: Option<u64>, slowest: Option<Stalled>) {
        if self.when == When::Never {
            return;
        }
        let bar = self.bar(total);
        bar.set_message(match slowest {
            Some(peer) if peer.behind > 0 => format!(", slowest peer {}", peer.peer),
            _ => String::new(),
        });
        bar.set_position(sent);
        if bar.is_hidden() {
            let of = total.map_or(String::new(), |total| format!(" of {total}"));
            print_note(&format!("{}: {sent}{of} bytes sent", self.verb));
        }
    }

    /// Says which receivers the sender has waited for.
    pub fn stalled(&mut self, peers: &[Stalled]) {
        let names = |shown: usize| {
            let names: Vec<_> =
                peers.iter().take(shown).map(|peer| format!("{} (pid {})", peer.peer, peer.pid)).collect();
            match peers.len().saturating_sub(shown) {
                0 => names.join(", "),
                more => format!("{} and {more} more", names.join(", ")),
            }
        };
        let what = match peers.first() {
            Some(peer) if !peer.joined => " to begin".into(),
            Some(peer) if peer.behind > 0 => format!(", {} behind", units::size(peer.behind)),
            _ => " to finish; everything is sent".into(),
        };
        let line = format!("{}: waiting for peer {}{what}", self.verb, names(3));
        match &self.bar {
            Some(bar) => bar.suspend(|| print_note(&line)),
            None => print_note(&line),
        }
    }
}

impl Drop for CopyView {
    fn drop(&mut self) {
        self.clear();
    }
}
