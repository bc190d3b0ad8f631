//! Copies of one file to many: what runs, how it is timed, and how its result is checked.

pub mod files;
pub mod limit;
pub mod timing;
pub mod tools;

use crate::contender::Unavailable;
use std::path::PathBuf;

/// The task of a copier: copies of the source in a directory, which exists and is empty.
#[derive(Clone, Debug)]
pub struct Job {
    pub source: PathBuf,
    pub directory: PathBuf,
    pub copies: usize,
}

impl Job {
    /// Returns where a contender puts its copies. Whorl chooses its own names.
    pub fn destinations(&self) -> Vec<PathBuf> {
        (1..=self.copies).map(|copy| self.directory.join(format!("copy-{copy:04}"))).collect()
    }
}

/// What a copier does, in its own process.
pub type Work = Box<dyn Fn(&Job) -> Result<(), String>>;

pub struct Copier {
    pub name: String,
    pub work: Result<Work, Unavailable>,
}

impl Copier {
    pub fn new(name: &str, work: impl Fn(&Job) -> Result<(), String> + 'static) -> Self {
        Copier { name: name.into(), work: Ok(Box::new(work)) }
    }

    pub fn absent(name: &str, why: Unavailable) -> Self {
        Copier { name: name.into(), work: Err(why) }
    }
}

/// Returns a function that puts the action that failed before an error's text.
pub fn text(doing: &str) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{doing}: {error}")
}
