//! Rounds: every party once per round, so that what drifts on the machine drifts for all of them.

use crate::process::Trouble;
use crate::rival::Absent;
use crate::streams::Run;

/// All runs of one party in one case.
pub struct Collected<T> {
    pub who: String,
    /// One per round that went well, with the round's number.
    pub values: Vec<(usize, T)>,
    pub tried: usize,
    pub hung: usize,
    pub failure: Option<String>,
    pub absent: Option<Absent>,
}

impl<T> Collected<T> {
    /// The same runs, seen through one of their figures.
    pub fn map<U>(&self, figure: impl Fn(&T) -> U) -> Collected<U> {
        Collected {
            who: self.who.clone(),
            values: self.values.iter().map(|(round, value)| (*round, figure(value))).collect(),
            tried: self.tried,
            hung: self.hung,
            failure: self.failure.clone(),
            absent: self.absent.clone(),
        }
    }
}

/// Runs all parties in turn, `rounds` times. Who is absent is asked once; who hangs or fails `tolerance` times is not
/// asked again.
pub fn interleave<P, T>(
    parties: &[P],
    rounds: usize,
    tolerance: usize,
    name: impl Fn(&P) -> String,
    mut run: impl FnMut(&P) -> Run<T>,
) -> Vec<Collected<T>> {
    let blank = |party| Collected {
        who: name(party),
        values: Vec::new(),
        tried: 0,
        hung: 0,
        failure: None,
        absent: None,
    };
    let mut all: Vec<Collected<T>> = parties.iter().map(blank).collect();
    for round in 0..rounds {
        for (party, collected) in parties.iter().zip(&mut all) {
            let troubles = collected.tried - collected.values.len();
            if collected.absent.is_some() || troubles >= tolerance {
                continue;
            }
            match run(party) {
                Err(absent) => collected.absent = Some(absent),
                Ok(result) => {
                    collected.tried += 1;
                    match result {
                        Ok(value) => collected.values.push((round, value)),
                        Err(Trouble::Hung) => collected.hung += 1,
                        Err(Trouble::Failed(text)) => collected.failure = Some(text),
                    }
                }
            }
        }
    }
    all
}

/// Those who take part: why the others do not is said once, in the case's main table.
pub fn present<T>(rows: &[Collected<T>]) -> impl Iterator<Item = &Collected<T>> {
    rows.iter().filter(|row| row.absent.is_none())
}
