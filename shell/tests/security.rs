//! SECURITY.md names tests that exist, and omits no row.

use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../SECURITY.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rows of the table below this heading, as cells.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading)).expect("the section");
    let lines = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    lines.skip(1).map(|line| line.split(" | ").collect()).collect()
}

/// The texts in backquotes that name a test: its file and its name.
fn named(cell: &str) -> Vec<(PathBuf, String)> {
    let quoted = cell.split('`').skip(1).step_by(2);
    let test = |words: &str| words.split_once("::").map(|(file, name)| (file.to_owned(), name.to_owned()));
    let place = |(file, name): (String, String)| {
        let tests = root().join("shell/tests");
        let folder = if tests.join(&file).is_file() { tests } else { root() };
        (folder.join(file), name)
    };
    quoted.filter_map(test).map(place).collect()
}

/// Whether a file has a test of this name.
fn is_there(file: &Path, name: &str) -> bool {
    let Ok(source) = fs::read_to_string(file) else { return false };
    let mut lines = source.lines().map(str::trim);
    let mut is_test = false;
    lines.any(|line| {
        let found = is_test && line.starts_with(&format!("fn {name}("));
        is_test = line == "#[test]" || (is_test && !line.starts_with("fn "));
        found
    })
}

#[test]
fn every_promise_has_a_test_that_is_there() {
    let promises = rows("What is promised");
    assert!(promises.len() > 10, "looked in the wrong place");
    for row in promises {
        let tests = named(row[2]);
        assert!(!tests.is_empty(), "no test: {row:?}");
        for (file, name) in tests {
            assert!(is_there(&file, &name), "{}::{name} is not there", file.display());
        }
    }
}

#[test]
fn every_row_has_a_test_that_is_there_or_a_sentence() {
    let wanted =
        ["4.1".to_owned(), "4.2".to_owned()].into_iter().chain((1..=40).map(|row| format!("H{row}")));
    let rows = rows("The hazards");
    let found: Vec<_> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(found, wanted.collect::<Vec<_>>());
    for row in rows {
        let tests = named(row[2]);
        assert!(!tests.is_empty() || row[2].starts_with("No test: "), "neither test nor reason: {row:?}");
        for (file, name) in tests {
            assert!(is_there(&file, &name), "{}: {}::{name} is not there", row[0], file.display());
        }
    }
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    let here = root().join("shell/tests/security.rs");
    assert!(is_there(&here, "a_test_that_is_not_there_is_noticed"));
    assert!(!is_there(&here, "is_there"), "a function, but no test");
    assert!(!is_there(&here, "every_promise"), "only the beginning of a name");
    assert_eq!(named("`a.rs::b`, then `copy` and `core/x.rs::y`").len(), 2);
}
