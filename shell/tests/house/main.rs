//! The rules of the source tree. These tests read the sources, or start `cargo tree`; they need neither the library nor the
//! command.
//!
//! | file | rule |
//! |---|---|
//! | [`layers`] | which folder uses which, and which folders name an outside interface |
//! | [`circles`] | files do not use each other in a circle |
//! | [`calls`] | what only one file may call: threads, streams, clocks |
//! | [`words`] | retired words do not come back |
//! | [`packages`] | how few packages the library alone needs |

mod calls;
mod circles;
mod layers;
mod packages;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Each line of code below a folder, without its comment: the file's path below the folder, the number, the code.
fn lines(folder: &str) -> Vec<(String, usize, String)> {
    let folder = root().join(folder);
    let mut found = Vec::new();
    sources(&folder, &mut found);
    found.sort();
    let mut lines = Vec::new();
    for path in found {
        let name = path.strip_prefix(&folder).expect("below").display().to_string();
        for (number, line) in fs::read_to_string(&path).expect("a source").lines().enumerate() {
            lines.push((name.clone(), number + 1, line.split("//").next().unwrap_or_default().to_owned()));
        }
    }
    lines
}

/// [`lines`] without the tests of the files themselves.
fn lines_without_tests(folder: &str) -> impl Iterator<Item = (String, usize, String)> {
    let mut tests = String::new();
    lines(folder).into_iter().filter(move |(file, _, line)| {
        if line.contains("#[cfg(test)]") {
            tests.clone_from(file);
        }
        tests != *file
    })
}

/// The first folder of a path.
fn folder_of(file: &str) -> &str {
    file.split('/').next().unwrap_or_default()
}
