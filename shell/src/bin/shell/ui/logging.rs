//! The logs of servers: lines or JSON objects, on standard error or in a file. `WHORL_LOG` sets the level.

use rustix::fs::OFlags;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use tracing_subscriber::filter::LevelFilter;
use whorl::internal::os::escape;
use whorl::internal::os::output::OutputError;
use whorl::internal::os::standard::errors;

/// The variable that sets the level.
const VARIABLE: &str = "WHORL_LOG";

/// Returns the log level: the variable's, else `info` if a log was asked for, else `warn`.
///
/// # Errors
/// The variable holds another word.
pub fn level(asked_for: bool) -> Result<LevelFilter, String> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(if asked_for { LevelFilter::INFO } else { LevelFilter::WARN });
    };
    let known = [
        ("off", LevelFilter::OFF),
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
    ];
    let found = known.into_iter().find(|(word, _)| value.eq_ignore_ascii_case(word));
    found.map(|(_, level)| level).ok_or_else(|| {
        format!(
            "{VARIABLE} is {}; it may be off, error, warn, info or debug",
            escape::quoted(value.as_bytes())
        )
    })
}

/// Starts the log, to this file or to standard error. Call it once, in the process that logs, after its last fork.
pub fn start(level: LevelFilter, json: bool, file: Option<OwnedFd>) {
    let to = file.map(|file| Arc::new(File::from(file)));
    let writer = move || Escaping { to: to.clone(), json };
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        // The default handler panics if standard error cannot be written either.
        .log_internal_errors(false)
        .with_writer(writer);
    // A second start fails and changes nothing.
    let _ = match json {
        true => lines.json().flatten_event(true).try_init(),
        false => lines.try_init(),
    };
}

/// Writes events, each as one escaped line, so that no event forges another one or controls a terminal.
struct Escaping {
    /// The file; standard error if absent.
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

/// Opens a log for appending.
///
/// # Errors
/// The file cannot be opened for writing.
pub fn open(path: &Path) -> Result<OwnedFd, String> {
    open_with(path, OFlags::empty())
}

fn open_with(path: &Path, more: OFlags) -> Result<OwnedFd, String> {
    whorl::internal::os::output::open_to_append(path, more).map_err(|error| cannot(path, error))
}

/// Redirects standard error to a file, for a server in the background. A default path (not `chosen`) must not be a link, and
/// opening it never blocks.
///
/// # Errors
/// The file cannot be opened for writing.
pub fn redirect_stderr(path: &Path, chosen: bool) -> Result<(), String> {
    let more = if chosen { OFlags::empty() } else { OFlags::NOFOLLOW | OFlags::NONBLOCK };
    rustix::stdio::dup2_stderr(open_with(path, more)?).map_err(|error| cannot(path, error.into()))
}

/// Redirects standard error to an open stream. `path` names the stream in errors.
///
/// # Errors
/// The descriptor cannot be duplicated.
pub fn redirect_stderr_to(path: &Path, stream: &OwnedFd) -> Result<(), String> {
    rustix::stdio::dup2_stderr(stream).map_err(|error| cannot(path, error.into()))
}

fn cannot(path: &Path, error: OutputError) -> String {
    format!("cannot log to {}: {error}", whorl::internal::os::escape::shown(path))
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
