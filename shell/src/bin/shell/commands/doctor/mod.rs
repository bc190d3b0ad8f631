//! `shell doctor`: checks what the commands need from this machine, and says what to do.

mod container;
mod directory;
mod files;
mod kernel;
mod limits;

use crate::cli::doctor::Args;
use crate::ui::exit::Exit;
use crate::ui::table::{aligned, terminal_width};
use crate::ui::terminal::{Colour, print_json, print_painted};
use crate::ui::units::count;
use serde::Serialize;

/// The result of a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// Works.
    Ok,
    /// Works less well, or only up to a size.
    Warn,
    /// Some command cannot work.
    Fail,
}

/// A check and its result.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    finding: String,
    advice: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, finding: finding.into(), advice: None }
    }

    fn warn(name: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, finding: finding.into(), advice: Some(advice.into()) }
    }

    fn fail(name: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(name, finding, advice) }
    }
}

#[derive(Serialize)]
struct Json<'a> {
    ok: bool,
    checks: &'a [Finding],
}

/// Runs it.
pub fn run(args: Args) -> Exit {
    let findings: Vec<_> = [kernel::check(), directory::check(), limits::check(), container::check()]
        .into_iter()
        .flatten()
        .collect();
    let healthy = findings.iter().all(|finding| finding.verdict != Verdict::Fail);
    let printed = if args.json {
        print_json(&Json { ok: healthy, checks: &findings })
    } else {
        print_painted(&lines(&findings)) && print_painted(&[conclusion(&findings)])
    };
    if printed && healthy { Exit::Done } else { Exit::Failed }
}

/// Returns the last line: whether every command works on this machine.
fn conclusion(findings: &[Finding]) -> (Option<Colour>, String) {
    let of = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count() as u64;
    match (of(Verdict::Fail), of(Verdict::Warn)) {
        (0, 0) => (Some(Colour::Green), format!("verdict: all {} passed", count(of(Verdict::Ok), "check"))),
        (0, warnings) => (
            Some(Colour::Yellow),
            format!("verdict: every command works, with {}", count(warnings, "warning")),
        ),
        (failed, _) => (
            Some(Colour::Red),
            format!("verdict: {} failed, so some commands do not work here", count(failed, "check")),
        ),
    }
}

/// Formats the checks: aligned columns on a terminal, where long lines wrap so that no advice is lost; tabs elsewhere.
fn lines(findings: &[Finding]) -> Vec<(Option<Colour>, String)> {
    let word = |verdict| match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    let row = |finding: &Finding| {
        let advice = finding.advice.as_ref().map_or(String::new(), |advice| format!("; {advice}"));
        vec![word(finding.verdict).into(), finding.name.into(), format!("{}{advice}", finding.finding)]
    };
    let rows: Vec<_> = findings.iter().map(row).collect();
    let lines = match terminal_width() {
        Some(_) => aligned(&rows, usize::MAX),
        None => rows.iter().map(|row| row.join("\t")).collect(),
    };
    let colour = |finding: &Finding| match finding.verdict {
        Verdict::Ok => None,
        Verdict::Warn => Some(Colour::Yellow),
        Verdict::Fail => Some(Colour::Red),
    };
    findings.iter().map(colour).zip(lines).collect()
}
