//! Resources that must not grow: descriptors, zombies, files, memory.

use crate::soak::Soak;
use anyhow::Result;
use std::fs;
use std::time::Duration;

/// Growth of the server's memory up to this is no leak, in KiB per hour.
const SLACK: f64 = 4.0 * 1024.0;

pub struct Census {
    /// The descriptors of the soak and of the server, before the first round.
    before: [usize; 2],
    /// The times of the samples, and the server's memory in KiB.
    samples: Vec<(f64, f64)>,
    most_zombies: usize,
}

fn descriptors(pid: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Returns the descriptor counts of the soak and of the server.
fn all_descriptors(soak: &Soak) -> [usize; 2] {
    [descriptors("self"), descriptors(&soak.server().to_string())]
}

/// Returns the lesser of each pair.
fn least(a: [usize; 2], b: [usize; 2]) -> [usize; 2] {
    [a[0].min(b[0]), a[1].min(b[1])]
}

/// Returns the memory of a process that belongs to no file, in KiB.
fn memory(pid: i32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Returns how many children of the soak have ended and were not reaped.
fn zombies() -> usize {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_one = |path: std::path::PathBuf| {
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
        let mut fields = rest.split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&own)
    };
    entries.filter(|entry| is_one(entry.path())).count()
}

/// Returns the growth in an hour, by least squares.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| samples.iter().map(pick).sum::<f64>() / count;
    let (time, size) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let above: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - size)).sum();
    let below: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
    if below == 0.0 { 0.0 } else { above / below * 3600.0 }
}

impl Census {
    /// Counts for the first time. By then the server has answered, so it has opened everything that it needs.
    pub fn new(soak: &Soak) -> Result<Self> {
        soak.shell(soak.home(), &format!("mail -p {} read 0", soak.port()))?.end()?.has(&[0])?;
        // The server may be closing that connection just now.
        let mut before = all_descriptors(soak);
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(100));
            before = least(before, all_descriptors(soak));
        }
        Ok(Self { before, samples: Vec::new(), most_zombies: 0 })
    }

    pub fn count(&mut self, soak: &Soak, at: Duration) {
        self.samples.extend(memory(soak.server()).map(|size| (at.as_secs_f64(), size)));
        self.most_zombies = self.most_zombies.max(zombies());
    }

    /// Returns one line with the result, and whether everything is in order. By now only the server still runs; this
    /// call ends it.
    pub fn verdict(self, soak: &Soak, time: Duration) -> (String, bool) {
        let mut after = all_descriptors(soak);
        // The server may still be handling the end of the last clients.
        for _ in 0..50 {
            if least(after, self.before) != after {
                std::thread::sleep(Duration::from_millis(100));
                after = all_descriptors(soak);
            }
        }
        let zombies = zombies();
        let lives = memory(soak.server()).is_some();
        let ended = soak.stop_server();
        // Killed processes leave entries, which `rm --dead` removes. Nothing else may be left.
        let cleared = soak.shell(soak.home(), "rm --dead").and_then(|rm| rm.end()?.has(&[0]));
        let cleared = cleared.is_ok();
        // Names, sockets and information files. The lock of the directory stays by design.
        let left: Vec<_> = walk(&soak.home().join("whorl"))
            .into_iter()
            .filter(|name| name != "lock" && name != ".lock")
            .collect();
        // The first half is the warm-up.
        let late = &self.samples[self.samples.len() / 2..];
        let slope = slope(late);
        let grown = late.last().map_or(0.0, |last| last.1) - late.first().map_or(0.0, |first| first.1);
        let [rounds, kills, bytes, sum] = soak.counted();
        let errors = soak.errors();
        let well = errors == 0
            && lives
            && ended
            && cleared
            && least(after, self.before) == after
            && zombies == 0
            && left.is_empty()
            && grown <= SLACK
            && rounds > 0;
        let line = format!(
            "{}: {:.0} s, {rounds} rounds, {kills} kills, {:.2} GiB looked at (checksum {sum:016x}), {errors} errors; \
             descriptors {} then {}, the server's {} then {}; zombies {zombies} (at most {} for a moment); \
             files left {left:?}; the server's memory {:+.2} MiB/h{}",
            if well { "well" } else { "WRONG" },
            time.as_secs_f64(),
            bytes as f64 / f64::from(1 << 30),
            self.before[0],
            after[0],
            self.before[1],
            after[1],
            self.most_zombies,
            slope / 1024.0,
            if lives { "" } else { "; the server died" },
        );
        (line, well)
    }
}

fn walk(directory: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_slope_is_the_growth_in_an_hour() {
        let samples: Vec<_> = (0..100).map(|at| (f64::from(at), 1000.0 + 2.0 * f64::from(at))).collect();
        assert!((slope(&samples) - 7200.0).abs() < 1e-6);
        assert_eq!(slope(&[(1.0, 5.0)]), 0.0);
    }
}
