//! Which layer uses which, and which folders name an outside interface.

use crate::{folder_of, lines, lines_without_tests};

/// The library's folders, from the lowest layer up. Folders of one layer are siblings, which never use each other.
const LAYERS: &[&[&str]] = &[
    &["os"],
    &["shm"],
    &["registry"],
    &["channel"],
    &["transfer", "mailbox_server", "discovery"],
    &["contenders"],
];

/// Names that only some folders of `shell/src` may use.
const DOORS: &[(&str, &[&str])] = &[
    ("libc::", &["os"]),
    ("memmap2::", &["shm"]),
    ("whorl_core::layout", &["shm", "bin"]),
    ("clap::", &["bin"]),
    ("indicatif::", &["bin"]),
    ("serde_json::", &["bin"]),
    ("anyhow::", &["bin"]),
];

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
        // The root files re-export what can be used from outside.
        if ["lib.rs", "error.rs", "internal.rs"].contains(&&*file) || folder_of(&file) == "bin" {
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
