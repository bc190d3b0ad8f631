//! What a person sees: lines on stderr, the progress bar, when to use colour.

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use whorl::broadcast::{Stalled, Watch};

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

/// Colour, where somebody sees it and did not refuse it (<https://no-color.org>).
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// For what goes to standard output.
    pub fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { colours: std::io::stdout().is_terminal() && !refused && !dumb }
    }

    /// Whether there is any.
    #[cfg(feature = "top")]
    pub fn colours(&self) -> bool {
        self.colours
    }

    /// For what could be better.
    pub fn yellow(&self, text: &str) -> String {
        self.with("33", text)
    }

    /// For what is wrong.
    pub fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One line on stderr. A closed stderr is nobody's fault.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "shell: {line}");
}

/// One line on stdout; false if it cannot be written. A closed pipe is a quiet end, and true.
pub fn print(line: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            say(&format!("cannot write to standard output: {}", whorl::reason_of(&error)));
            false
        }
        _ => true,
    }
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
            When::Auto => std::io::stderr().is_terminal(),
            When::Always => true,
            When::Never => false,
        };
        Self { when: if shown { when } else { When::Never }, bar: None, verb, gathering: None }
    }

    /// Says on a terminal, once, that receivers of `name` are waited for.
    pub fn gathers(mut self, name: &str, says: bool) -> Self {
        self.gathering = (says && std::io::stderr().is_terminal()).then(|| name.to_owned());
        self
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
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
            if when == When::Always && !std::io::stderr().is_terminal() {
                bar.set_draw_target(ProgressDrawTarget::hidden());
            }
            bar.with_style(
                ProgressStyle::with_template(template).expect("a constant template").progress_chars("=> "),
            )
        })
    }
}

impl Watch for CopyView {
    fn gathering(&mut self, there: usize, wanted: u32) {
        if let Some(name) = self.gathering.take() {
            let of = if there > 0 { format!(" ({there} there)") } else { String::new() };
            let plural = if wanted == 1 { "" } else { "s" };
            say(&format!("{}: waiting for {wanted} receiver{plural} of '{name}'{of}", self.verb));
        }
    }

    fn progress(&mut self, sent: u64, total: Option<u64>, slowest: Option<Stalled>) {
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

    fn stalled(&mut self, peers: &[Stalled]) {
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
            Some(peer) if peer.behind > 0 => format!(", {} behind", whorl::memory::in_words(peer.behind)),
            _ => " to finish; everything is sent".into(),
        };
        let line = format!("{}: waiting for peer {}{what}", self.verb, names(3));
        match &self.bar {
            Some(bar) => bar.suspend(|| say(&line)),
            None => say(&line),
        }
    }
}
