//! The rules of the source tree: which layer uses which, which words are retired, and what the library depends on.
//!
//! It reads sources and starts `cargo tree`; it stands alone because it needs neither the library nor the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library's folders, from the lowest layer up. Folders of one layer are siblings, which never use each other.
const LAYERS: &[&[&str]] = &[
    &["os"],
    &["shm"],
    &["registry"],
    &["channel"],
    &["transfer", "mailbox_server", "discovery"],
    &["contenders"],
];

/// What only some folders of `shell/src` may name.
const DOORS: &[(&str, &[&str])] = &[
    ("libc::", &["os"]),
    ("memmap2::", &["shm"]),
    ("whorl_core::layout", &["shm", "bin"]),
    ("clap::", &["bin"]),
    ("indicatif::", &["bin"]),
    ("serde_json::", &["bin"]),
    ("anyhow::", &["bin"]),
];

/// What writes to a standard stream or reads it, and the files that may.
const STREAMS: [(&str, &[&str]); 10] = [
    ("println!", &[]),
    ("eprint", &[]),
    (" print!", &[]),
    ("dbg!", &[]),
    ("std::io::stdout", &[]),
    ("std::io::stderr", &["bin/whorl.rs"]), // it prints nothing of others but a path, escaped
    ("std::io::stdin", &[]),
    (".exit()", &[]), // of an error of clap, which prints it
    (
        "output().write",
        &["bin/shell/ui/terminal.rs", "bin/shell/ui/completion.rs", "bin/shell/commands/mail.rs"],
    ),
    ("errors().write", &["bin/shell/ui/terminal.rs", "bin/shell/ui/logging.rs"]),
];

/// Names of types that were replaced, and have no other use. One word stands for one thing, so they do not come back.
const RETIRED: &[&str] = &[
    "Absent",
    "Announcement",
    "Applicant",
    "Bell",
    "Bid",
    "Birthplace",
    "Clerk",
    "Desk",
    "Farewell",
    "ForksWait",
    "Glance",
    "Guest",
    "Guests",
    "HandOver",
    "HeldOwned",
    "Letter",
    "Misunderstanding",
    "Newcomer",
    "Newcomers",
    "NotInherited",
    "OwnerIs",
    "Poke",
    "Rendezvous",
    "RingParty",
    "Rival",
    "Rouse",
    "Saying",
    "Sleepers",
    "TalkError",
    "Telling",
    "Trouble",
    "Unshared",
    "Visits",
    "Watcher",
    "Whereabouts",
];

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

fn folder_of(file: &str) -> &str {
    file.split('/').next().unwrap_or_default()
}

fn layer_of(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

/// The folders of the library that a line of code names.
fn used_folders(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|after| {
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
        &after[..end]
    })
}

/// Why a file must not use a folder; `None` if it may.
fn refusal(file: &str, used: &str) -> Option<&'static str> {
    let own = folder_of(file);
    match (layer_of(own), layer_of(used)) {
        _ if own == used => None,
        (_, None) => Some("is not a folder of the library"),
        (Some(from), Some(to)) if to < from => None,
        (Some(from), Some(to)) if to == from => Some("is a sibling"),
        _ => Some("is a higher layer"),
    }
}

#[test]
fn a_layer_uses_only_the_layers_below_it() {
    let mut wrong = Vec::new();
    let mut files = 0;
    for (file, number, line) in lines("shell/src") {
        if file == "lib.rs" || folder_of(&file) == "bin" {
            continue;
        }
        files += usize::from(number == 1);
        assert!(layer_of(folder_of(&file)).is_some(), "{file} lies in no layer");
        for used in used_folders(&line) {
            if let Some(why) = refusal(&file, used) {
                wrong.push(format!("{file}:{number}: {used} {why}"));
            }
        }
    }
    assert!(files > 100, "looked in the wrong place");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_layering_rule_finds_an_arrow_that_points_up_or_aside() {
    let used = |line: &'static str| used_folders(line).collect::<Vec<_>>();
    assert_eq!(used("use crate::os::file::FileId; crate::shm::heap()"), ["os", "shm"]);
    assert_eq!(refusal("shm/ring.rs", "os"), None);
    assert_eq!(refusal("shm/ring.rs", "shm"), None);
    assert!(refusal("os/new_file.rs", "shm").is_some());
    assert!(refusal("transfer/send.rs", "discovery").is_some());
    assert!(refusal("channel/join.rs", "transfer").is_some());
    assert!(refusal("channel/join.rs", "mailboxes").is_some());
}

#[test]
fn each_outside_interface_is_named_by_one_layer() {
    let mut wrong = Vec::new();
    for (file, number, line) in lines_without_tests("shell/src") {
        for (word, folders) in DOORS {
            if line.contains(word) && !folders.contains(&folder_of(&file)) {
                wrong.push(format!("{file}:{number}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn everything_that_is_printed_passes_the_functions_that_escape() {
    let mut files = 0;
    for (file, number, line) in lines_without_tests("shell/src") {
        files += usize::from(number == 1);
        for (door, users) in STREAMS {
            let is_used = line.contains(door) && !users.contains(&file.as_str());
            assert!(!is_used, "{file}:{number}: {door}");
        }
    }
    assert!(files > 80, "looked in the wrong place");
}

#[test]
fn no_retired_word_comes_back() {
    let is_in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut wrong = Vec::new();
    for folder in ["core", "shell", "capi", "benches", "loom-tests", "shuttle-tests", "fault-soak"] {
        for (file, number, line) in lines(folder) {
            if file == "tests/house.rs" {
                continue;
            }
            for word in line.split(|c| !is_in_word(c)).filter(|word| RETIRED.contains(word)) {
                wrong.push(format!("{folder}/{file}:{number}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A program that uses the library alone builds few packages: the library, core, and what stands in `[dependencies]`
/// without the command's.
#[test]
fn the_library_alone_needs_22_packages_or_fewer() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--package", "whorl-ipc", "--no-default-features"]);
    tree.args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let output = tree.current_dir(root()).output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut packages: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    packages.sort_unstable();
    packages.dedup();
    packages.retain(|name| !name.is_empty());
    assert!(packages.contains(&"whorl-core"), "not a tree: {text}");
    assert!(packages.len() <= 22, "{} packages: {packages:?}", packages.len());
}
