//! The tools that every system has, used as a user would type them.

use super::{Copier, Job, text};
use crate::contender::Unavailable;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// In all scripts `$1` is the source, and `$2` and on are the destinations.
const XARGS: &str = r#"src=$1; shift; printf '%s\0' "$@" | xargs -0 -P2 -n1 cp "$src""#;
const LOOP: &str = r#"src=$1; shift; for file; do cp "$src" "$file" || exit; done"#;
const LOOP_SYNC: &str = r#"src=$1; shift; for file; do cp "$src" "$file" || exit; done; sync "$@""#;
const XARGS_SYNC: &str = r#"src=$1; shift; printf '%s\0' "$@" | xargs -0 -P2 -n1 cp "$src" && sync "$@""#;

pub fn xargs_cp() -> Copier {
    script("xargs -P2 cp", &["xargs", "cp"], XARGS)
}

/// Copies with `tee`, whose standard output is the last copy.
pub fn tee() -> Copier {
    if !installed("tee") {
        return Copier::absent("tee", Unavailable::cannot("there is no tee here"));
    }
    Copier::new("tee", |job| {
        let mut others = job.destinations();
        let last = File::create_new(others.pop().expect("a copy")).map_err(text("create"))?;
        let source = File::open(&job.source).map_err(text("open the source"))?;
        succeed(Command::new("tee").args(others).stdin(source).stdout(last))
    })
}

pub fn cp_loop() -> Copier {
    script("cp loop", &["cp"], LOOP)
}

pub fn cp_sync() -> Copier {
    script("cp + sync", &["cp", "sync"], LOOP_SYNC)
}

pub fn xargs_cp_sync() -> Copier {
    script("xargs -P2 cp + sync", &["xargs", "cp", "sync"], XARGS_SYNC)
}

fn script(name: &str, tools: &[&'static str], script: &'static str) -> Copier {
    if let Some(missing) = tools.iter().find(|tool| !installed(tool)) {
        return Copier::absent(name, Unavailable::cannot(format!("there is no {missing} here")));
    }
    Copier::new(name, move |job| shell(script, job))
}

fn shell(script: &str, job: &Job) -> Result<(), String> {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(&job.source).args(job.destinations());
    succeed(command.stdin(Stdio::null()))
}

/// Copies with Whorl's own command: `shell copy FLAGS... -n COPIES SOURCE -d DIRECTORY`.
pub fn whorl(name: &str, shell: PathBuf, flags: &'static [&'static str]) -> Copier {
    Copier::new(name, move |job| {
        let mut command = Command::new(&shell);
        command.args(["copy", "--quiet"]).args(flags).arg("-n").arg(job.copies.to_string());
        succeed(command.arg(&job.source).arg("-d").arg(&job.directory).stdout(Stdio::null()))
    })
}

/// Runs a command to its end.
pub fn succeed(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(text("start a command"))?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

pub fn installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(tool).exists())
}

/// The contender for a stream: `tee` into the standard inputs of one `wc -c` for each copy. The counts go into files.
pub fn tee_wc() -> Copier {
    let name = "tee >(wc -c)";
    if !installed("bash") || !installed("tee") {
        return Copier::absent(name, Unavailable::cannot("there is no bash or no tee here"));
    }
    Copier::new(name, |job| {
        let (last, others) = {
            let mut counts = job.destinations();
            (counts.pop().expect("a copy"), counts)
        };
        let quoted = |path: &Path| format!("'{}'", path.display());
        let substitutions: Vec<String> =
            others.iter().map(|path| format!(">(wc -c > {})", quoted(path))).collect();
        let script =
            format!("tee {} < {} | wc -c > {}", substitutions.join(" "), quoted(&job.source), quoted(&last));
        succeed(Command::new("bash").args(["-c", &script]))
    })
}

/// Checks that all counts are there and right.
pub fn check_counts(job: &Job) -> Result<(), String> {
    let bytes = std::fs::metadata(&job.source).map_err(text("stat the source"))?.len().to_string();
    for path in job.destinations() {
        let count = std::fs::read_to_string(&path).map_err(text("read a count"))?;
        if count.trim() != bytes {
            return Err(format!("{} of {bytes} bytes came", count.trim()));
        }
    }
    Ok(())
}
