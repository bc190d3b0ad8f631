//! Rounds: every contender runs once per round, so that a drift of the machine affects all of them.

use crate::contender::Unavailable;
use crate::process::{RunError, is_stopped};
use crate::statistics::median;
use crate::streams::Run;

/// All runs of one contender in one case.
pub struct Collected<T> {
    pub who: String,
    /// One value per successful round, with the round's number.
    pub values: Vec<(usize, T)>,
    pub tried: usize,
    pub hung: usize,
    pub failure: Option<String>,
    pub absent: Option<Unavailable>,
}

impl<T> Collected<T> {
    /// Returns one figure of each of these runs.
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

    /// Returns the note for a row, besides its value.
    pub fn note(&self) -> Option<String> {
        match &self.absent {
            Some(Unavailable::NotMeasured(why)) => return Some(format!("not measured: {why}")),
            Some(Unavailable::LeftOut(why)) => return Some(format!("left out: {why}")),
            None => (),
        }
        let hung = (self.hung > 0).then(|| format!("hung in {} of {} runs", self.hung, self.tried));
        let failed = self.failure.as_ref().map(|text| format!("failed: {text}"));
        let parts: Vec<String> = hung.into_iter().chain(failed).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl Collected<f64> {
    /// Returns the middle value, if there is any.
    pub fn median(&self) -> Option<f64> {
        let values: Vec<f64> = self.values.iter().map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| median(&values))
    }

    /// Returns how many times as much this is as `other`. It is the median over the rounds in which both took part, so
    /// that a slow minute of the machine counts for neither.
    pub fn ratio_to(&self, other: &Self) -> Option<f64> {
        let of_round = |round| other.values.iter().find(|(of, _)| *of == round).map(|(_, value)| *value);
        let ratios: Vec<f64> =
            self.values.iter().filter_map(|(round, value)| Some(value / of_round(*round)?)).collect();
        match ratios.is_empty() {
            true => Some(self.median()? / other.median()?),
            false => Some(median(&ratios)),
        }
    }
}

/// Runs all contenders in turn, `rounds` times. An unavailable contender is asked once, and one that hangs or fails
/// `tolerance` times is not run again. If the caller stops the measurement ([`stop_when`](crate::process::stop_when)),
/// returns what was collected by then.
pub fn interleave<P, T>(
    parties: &[P],
    rounds: usize,
    tolerance: usize,
    name: impl Fn(&P) -> String,
    run: impl FnMut(&P) -> Run<T>,
) -> Vec<Collected<T>> {
    interleave_while(parties, |round| round < rounds, tolerance, name, run)
}

/// Runs all contenders in turn, as long as `more` returns true for the number of the next round.
pub fn interleave_while<P, T>(
    parties: &[P],
    more: impl Fn(usize) -> bool,
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
    for round in (0..).take_while(|&round| more(round)) {
        for (party, collected) in parties.iter().zip(&mut all) {
            let troubles = collected.tried - collected.values.len();
            if collected.absent.is_some() || troubles >= tolerance || is_stopped() {
                continue;
            }
            match run(party) {
                Err(absent) => collected.absent = Some(absent),
                Ok(result) => {
                    collected.tried += 1;
                    match result {
                        Ok(value) => collected.values.push((round, value)),
                        Err(RunError::Hung) => collected.hung += 1,
                        Err(RunError::Interrupted) => {}
                        Err(RunError::Failed(text)) => collected.failure = Some(text),
                    }
                }
            }
        }
    }
    all
}

/// Returns the contenders that take part. The case's main table says once why the others do not.
pub fn present<T>(rows: &[Collected<T>]) -> impl Iterator<Item = &Collected<T>> {
    rows.iter().filter(|row| row.absent.is_none())
}
