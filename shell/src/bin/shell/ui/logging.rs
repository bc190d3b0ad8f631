//! Logs, for who runs a server: lines, or JSON objects, on stderr or in a file; how much, `WHORL_LOG` says.

use rustix::fs::OFlags;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use tracing_subscriber::filter::LevelFilter;
use whorl::os::escape;
use whorl::os::output::OutputError;
use whorl::os::standard::errors;

/// The variable that says how much.
const VARIABLE: &str = "WHORL_LOG";

/// How much is logged: what the variable says, else what goes wrong, and beginnings and ends if a log was asked for.
///
/// # Errors
/// The variable says something else.
pub fn level(asked_for: bool) -> Result<LevelFilter, String> {
    let Some(said) = std::env::var_os(VARIABLE).filter(|said| !said.is_empty()) else {
        return Ok(if asked_for { LevelFilter::INFO } else { LevelFilter::WARN });
    };
    let known = [
        ("off", LevelFilter::OFF),
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
    ];
    let found = known.into_iter().find(|(word, _)| said.eq_ignore_ascii_case(word));
    found.map(|(_, level)| level).ok_or_else(|| {
        format!(
            "{VARIABLE} is {}; it may be off, error, warn, info or debug",
            escape::quoted(said.as_bytes())
        )
    })
}

/// Begins to log, to this file or to stderr. In the process that logs, after its last fork; once.
pub fn start(level: LevelFilter, json: bool, file: Option<OwnedFd>) {
    let to = file.map(|file| Arc::new(File::from(file)));
    let writer = move || Escaping { to: to.clone(), json };
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        // It would panic where standard error cannot be written either.
        .log_internal_errors(false)
        .with_writer(writer);
    // A second start would be refused, and change nothing.
    let _ = match json {
        true => lines.json().flatten_event(true).try_init(),
        false => lines.try_init(),
    };
}

/// Where an event goes, which comes whole and ends in a line end: nothing in it forges another, or reaches a terminal as a
/// command.
struct Escaping {
    /// Standard error if absent.
    to: Option<Arc<File>>,
    json: bool,
}

impl Write for Escaping {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(event.strip_suffix(b"\n").unwrap_or(event));
        let line = if self.json { escape::json(&text) } else { escape::line(text.as_ref()) };
        let line = format!("{line}\n");
        match &self.to {
            Some(file) => file.as_ref().write_all(line.as_bytes())?,
            None => errors().write_all(line.as_bytes())?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Opens a log; what is written goes to its end.
///
/// # Errors
/// It cannot be written.
pub fn open(path: &Path) -> Result<OwnedFd, String> {
    open_with(path, OFlags::empty())
}

fn open_with(path: &Path, more: OFlags) -> Result<OwnedFd, String> {
    whorl::os::output::open_to_append(path, more).map_err(|error| cannot(path, error))
}

/// From now on stderr goes there: for a server whose stderr nobody reads. A path that nobody chose leads to no other
/// place, and is not waited for.
///
/// # Errors
/// As [`open`].
pub fn redirect_stderr(path: &Path, chosen: bool) -> Result<(), String> {
    let more = if chosen { OFlags::empty() } else { OFlags::NOFOLLOW | OFlags::NONBLOCK };
    rustix::stdio::dup2_stderr(open_with(path, more)?).map_err(|error| cannot(path, error.into()))
}

/// From now on stderr goes to what is open already; `path` is what leads there, for people.
///
/// # Errors
/// It cannot be duplicated.
pub fn redirect_stderr_to(path: &Path, stream: &OwnedFd) -> Result<(), String> {
    rustix::stdio::dup2_stderr(stream).map_err(|error| cannot(path, error.into()))
}

fn cannot(path: &Path, error: OutputError) -> String {
    format!("cannot log to {}: {error}", whorl::os::escape::shown(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_moves_no_terminal() {
        let directory = tempfile::tempdir().expect("a directory");
        for (json, event, line) in [
            (false, "WARN a\nb \u{1b}[31m\u{9b}\u{202e}\n", "WARN a\\nb \\u{1b}[31m\\u{9b}\\u{202e}\n"),
            (true, "{\"message\":\"a\u{7f}\u{9b}\u{202e}\"}\n", "{\"message\":\"a\\u007f\\u009b\\u202e\"}\n"),
        ] {
            let path = directory.path().join("log");
            let to = Some(Arc::new(File::create(&path).expect("a file")));
            Escaping { to, json }.write_all(event.as_bytes()).expect("a file takes it");
            assert_eq!(std::fs::read_to_string(&path).expect("text"), line);
        }
    }
}
