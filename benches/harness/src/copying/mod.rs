//! Copies of one file to many: what is run, how it is timed, and how its outcome is checked.

pub mod files;
pub mod limit;
pub mod timing;
pub mod tools;

use crate::contender::Unavailable;
use std::path::PathBuf;

/// What is to be done: so many copies of the source in the directory, which exists and is empty.
#[derive(Clone, Debug)]
pub struct Job {
    pub source: PathBuf,
    pub directory: PathBuf,
    pub copies: usize,
}

impl Job {
    /// Where a contender puts its copies. Whorl has names of its own.
    pub fn destinations(&self) -> Vec<PathBuf> {
        (1..=self.copies).map(|copy| self.directory.join(format!("copy-{copy:04}"))).collect()
    }
}

/// What a copier does, in a process of its own.
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

/// An error's text, with what was being done.
pub fn text(doing: &str) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{doing}: {error}")
}
