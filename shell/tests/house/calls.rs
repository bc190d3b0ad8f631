//! Functions that only one file, or only a few, may call.

use crate::{lines, lines_without_tests};

/// The names by which code writes to a standard stream or reads it, and the files that may use them.
const STREAMS: [(&str, &[&str]); 10] = [
    ("println!", &[]),
    ("eprint", &[]),
    (" print!", &[]),
    ("dbg!", &[]),
    ("std::io::stdout", &[]),
    ("std::io::stderr", &["bin/whorl.rs"]), // it prints only a path, escaped
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

/// Each thread is started by the one function that blocks its signals.
#[test]
fn only_one_file_starts_threads() {
    const STARTS: [&str; 4] = ["thread::spawn", ".spawn(", ".spawn_scoped(", "scope.spawn"];
    let mut found = Vec::new();
    for package in ["shell/src", "capi/src"] {
        for (file, number, line) in lines_without_tests(package) {
            if file != "os/thread.rs" && STARTS.iter().any(|start| line.contains(start)) {
                found.push(format!("{package}/{file}:{number}: {line}"));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

/// The files of `shell/src` whose code holds one of these words.
fn files_with(words: &[&str]) -> Vec<String> {
    let mut found: Vec<_> = lines("shell/src")
        .into_iter()
        .filter(|(_, _, line)| words.iter().any(|word| line.contains(word)))
        .map(|(file, _, _)| file)
        .collect();
    found.dedup();
    found
}

/// H22: code that waits or times out does not use the time of day.
#[test]
fn the_time_of_day_is_asked_for_by_name_only_where_it_decides_nothing() {
    // It makes the numbers of segments differ.
    assert_eq!(files_with(&["SystemTime", "UNIX_EPOCH"]), ["shm/ring.rs"]);
}

/// The kernel refuses a timeout that is too long. So one file makes every timeout, and limits it.
#[test]
fn timeouts_for_the_kernel_are_made_in_one_place() {
    // The other file sets the times of a file.
    assert_eq!(files_with(&["Timespec {", "tv_sec"]), ["os/timeout.rs", "transfer/destination.rs"]);
}

/// An [`Instant`](std::time::Instant) has a maximum, and a caller's duration may go beyond it. Only constants are added
/// without a check.
#[test]
fn no_callers_duration_is_added_to_a_moment_unchecked() {
    let mut found = Vec::new();
    for (file, number, line) in lines("shell/src") {
        let Some((_, added)) = line.split_once("Instant::now() + ") else { continue };
        let is_constant = added.starts_with(|c: char| c.is_ascii_uppercase());
        // Both of its values are constants.
        let is_known = line.contains("if known { SHORT_TIMEOUT } else { self.timeout }");
        // The command's own durations are a year at most.
        if !is_constant && !is_known && !file.starts_with("bin/") {
            found.push(format!("{file}:{number}: {line}"));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}
