//! How few packages the library alone needs.

use crate::root;
use std::process::Command;

/// A program that uses the library alone builds few packages: the library, core, and the `[dependencies]` without the
/// command's.
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
