//! `shell copy` from one file to many, beside standard tools.

use super::report::{Better, Case};
use super::{Bench, Budget};
use harness::collect::{interleave_while, present};
use harness::contender::Unavailable;
use harness::copying::files::{self, Place};
use harness::copying::{Copier, Job, limit, timing, tools};
use harness::process::RunError;
use harness::streams::Run;
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// A run that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// Measures this part.
pub fn run(bench: &mut Bench, budget: Budget) {
    if bench.is_over() {
        return;
    }
    let (bytes, copies) = match (budget.quick, bench.detail) {
        (true, _) => (MIB, 4),
        (false, false) => (64 * MIB, 8),
        (false, true) => (64 * MIB, 16),
    };
    let place = Place::new(&bench.directory, bytes * (copies as u64 + 2));
    let shell = &bench.shell;
    let copiers = [
        tools::whorl("whorl --shm", shell.clone(), &["--shm"]),
        tools::whorl("whorl --socket", shell.clone(), &["--socket"]),
        tools::xargs_cp(),
        tools::cp_loop(),
        tools::tee(),
        Copier::new("limit: two that only write", limit::copy),
    ];
    let rows = interleave_while(
        &copiers,
        |round| budget.wants(round),
        1,
        |copier| copier.name.clone(),
        |copier| match &place {
            Ok(place) => timed(bench, copier, place, bytes, copies),
            Err(why) => Err(Unavailable::cannot(why.clone())),
        },
    );
    let what = format!("{} MiB to {copies} files in {}", bytes / MIB, shown(&bench.directory));
    let walls = rows.iter().map(|row| row.map(|taken| taken.wall)).collect();
    let cpus = present(&rows).map(|row| row.map(|taken| taken.cpu)).collect();
    for (name, title, rows) in [("wall", "", walls), ("cpu", ", CPU time of all processes", cpus)] {
        bench.report.case(Case {
            name: format!("copy {name}"),
            title: format!("Copy: {what}{title}"),
            unit: "s",
            better: Better::Lower,
            rows,
        });
    }
}

/// Runs once into a fresh directory, and checks the copies.
fn timed(bench: &Bench, copier: &Copier, place: &Place, bytes: u64, copies: usize) -> Run<timing::Taken> {
    let prepared = place.source(bytes).and_then(|source| Ok((source, place.fresh_directory()?)));
    let (source, directory) = prepared.map_err(Unavailable::LeftOut)?;
    let job = Job { source, directory, copies };
    let result = timing::run(bench.control, copier, &job, DEADLINE)?;
    Ok(result.and_then(|taken| files::check(&job).map(|()| taken).map_err(RunError::Failed)))
}

fn shown(path: &Path) -> String {
    whorl::internal::os::escape::shown(path)
}
