//! Figures for people (aligned tables) and for programs (one JSON object per line).

use crate::collect::Collected;
use crate::statistics::{median, number, spread};
use crate::targets::{Against, Target};
use serde_json::{Value, json};
use std::io::Write;

#[derive(Clone, Copy, PartialEq)]
pub enum Better {
    Higher,
    Lower,
}

/// One question, answered by several contenders.
pub struct Case<'a> {
    pub bench: &'static str,
    pub name: String,
    /// What the case measures, as a title.
    pub title: String,
    pub size: Option<u64>,
    pub receivers: Option<usize>,
    pub unit: &'static str,
    pub better: Better,
    pub rows: &'a [Collected<f64>],
    pub targets: &'a [Target],
}

/// A target and its result.
struct Verdict {
    text: String,
    ratio: Option<f64>,
    met: Option<bool>,
    margin: f64,
}

impl Case<'_> {
    pub fn print(&self, as_json: bool) {
        let mut out = std::io::stdout().lock();
        // If the reader of the output closes it, the bench ends quietly.
        let result = if as_json { self.write_json(&mut out) } else { self.write_table(&mut out) };
        if result.and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }

    fn write_json(&self, out: &mut impl Write) -> std::io::Result<()> {
        for row in self.rows {
            let values: Vec<f64> = row.values.iter().map(|(_, value)| *value).collect();
            let (low, high) = spread(&values);
            let verdicts = self.verdicts(row);
            let hardest = verdicts.iter().min_by(|a, b| a.margin.total_cmp(&b.margin));
            let targets: Vec<Value> = verdicts
                .iter()
                .map(|v| json!({ "target": v.text, "ratio": v.ratio, "met": v.met }))
                .collect();
            let some = |value: f64| (!values.is_empty()).then_some(value);
            let line = json!({
                "bench": self.bench,
                "case": self.name,
                "size": self.size,
                "receivers": self.receivers,
                "who": row.who,
                "value": (!values.is_empty()).then(|| median(&values)),
                "unit": self.unit,
                "target": hardest.map(|v| &v.text),
                "ratio": hardest.and_then(|v| v.ratio),
                "min": some(low),
                "max": some(high),
                "rounds": values.len(),
                "targets": targets,
                "short": verdicts.iter().any(|v| v.met == Some(false)),
                "note": row.note(),
            });
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    fn write_table(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "\n{} [{}]", self.title, self.unit)?;
        let present = || self.rows.iter().filter(|row| row.absent.is_none());
        let width = present().map(|row| row.who.chars().count()).max().unwrap_or(0);
        for row in present() {
            let values: Vec<f64> = row.values.iter().map(|(_, value)| *value).collect();
            write!(out, "  {:width$}", row.who)?;
            if !values.is_empty() {
                let (low, high) = spread(&values);
                let spread = format!("{} .. {}", number(low), number(high));
                write!(out, "  {:>12}   {spread:<24}", number(median(&values)))?;
            }
            for verdict in self.verdicts(row) {
                let ratio = verdict.ratio.map_or("not measured".into(), |r| format!("{r:.2}x"));
                let short = if verdict.met == Some(false) { " short" } else { "" };
                write!(out, "  [{}: {ratio}{short}]", verdict.text)?;
            }
            writeln!(out, "{}", row.note().map_or(String::new(), |text| format!("  {text}")))?;
        }
        // Contenders with the same note share a line.
        let mut absent: Vec<(String, Vec<&str>)> = Vec::new();
        for row in self.rows.iter().filter(|row| row.absent.is_some()) {
            let why = row.note().unwrap_or_default();
            match absent.iter_mut().find(|(other, _)| *other == why) {
                Some((_, names)) => names.push(&row.who),
                None => absent.push((why, vec![&row.who])),
            }
        }
        for (why, names) in absent {
            writeln!(out, "  {}: {why}", names.join("; "))?;
        }
        Ok(())
    }

    fn verdicts(&self, row: &Collected<f64>) -> Vec<Verdict> {
        let own = self.targets.iter().filter(|target| target.of == row.who);
        own.map(|target| {
            let ratio = self.ratio(row, &target.against);
            Verdict {
                text: target.to_string(),
                ratio,
                met: ratio.map(|ratio| target.bound.met(ratio)),
                margin: ratio.map_or(f64::INFINITY, |ratio| target.bound.margin(ratio)),
            }
        })
        .collect()
    }

    fn ratio(&self, row: &Collected<f64>, against: &Against) -> Option<f64> {
        let middle = |row: &Collected<f64>| row.median().expect("a value");
        if row.values.is_empty() {
            return None;
        }
        let names = match against {
            Against::Limit(limit) => return Some(middle(row) / limit),
            Against::Best(names) => names,
        };
        let contenders = self.rows.iter().filter(|contender| {
            !contender.values.is_empty() && names.iter().any(|name| contender.who.starts_with(name))
        });
        let best = contenders.reduce(|best, contender| {
            let better = match self.better {
                Better::Higher => middle(contender) > middle(best),
                Better::Lower => middle(contender) < middle(best),
            };
            if better { contender } else { best }
        })?;
        row.ratio_to(best)
    }
}
