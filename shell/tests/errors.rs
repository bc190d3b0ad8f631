//! What the kernel refuses is told in words: one line that says what was being done, without the kernel's number.

mod common;
mod home;

use common::*;
use home::Home;
use std::fs::File;

/// One line that says why, as everywhere.
#[track_caller]
fn in_words(ended: &Ended, words: &[&str]) {
    ended.has_code(1).one_line(words);
    assert!(!ended.stderr.contains("os error"), "{ended:?}");
}

#[test]
fn whatever_descriptor_is_the_one_too_many() {
    let home = Home::new();
    home.place.file("f", b"some bytes");
    for command in ["send x f", "recv x --timeout 1ms", "serve x --dir d", "dipc 1 1 0 1"] {
        let mut refused = 0;
        // With so few nothing gets as far as waiting for others, except for a receiver, which has little to open.
        for limit in 5..12 {
            let script = format!("ulimit -n {limit}; exec \"$SHELL_BIN\" {command}");
            let ended = run(&mut home.script(&script));
            if ended.stderr.contains("too many open files") {
                in_words(&ended, &["too many open files"]);
                refused += 1;
            } else {
                assert!(command.starts_with("recv"), "{limit} are too few for {command}: {ended:?}");
            }
        }
        assert!(refused > 0, "{command} was never refused");
    }
}

#[test]
fn a_result_that_cannot_be_written() {
    let home = Home::new();
    let mut list = home.words("ls --json");
    let full = File::options().write(true).open("/dev/full").expect("a device of every Linux");
    let ended = start_with_stdout(&mut list, full.into()).end(LIMIT);
    in_words(&ended, &["cannot write to standard output: no space left on device"]);
}
