//! The command on file systems that lack what a local disk has.

mod common;
mod home;
#[path = "strange_fs/mod.rs"]
mod strange;

use common::{Place, noise, run};
use rustix::io::Errno;
use strange::{Operation, StrangeFs};

/// A place with a file system mounted on `mnt` in it.
fn place(what: &str) -> Option<(Place, StrangeFs)> {
    let place = Place::new();
    std::fs::create_dir(place.at("mnt")).expect("a directory");
    let files = StrangeFs::mount(place.at("mnt"), what)?;
    Some((place, files))
}

#[test]
fn the_file_system_of_these_tests_keeps_files_and_refuses_what_it_lacks() {
    let Some((place, files)) = place("the file system of these tests") else { return };
    let bytes = noise(300_000, 1);
    std::fs::write(files.at("a"), &bytes).unwrap();
    std::fs::hard_link(files.at("a"), files.at("b")).unwrap();
    std::fs::rename(files.at("b"), files.at("c")).unwrap();
    common::assert_holds(&files.at("c"), &bytes);
    files.refuse(Operation::Link, Errno::PERM).refuse(Operation::Flush, Errno::DQUOT);
    let refused = std::fs::hard_link(files.at("a"), files.at("d")).unwrap_err();
    assert_eq!(Errno::from_io_error(&refused), Some(Errno::PERM));
    assert!(run(place.program("cp").args(["mnt/a", "mnt/d"])).stderr.contains("quota"));
    assert!(files.asked(Operation::Flush) > 0);
    let names: Vec<_> =
        std::fs::read_dir(files.at(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a", "c", "d"]);
}
