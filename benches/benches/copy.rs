//! `shell copy` against its contenders: one file to many files, wall time and the CPU time of all processes.

use benches::collect::{interleave, present};
use benches::contender::Unavailable;
use benches::control::Control;
use benches::copying::command::{self, Shell};
use benches::copying::files::{self, Place};
use benches::copying::timing::{self, Taken};
use benches::copying::{Copier, Job, baseline, direct, limit, tools};
use benches::options::Options;
use benches::process::RunError;
use benches::report::{Better, Case};
use benches::streams::Run;
use benches::targets::{Target, at_most};
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const PEERS: usize = 16;

struct Bench {
    options: Options,
    control: &'static Control,
}

/// One table: its copiers, and the targets for wall time and for CPU time.
struct Question<'a> {
    name: &'a str,
    title: String,
    copiers: Vec<Copier>,
    place: &'a Place,
    bytes: u64,
    copies: usize,
    check: fn(&Job) -> Result<(), String>,
    wall: Vec<Target>,
    cpu: Vec<Target>,
}

fn main() {
    let options = Options::from_args();
    let cases = ["tmpfs", "disk", "fsync", "stream", "peers"];
    let wanted: Vec<&str> = cases.into_iter().filter(|case| options.wants_case(case)).collect();
    if options.list {
        wanted.iter().for_each(|case| println!("{case}"));
        return;
    }
    let bench = Bench { options, control: Control::map() };
    let shell = Shell::build();
    let bytes = if bench.options.quick { 64 * MIB } else { 256 * MIB };
    let memory = Path::new("/dev/shm");
    let disk = command::target_directory();
    let room = (PEERS as u64 + 1) * bytes;
    for case in wanted {
        match case {
            "tmpfs" => bench.at(case, memory, room, |place| bench.tmpfs(&shell, place, bytes)),
            "disk" => bench.at(case, &disk, room, |place| bench.disk(&shell, place, bytes)),
            "fsync" => bench.at(case, &disk, room, |place| bench.fsync(&shell, place, bytes)),
            "stream" => bench.at(case, memory, 2 * bytes, |place| bench.stream(&shell, place, bytes)),
            _ => {
                let total = if bench.options.quick { 1024 * MIB } else { 4096 * MIB };
                bench.at(case, memory, total * 5 / 2, |place| bench.peers(&shell, place, total));
            }
        }
    }
}

/// Returns the copiers of a table whose target is the copy itself.
fn copiers(shell: &Shell) -> Vec<Copier> {
    vec![
        shell.copier("whorl --shm", &["--shm"]),
        shell.copier("whorl --socket", &["--socket"]),
        shell.copier("whorl --verify", &["--shm", "--verify"]),
        Copier::new("limit: two writers", limit::copy),
        tools::xargs_cp(),
        tools::tee(),
        tools::cp_loop(),
        Copier::new("baseline, socket", baseline::copy),
        Copier::absent(
            "baseline, shared memory",
            Unavailable::cannot("takes minutes; see the ring's bench for its lock-step"),
        ),
    ]
}

impl Bench {
    /// Runs a case in a directory with enough room, or reports why not.
    fn at(&self, case: &str, parent: &Path, bytes: u64, run: impl FnOnce(&Place)) {
        let why = match Place::new(parent, bytes) {
            Ok(place) => return run(&place),
            Err(why) => format!("left out: {why}"),
        };
        if self.options.json {
            println!("{}", serde_json::json!({ "bench": "copy", "case": case, "value": null, "note": why }));
        } else {
            println!("\n{case}: {why}");
        }
    }

    fn tmpfs(&self, shell: &Shell, place: &Place, bytes: u64) {
        let wall = vec![
            at_most(1.10, &["limit"]).of("whorl --shm"),
            at_most(0.95, &["xargs"]).of("whorl --shm"),
            at_most(0.5, &["cp loop"]).of("whorl --shm"),
            at_most(0.4, &["baseline, socket"]).of("whorl --shm"),
            at_most(0.75, &["baseline, socket"]).of("whorl --socket"),
            at_most(1.6, &["whorl --shm"]).of("whorl --verify"),
        ];
        let cpu = vec![
            at_most(1.15, &["limit"]).of("whorl --shm"),
            at_most(1.6, &["whorl --shm"]).of("whorl --verify"),
        ];
        self.ask(Question {
            name: "copy-tmpfs",
            title: format!("{} MiB to {PEERS} files on tmpfs", bytes / MIB),
            copiers: copiers(shell),
            place,
            bytes,
            copies: PEERS,
            check: files::check,
            wall,
            cpu,
        });
    }

    fn disk(&self, shell: &Shell, place: &Place, bytes: u64) {
        self.ask(Question {
            name: "copy-disk",
            title: format!("{} MiB to {PEERS} files on disk, not synced", bytes / MIB),
            copiers: copiers(shell),
            place,
            bytes,
            copies: PEERS,
            check: files::check,
            wall: vec![],
            cpu: vec![at_most(1.15, &["limit"]).of("whorl --shm")],
        });
    }

    fn fsync(&self, shell: &Shell, place: &Place, bytes: u64) {
        self.ask(Question {
            name: "copy-fsync",
            title: format!("{} MiB to {PEERS} files on disk, durable", bytes / MIB),
            copiers: vec![
                shell.copier("whorl --fsync", &["--shm", "--fsync"]),
                tools::cp_sync(),
                tools::xargs_cp_sync(),
                Copier::new("O_DIRECT loop", direct::copy),
            ],
            place,
            bytes,
            copies: PEERS,
            check: files::check,
            wall: vec![at_most(1.05, &["cp + sync", "O_DIRECT"]).of("whorl --fsync")],
            cpu: vec![at_most(0.5, &["cp + sync"]).of("whorl --fsync")],
        });
    }

    fn stream(&self, shell: &Shell, place: &Place, bytes: u64) {
        self.ask(Question {
            name: "stream",
            title: format!("{} MiB through a stream to {PEERS} `wc -c`", bytes / MIB),
            copiers: vec![shell.streamer("whorl send, recv"), tools::tee_wc()],
            place,
            bytes,
            copies: PEERS,
            check: tools::check_counts,
            wall: vec![],
            cpu: vec![at_most(0.8, &["tee >(wc -c)"]).of("whorl send, recv")],
        });
    }

    fn ask(&self, question: Question<'_>) {
        let Question { name, title, mut copiers, place, bytes, copies, check, wall, cpu } = question;
        copiers.retain(|copier| self.options.wants(&copier.name));
        let run = |copier: &Copier| self.timed(copier, place, bytes, copies, check);
        let rows = interleave(&copiers, self.options.rounds(2, 5), 1, |copier| copier.name.clone(), run);
        let walls: Vec<_> = rows.iter().map(|row| row.map(|taken| taken.wall)).collect();
        let cpus: Vec<_> = present(&rows).map(|row| row.map(|taken| taken.cpu)).collect();
        for (what, rows, targets) in [("wall", &walls, &wall), ("cpu", &cpus, &cpu)] {
            Case {
                bench: "copy",
                name: format!("{name}-{what}"),
                title: format!("{name}-{what}: {title}"),
                size: Some(bytes),
                receivers: Some(copies),
                unit: "s",
                better: Better::Lower,
                rows,
                targets,
            }
            .print(self.options.json);
        }
    }

    /// Runs a copier once into a fresh directory, checks the copies, and removes them.
    fn timed(
        &self,
        copier: &Copier,
        place: &Place,
        bytes: u64,
        copies: usize,
        check: fn(&Job) -> Result<(), String>,
    ) -> Run<Taken> {
        if let Err(absent) = &copier.work {
            return Err(absent.clone());
        }
        let prepared = place.source(bytes).and_then(|source| Ok((source, place.fresh_directory()?)));
        let (source, directory) = prepared.map_err(Unavailable::LeftOut)?;
        let job = Job { source, directory, copies };
        let deadline = Duration::from_secs(if self.options.quick { 20 } else { 120 });
        let result = timing::run(self.control, copier, &job, deadline)?;
        Ok(result.and_then(|taken| check(&job).map(|()| taken).map_err(RunError::Failed)))
    }

    /// Measures the cost of one byte to one peer: N grows while N times the size stays constant.
    fn peers(&self, shell: &Shell, place: &Place, total: u64) {
        let all: &[(usize, &'static str)] = &[
            (1, "whorl x1"),
            (4, "whorl x4"),
            (16, "whorl x16"),
            (64, "whorl x64"),
            (256, "whorl x256"),
            (1000, "whorl x1000"),
        ];
        let most = if self.options.quick { 64 } else { 1000 };
        let points = || all.iter().copied().filter(|(peers, _)| *peers <= most);
        let mut copiers: Vec<(usize, Copier)> = Vec::new();
        copiers.extend(points().map(|(peers, name)| (peers, shell.copier(name, &["--shm"]))));
        copiers.extend(
            points()
                .map(|(peers, _)| (peers, shell.copier(&format!("whorl --socket x{peers}"), &["--socket"]))),
        );
        copiers
            .extend(points().map(|(peers, _)| (peers, Copier::new(&format!("limit x{peers}"), limit::copy))));
        copiers.retain(|(_, copier)| self.options.wants(&copier.name));
        let rows = interleave(
            &copiers,
            self.options.rounds(1, 3),
            1,
            |(_, copier)| copier.name.clone(),
            |(peers, copier)| {
                let bytes = total / *peers as u64;
                let empty = self.timed(copier, place, 0, *peers, files::check)?;
                let full = self.timed(copier, place, bytes, *peers, files::check)?;
                let kib = (bytes * *peers as u64) as f64 / 1024.0;
                let cost = |full: f64, empty: f64| (full - empty) * 1e9 / kib;
                Ok(empty.and_then(|empty| {
                    let full = full?;
                    Ok(Taken { wall: cost(full.wall, empty.wall), cpu: cost(full.cpu, empty.cpu) })
                }))
            },
        );
        let whorls = points().map(|(_, name)| name).filter(|name| *name != "whorl x16");
        let targets: Vec<Target> = whorls.map(|name| at_most(1.25, &["whorl x16"]).of(name)).collect();
        let walls: Vec<_> = rows.iter().map(|row| row.map(|taken| taken.wall)).collect();
        let cpus: Vec<_> = present(&rows).map(|row| row.map(|taken| taken.cpu)).collect();
        for (what, rows, targets) in [("wall", &walls, &vec![]), ("cpu", &cpus, &targets)] {
            Case {
                bench: "copy",
                name: format!("peers-{what}"),
                title: format!(
                    "peers-{what}: a copy's cost per peer and KiB, less that of an empty one, N x size = {} MiB",
                    total / MIB
                ),
                size: None,
                receivers: None,
                unit: "ns/KiB",
                better: Better::Lower,
                rows,
                targets,
            }
            .print(self.options.json);
        }
    }
}
