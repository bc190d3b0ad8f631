//! Rules for core's sources: which names they may use, and which contracts they must state.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns each line of code of each file, without comments.
fn lines() -> Vec<(String, usize, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 8, "the test read the wrong folder");
    found.sort();
    let mut lines = Vec::new();
    for path in found {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            lines.push((name.clone(), number + 1, line.split("//").next().unwrap().to_string()));
        }
    }
    lines
}

#[test]
fn only_sync_names_atomics_and_cells() {
    for (file, number, line) in lines().iter().filter(|(file, ..)| file != "sync.rs") {
        for forbidden in ["sync::atomic", "UnsafeCell", "hint::spin_loop"] {
            assert!(
                !line.contains(forbidden) || line.contains("crate::sync"),
                "{file}:{number}: {forbidden}"
            );
        }
    }
}

#[test]
fn sequential_consistency_is_for_fences_only() {
    for (file, number, line) in lines().into_iter().filter(|(file, ..)| file != "sync.rs") {
        let elsewhere =
            line.replace("fence(Ordering::SeqCst)", "").replace("fence_after_exchange(Ordering::SeqCst)", "");
        assert!(
            !elsewhere.contains("SeqCst"),
            "{file}:{number}: a SeqCst access, which the models cannot check"
        );
    }
}

#[test]
fn the_core_needs_neither_std_nor_alloc_nor_libc() {
    for (file, number, line) in lines() {
        for forbidden in ["std::", "alloc::", "libc::", "extern crate"] {
            let names = line.match_indices(forbidden).any(|(at, _)| {
                !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            });
            assert!(!names, "{file}:{number}: {forbidden}");
        }
    }
}

#[test]
fn no_atomic_is_wider_or_narrower_than_32_bits() {
    for (file, number, line) in lines() {
        for forbidden in ["AtomicU64", "AtomicI64", "AtomicUsize", "AtomicIsize", "AtomicPtr", "AtomicBool"] {
            assert!(!line.contains(forbidden), "{file}:{number}: {forbidden}, which some processors lack");
        }
    }
}

/// Each unsafe function, or the trait that asks for it, states what its callers must keep. Clippy checks the contracts
/// of public functions, and the arguments of unsafe blocks and implementations.
#[test]
fn every_unsafe_function_states_its_contract() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for package in ["core", "shell", "capi", "benches/harness"] {
        sources(&root.join(package).join("src"), &mut found);
    }
    let (mut documented, mut silent) = (Vec::new(), Vec::new());
    for path in found {
        let source = fs::read_to_string(&path).unwrap();
        let mut says = false;
        for (number, line) in source.lines().map(str::trim).enumerate() {
            if let Some(name) = unsafe_function(line) {
                let at = (name.to_owned(), format!("{}:{}", path.display(), number + 1));
                if says { documented.push(at) } else { silent.push(at) }
            }
            let is_above = line.starts_with("//") || line.starts_with("#[");
            says = is_above && (says || line.contains("# Safety"));
        }
    }
    assert!(documented.len() > 50, "the test read the wrong folder");
    // A trait's functions are implemented elsewhere, under the same name.
    silent.retain(|(name, _)| !documented.iter().any(|(other, _)| other == name));
    assert!(silent.is_empty(), "no # Safety: {silent:?}");
}

/// Returns the name of the unsafe function that a line begins.
fn unsafe_function(line: &str) -> Option<&str> {
    let code = line.split("//").next()?;
    let (_, after) = code.split_once("unsafe ")?;
    let after = after.strip_prefix("extern \"C\" ").unwrap_or(after);
    after.strip_prefix("fn ")?.split(['(', '<']).next()
}
