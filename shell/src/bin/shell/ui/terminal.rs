//! What a person sees: lines on stderr, the progress bar, when to use colour.

use clap::ValueEnum;
use clap::builder::StyledStr;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use rustix::fd::AsFd;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Mutex;
use whorl::os::escape;
use whorl::os::signal::stop_signal;
use whorl::os::standard::{self, errors, output};

/// Whether to show progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum When {
    /// When stderr is a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether the terminal, by what the environment says of it, cannot move its cursor.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// The size of a terminal, columns and rows, within what a screen can have: a terminal that says nothing, or nonsense, is
/// not taken at its word. Nothing if it is no terminal.
pub fn size_of(terminal: impl AsFd) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    let sane = |said, usual, most| if said == 0 { usual } else { u16::min(said, most) };
    Some((sane(size.ws_col, 80, LARGEST.0), sane(size.ws_row, 24, LARGEST.1)))
}

/// No screen has more columns and rows.
const LARGEST: (u16, u16) = (1000, 500);

/// Colour, where somebody sees it and did not refuse it (<https://no-color.org>).
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// For what goes to standard output.
    pub fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: output().is_terminal() && !refused && !is_dumb() }
    }

    /// Whether there is any.
    pub fn colours(&self) -> bool {
        self.colours
    }
}

/// A colour, by its number in escape sequences.
#[derive(Clone, Copy, Debug)]
pub enum Colour {
    /// For what is wrong.
    Red = 31,
    /// For what could be better.
    Yellow = 33,
}

/// Writes one line to standard error.
pub fn say(line: &str) {
    // Where it is lost there is no place to say so; the exit code tells, see `main`.
    let _ = errors().write_all(format!("shell: {}\n", escape::line(line)).as_bytes());
}

/// Writes lines to standard output. Returns false if they cannot be written; a closed pipe is a quiet end, and true.
pub fn print(text: &str) -> bool {
    wrote(output().write_all(format!("{}\n", escape::text(text, LAYOUT)).as_bytes()))
}

/// Writes lines to standard output, as [`print()`], in colours where those are wanted.
pub fn print_painted(lines: &[(Option<Colour>, String)]) -> bool {
    let paint = Paint::for_stdout();
    let lines = lines.iter().map(|(colour, line)| {
        let line = escape::text(line, LAYOUT);
        match colour {
            Some(colour) if paint.colours() => format!("\x1b[{}m{line}\x1b[0m\n", *colour as u8),
            _ => format!("{line}\n"),
        }
    });
    wrote(output().write_all(lines.collect::<String>().as_bytes()))
}

/// Writes a JSON value to standard output, on one line, as [`print()`].
pub fn print_json(value: &impl Serialize) -> bool {
    let text = serde_json::to_string(value).expect("plain data");
    wrote(output().write_all(format!("{}\n", escape::json(&text)).as_bytes()))
}

/// Writes a help text to standard output, as [`print()`]. It holds nothing from elsewhere: see `cli::arguments`.
pub fn print_help(help: &StyledStr) -> bool {
    let help = if Paint::for_stdout().colours() { help.ansi().to_string() } else { help.to_string() };
    wrote(output().write_all(help.as_bytes()))
}

/// What stays as it is in output of several lines.
const LAYOUT: &[char] = &['\n', '\t'];

/// Says why standard output could not be written, and returns false; a closed pipe is a quiet end, and true.
pub fn wrote(result: std::io::Result<()>) -> bool {
    match result {
        // The wait was ended by the signal, which is what the command ends with.
        Err(_) if stop_signal().is_some() => false,
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            say(&format!("cannot write to standard output: {}", standard::reason(&error)));
            false
        }
        _ => true,
    }
}

/// Standard error as the progress bar's terminal: what is drawn is written when it is complete.
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

/// The progress bar of a copy, and the word about who is waited for.
pub struct CopyView {
    verb: &'static str,
    /// What receivers are waited for by, where that is to be said.
    gathering: Option<String>,
    when: When,
    bar: Option<ProgressBar>,
}

impl CopyView {
    /// A view; nothing is drawn before the first progress.
    pub fn new(verb: &'static str, when: When) -> Self {
        let shown = match when {
            When::Auto => errors().is_terminal(),
            When::Always => true,
            When::Never => false,
        };
        Self { when: if shown { when } else { When::Never }, bar: None, verb, gathering: None }
    }

    /// Says on a terminal, once, that receivers of `name` are waited for.
    pub fn gathers(mut self, name: &str, says: bool) -> Self {
        self.gathering = (says && errors().is_terminal()).then(|| name.to_owned());
        self
    }

    /// Takes the bar away.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn bar(&mut self, total: Option<u64>) -> &ProgressBar {
        let when = self.when;
        self.bar.get_or_insert_with(|| {
            let plain = "{bytes} sent, {bytes_per_sec}{msg}";
            let (bar, template) = match total {
                Some(total) => (
                    ProgressBar::new(total),
                    "{bytes} of {total_bytes} {wide_bar} {bytes_per_sec}, {eta} left{msg}",
                ),
                None => (ProgressBar::no_length(), plain),
            };
            // Asked for without a terminal: plain lines, where a bar would be nothing at all.
            bar.set_draw_target(match when == When::Always && !errors().is_terminal() || is_dumb() {
                true => ProgressDrawTarget::hidden(),
                false => ProgressDrawTarget::term_like_with_hz(Box::<Screen>::default(), 20),
            });
            bar.with_style(
                ProgressStyle::with_template(template).expect("a constant template").progress_chars("=> "),
            )
        })
    }
}

impl CopyView {
    /// Says, once, how many receivers are there of those that the sender waits for.
    pub fn gathering(&mut self, there: usize, wanted: u32) {
        if let Some(name) = self.gathering.take() {
            let of = if there > 0 { format!(" ({there} there)") } else { String::new() };
            let plural = if wanted == 1 { "" } else { "s" };
            say(&format!("{}: waiting for {wanted} receiver{plural} of '{name}'{of}", self.verb));
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
            say(&format!("{}: {sent}{of} bytes sent", self.verb));
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
            Some(peer) if peer.behind > 0 => format!(", {} behind", whorl::os::memory::in_words(peer.behind)),
            _ => " to finish; everything is sent".into(),
        };
        let line = format!("{}: waiting for peer {}{what}", self.verb, names(3));
        match &self.bar {
            Some(bar) => bar.suspend(|| say(&line)),
            None => say(&line),
        }
    }
}

impl Drop for CopyView {
    fn drop(&mut self) {
        self.clear();
    }
}
