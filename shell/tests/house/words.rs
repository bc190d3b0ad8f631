//! Retired words do not come back.

use crate::lines;

/// Names of types that were replaced and that have no other use. One word stands for one thing, so they do not come
/// back.
const RETIRED: &[&str] = &[
    "Absent",
    "Announcement",
    "Applicant",
    "Bell",
    "Bid",
    "Birthplace",
    "Clerk",
    "Crowd",
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
    "Roster",
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

#[test]
fn no_retired_word_comes_back() {
    let is_in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut wrong = Vec::new();
    for folder in ["core", "shell", "capi", "benches", "loom-tests", "shuttle-tests", "fault-soak"] {
        for (file, number, line) in lines(folder) {
            if file == "tests/house/words.rs" {
                continue;
            }
            for word in line.split(|c| !is_in_word(c)).filter(|word| RETIRED.contains(word)) {
                wrong.push(format!("{folder}/{file}:{number}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
