//! Only few places of the command's sources write to a standard stream.

use std::fs;
use std::path::{Path, PathBuf};

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

/// What writes to a standard stream or reads it, and the files that may.
const DOORS: [(&str, &[&str]); 10] = [
    ("println!", &[]),
    ("eprint", &[]),
    (" print!", &[]),
    ("dbg!", &[]),
    ("std::io::stdout", &[]),
    ("std::io::stderr", &[]),
    ("std::io::stdin", &[]),
    (".exit()", &[]), // of an error of clap, which prints it
    (
        "output().write",
        &["bin/shell/ui/terminal.rs", "bin/shell/ui/completion.rs", "bin/shell/commands/mail.rs"],
    ),
    ("errors().write", &["bin/shell/ui/terminal.rs", "bin/shell/ui/logging.rs"]),
];

#[test]
fn everything_that_is_printed_passes_the_functions_that_escape() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 80, "looked in the wrong place");
    for path in files {
        let name = path.strip_prefix(&root).expect("below").display().to_string();
        let source = fs::read_to_string(&path).expect("a source");
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for (door, users) in DOORS {
                let is_used = line.contains(door) && !users.contains(&name.as_str());
                assert!(!is_used, "{name}:{}: {door}", number + 1);
            }
        }
    }
}
